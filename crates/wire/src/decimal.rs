//! Numbers as decimal text, without the formatting machinery: these run once per publication.

/// Appends `number` in decimal.
pub(crate) fn write(mut number: u64, out: &mut Vec<u8>) {
    // u64::MAX has 20 digits.
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends `number` in decimal, with a minus sign where it has one.
pub(crate) fn write_signed(number: i64, out: &mut Vec<u8>) {
    if number < 0 {
        out.push(b'-');
    }
    write(number.unsigned_abs(), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_formatted_as_in_the_standard_library() {
        for number in [0, 1, 9, 10, 12_345, i64::MAX, -1, -10, i64::MIN] {
            let mut out = b"n=".to_vec();
            write_signed(number, &mut out);
            assert_eq!(out, format!("n={number}").into_bytes());
        }
        let mut out = Vec::new();
        write(u64::MAX, &mut out);
        assert_eq!(out, u64::MAX.to_string().into_bytes());
    }
}
