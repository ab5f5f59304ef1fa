//! The header lines of RESP: one type byte, a decimal number, `\r\n`.

/// The number after a type byte.
pub(super) enum HeaderLine {
    /// A number, and where the next byte after its line is.
    Number { value: i64, next: usize },
    /// The received bytes may be the start of a number.
    Partial,
    /// Not a number as Redis writes them: no sign but a minus, no leading zero, nothing beyond 64 bits.
    Invalid,
}

/// Reads the number that starts at `at`. Examines one byte after the other, so that an error is found at the same byte
/// however the input was split; the longest number has 20 characters, so this is constant work.
pub(super) fn read(buf: &[u8], at: usize) -> HeaderLine {
    let mut i = at;
    let negative = buf.get(i) == Some(&b'-');
    i += usize::from(negative);
    let first = i;
    let mut value = 0_i64;
    loop {
        match buf.get(i) {
            None => return HeaderLine::Partial,
            Some(digit @ b'0'..=b'9') => {
                // "0" may stand alone; "-0" and "01" are no numbers.
                let leading_zero =
                    i == first && *digit == b'0' && negative || i == first + 1 && buf[first] == b'0';
                let digit = i64::from(digit - b'0');
                let signed = if negative { -digit } else { digit };
                match value.checked_mul(10).and_then(|v| v.checked_add(signed)) {
                    Some(v) if !leading_zero => value = v,
                    _ => return HeaderLine::Invalid,
                }
            }
            Some(b'\r') if i > first => break,
            Some(_) => return HeaderLine::Invalid,
        }
        i += 1;
    }
    match buf.get(i + 1) {
        None => HeaderLine::Partial,
        Some(b'\n') => HeaderLine::Number { value, next: i + 2 },
        Some(_) => HeaderLine::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Option<i64> {
        match read(text.as_bytes(), 0) {
            HeaderLine::Number { value, next } => {
                assert_eq!(next, text.len());
                Some(value)
            }
            HeaderLine::Partial => panic!("{text:?} is whole"),
            HeaderLine::Invalid => None,
        }
    }

    #[test]
    fn numbers_are_parsed_as_in_redis() {
        for value in [0, 7, 10, 1_048_576, -1, i64::MAX, i64::MIN] {
            assert_eq!(number(&format!("{value}\r\n")), Some(value));
        }
        for text in [
            "\r\n",
            "-\r\n",
            "+1\r\n",
            "01\r\n",
            "00\r\n",
            "-0\r\n",
            "1 \r\n",
            "x\r\n",
            "1\n",
            "1\rx",
            "9223372036854775808\r\n",
        ] {
            assert_eq!(number(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_start_of_a_number_is_partial() {
        let text = b"-9223372036854775808\r\n";
        for end in 0..text.len() {
            assert!(matches!(read(&text[..end], 0), HeaderLine::Partial), "{end}");
        }
    }
}
