//! The deadline of a call, in the header `grpc-timeout`: up to eight digits and a unit.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header.
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The time that a client waits for a call; `None` without a valid header.
pub fn read(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Sets the header, in milliseconds; at most 99,999,999 ms.
pub fn write(timeout: Duration, headers: &mut HeaderMap) {
    let millis = timeout.as_millis().clamp(1, 99_999_999);
    let value = HeaderValue::try_from(format!("{millis}m")).expect("digits and a letter");
    headers.insert(GRPC_TIMEOUT, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(GRPC_TIMEOUT, HeaderValue::from_str(text).expect("ASCII"))])
    }

    #[test]
    fn a_timeout_has_up_to_eight_digits_and_a_unit() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("8n", Some(Duration::from_nanos(8))),
            ("999999999S", None),
            ("-1S", None),
            ("1", None),
            ("xS", None),
            ("", None),
        ] {
            assert_eq!(read(&header(text)), expected, "{text}");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(read(&headers), None);
        write(Duration::from_millis(1_500), &mut headers);
        assert_eq!(read(&headers), Some(Duration::from_millis(1_500)));
    }
}
