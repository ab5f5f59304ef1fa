//! Base 64 (RFC 4648 §4).

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Characters that so many bytes take, padding included.
pub(crate) const fn len(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// Appends `bytes` in base 64, with padding.
pub(crate) fn write(bytes: &[u8], out: &mut Vec<u8>) {
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        let digit = |shift: u32| DIGITS[(bits >> shift & 63) as usize];
        let mut digits = [digit(18), digit(12), digit(6), digit(0)];
        // A group of n bytes has n + 1 digits; the rest is padding.
        digits[group.len() + 1..].fill(b'=');
        out.extend_from_slice(&digits);
    }
}

/// Whether `text` is what sixteen bytes look like: 22 digits and two characters of padding.
pub(crate) fn is_sixteen_bytes(text: &[u8]) -> bool {
    // The last digit has four bits that stand for nothing.
    matches!(text, [digits @ .., b'=', b'='] if digits.len() == 22 && digits.iter().all(|d| DIGITS.contains(d))
        && matches!(digits[21], b'A' | b'Q' | b'g' | b'w'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_pads_as_rfc_4648_does() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ] {
            let mut out = Vec::new();
            write(bytes.as_bytes(), &mut out);
            assert_eq!(out, text.as_bytes());
            assert_eq!(len(bytes.len()), text.len());
        }
    }

    #[test]
    fn sixteen_bytes_are_told_from_anything_else() {
        for byte in 0..=255 {
            let mut out = Vec::new();
            write(&[byte; 16], &mut out);
            assert!(is_sixteen_bytes(&out));
            out.clear();
            write(&[byte; 17], &mut out);
            assert!(!is_sixteen_bytes(&out));
        }
        for text in
            ["", "==", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZR==", "dGhlIHNhbXBsZSBub25j Q=="]
        {
            assert!(!is_sixteen_bytes(text.as_bytes()), "{text}");
        }
    }
}
