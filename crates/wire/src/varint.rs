//! Variable-length integers of Protobuf (its encoding guide, "Base 128 Varints"): seven bits a byte, the lowest
//! first, the top bit set in all but the last.

/// Bytes of the encoded `number`: 1 to 10.
pub(crate) const fn len(number: u64) -> usize {
    // 0 takes as many bits as 1.
    let bits = 64 - (number | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Appends `number`.
pub(crate) fn write(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The result of reading a number at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// A number, and its number of bytes.
    Number(u64, usize),
    /// The beginning of a number.
    Partial,
    /// More than 64 bits.
    Invalid,
}

/// Reads the number at the start of `bytes`; padding with zero bits is accepted, up to ten bytes.
pub(crate) fn read(bytes: &[u8]) -> Read {
    let mut number = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7F);
        // The tenth byte has room for one bit.
        if at == 9 && *byte > 1 {
            return Read::Invalid;
        }
        number |= bits << (7 * at);
        if byte & 0x80 == 0 {
            return Read::Number(number, at + 1);
        }
    }
    Read::Partial
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_the_encoding_guide_are_decoded() {
        assert_eq!(read(&[0x96, 0x01, 0xFF]), Read::Number(150, 2));
        assert_eq!(read(&[0x01]), Read::Number(1, 1));
        assert_eq!(read(&[]), Read::Partial);
        assert_eq!(read(&[0x80; 9]), Read::Partial);
        assert_eq!(read(&[0x80; 11]), Read::Invalid);
        assert_eq!(read(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02]), Read::Invalid);
        assert_eq!(read(&[0x81, 0x80, 0x00]), Read::Number(1, 3));
    }

    proptest! {
        #[test]
        fn a_number_round_trips_with_the_computed_length(
            number in prop_oneof![any::<u64>(), (0..64_u32).prop_map(|bits| u64::MAX >> bits)],
        ) {
            let mut out = Vec::new();
            write(number, &mut out);
            prop_assert_eq!(out.len(), len(number));
            prop_assert_eq!(read(&out), Read::Number(number, out.len()));
            for end in 0..out.len() {
                prop_assert_eq!(read(&out[..end]), Read::Partial);
            }
        }
    }
}
