//! Numbers of a delta: digits of base 64, the most significant first.

const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";

/// Most digits of a number of 32 bits.
const MAX_DIGITS: usize = 6;

/// The value of each byte as a digit; 0xFF for others.
const VALUES: [u8; 256] = {
    let mut values = [0xFF; 256];
    let mut value = 0;
    while value < DIGITS.len() {
        values[DIGITS[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// Appends a number.
pub(crate) fn write(number: u32, out: &mut Vec<u8>) {
    let mut digits = [0; MAX_DIGITS];
    let mut at = MAX_DIGITS;
    let mut left = number;
    loop {
        at -= 1;
        digits[at] = DIGITS[(left & 63) as usize];
        left >>= 6;
        if left == 0 {
            return out.extend_from_slice(&digits[at..]);
        }
    }
}

/// Number of digits of a number.
pub(crate) fn len(number: u32) -> usize {
    ((32 - number.leading_zeros()) as usize).div_ceil(6).max(1)
}

/// Takes a number off the front; `None` if there is none, or if it has more than 32 bits.
pub(crate) fn read(bytes: &mut &[u8]) -> Option<u32> {
    let digits = bytes.iter().take_while(|byte| VALUES[**byte as usize] != 0xFF).count();
    if digits == 0 || digits > MAX_DIGITS {
        return None;
    }
    let (number, rest) = bytes.split_at(digits);
    *bytes = rest;
    let value = number.iter().fold(0_u64, |value, byte| value << 6 | u64::from(VALUES[*byte as usize]));
    u32::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_are_written() {
        for number in [0, 1, 9, 10, 35, 36, 37, 62, 63, 64, 4095, 4096, 1 << 24, u32::MAX - 1, u32::MAX] {
            let mut out = Vec::new();
            write(number, &mut out);
            assert_eq!(out.len(), len(number));
            out.push(b'@');
            let mut rest = &out[..];
            assert_eq!(read(&mut rest), Some(number));
            assert_eq!(rest, b"@");
        }
        for wrong in [&b""[..], b"@", b"~~~~~~", b"1000000"] {
            assert_eq!(read(&mut &*wrong), None);
        }
    }
}
