//! Finds the bytes with a meaning in groups of 64, as bit masks: bit `i` stands for byte `i`.

use wide::u8x16;

/// The size of a group in bytes.
pub(super) const GROUP: usize = 64;

/// The positions of each kind of byte in a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Classes {
    pub(super) delimiters: u64,
    pub(super) quotes: u64,
    pub(super) breaks: u64,
}

/// Finds the delimiters, quotes and line breaks of a group.
///
/// It uses four vectors of 16 bytes, which every 64-bit target has; so the index costs twice a plain read of the file.
/// The extent of quotes is computed only if there are any: most groups have none.
#[inline(always)]
pub(super) fn classify(group: &[u8; GROUP], delimiter: u8, quote: Option<u8>) -> Classes {
    let mut classes = Classes { delimiters: 0, quotes: 0, breaks: 0 };
    let (lf, cr) = (u8x16::splat(b'\n'), u8x16::splat(b'\r'));
    let (delimiter, quote) = (u8x16::splat(delimiter), quote.map(u8x16::splat));
    let vectors = || group.as_chunks::<16>().0.iter().map(|vector| u8x16::from(*vector)).enumerate();
    let bits = |i: usize, found: u8x16| u64::from(found.to_bitmask()) << (16 * i);
    let mut quoted = u8x16::ZERO;
    for (i, vector) in vectors() {
        classes.delimiters |= bits(i, vector.simd_eq(delimiter));
        classes.breaks |= bits(i, vector.simd_eq(lf) | vector.simd_eq(cr));
        if let Some(quote) = quote {
            quoted |= vector.simd_eq(quote);
        }
    }
    if let Some(quote) = quote
        && quoted.to_bitmask() != 0
    {
        classes.quotes = vectors().fold(0, |quotes, (i, vector)| quotes | bits(i, vector.simd_eq(quote)));
    }
    classes
}

/// Bit `i` is the parity of bits `0..=i` of `bits`: it is set between an odd and an even quote.
#[inline]
pub(super) const fn parity(mut bits: u64) -> u64 {
    bits ^= bits << 1;
    bits ^= bits << 2;
    bits ^= bits << 4;
    bits ^= bits << 8;
    bits ^= bits << 16;
    bits ^ bits << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_found_at_its_place() {
        for (place, byte) in (0..GROUP).flat_map(|place| (0..=255).map(move |byte| (place, byte))) {
            let mut group = [b'x'; GROUP];
            group[place] = byte;
            let bit = |is: bool| u64::from(is) << place;
            let expected = Classes {
                delimiters: bit(byte == b';'),
                quotes: bit(byte == b'"'),
                breaks: bit(matches!(byte, b'\r' | b'\n')),
            };
            assert_eq!(classify(&group, b';', Some(b'"')), expected);
            assert_eq!(classify(&group, b';', None), Classes { quotes: 0, ..expected });
        }
    }

    #[test]
    fn parity_is_set_from_an_odd_bit_to_the_next_one() {
        assert_eq!(parity(0), 0);
        assert_eq!(parity(0b0010_0100), 0b0001_1100);
        assert_eq!(parity(1 << 63), 1 << 63);
        assert_eq!(parity(1), u64::MAX);
    }
}
