//! Amounts: numbers with a currency, a percent sign, thousands groups, a typographic minus or accounting parentheses.
//!
//! A unit does not scale: `5 %` is 5, and so is `5 €`. So the value of a filter may omit it.

use crate::{DecimalMark, MAX_CELL, Number, is_space, reject};

/// Currency signs and abbreviations, longer ones before their own suffixes.
const SIGNS: [&str; 42] = [
    "CA$", "HK$", "MX$", "NT$", "NZ$", "US$", "A$", "C$", "R$", "S$", "$", "£", "¥", "￥", "¢", "฿", "﷼",
    "円", "元", "원", "kr.", "Kr.", "kr", "Kr", "Kč", "kn", "zł", "Ft", "Fr.", "Fr", "SFr.", "Rs.", "Rs",
    "lei", "лв.", "лв", "руб.", "руб", "р.", "грн.", "грн", "DM",
];

/// Currency codes (ISO 4217), crypto currencies of exchanges, and some former currencies.
const CODES: [&str; 166] = [
    "AED", "AFN", "ALL", "AMD", "ANG", "AOA", "ARS", "ATS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT", "BEF",
    "BGN", "BHD", "BIF", "BMD", "BND", "BOB", "BRL", "BSD", "BTC", "BTN", "BWP", "BYN", "BZD", "CAD", "CDF",
    "CHF", "CLP", "CNH", "CNY", "COP", "CRC", "CUP", "CVE", "CZK", "DEM", "DJF", "DKK", "DOP", "DZD", "EGP",
    "ERN", "ESP", "ETB", "ETH", "EUR", "FJD", "FKP", "FRF", "GBP", "GEL", "GHS", "GIP", "GMD", "GNF", "GTQ",
    "GYD", "HKD", "HNL", "HRK", "HTG", "HUF", "IDR", "ILS", "INR", "IQD", "IRR", "ISK", "ITL", "JMD", "JOD",
    "JPY", "KES", "KGS", "KHR", "KMF", "KPW", "KRW", "KWD", "KYD", "KZT", "LAK", "LBP", "LKR", "LRD", "LSL",
    "LYD", "MAD", "MDL", "MGA", "MKD", "MMK", "MNT", "MOP", "MRU", "MUR", "MVR", "MWK", "MXN", "MYR", "MZN",
    "NAD", "NGN", "NIO", "NLG", "NOK", "NPR", "NZD", "OMR", "PAB", "PEN", "PGK", "PHP", "PKR", "PLN", "PYG",
    "QAR", "RMB", "RON", "RSD", "RUB", "RWF", "SAR", "SBD", "SCR", "SDG", "SEK", "SGD", "SHP", "SLE", "SOS",
    "SRD", "SSP", "STN", "SVC", "SYP", "SZL", "THB", "TJS", "TMT", "TND", "TOP", "TRY", "TTD", "TWD", "TZS",
    "UAH", "UGX", "USD", "UYU", "UZS", "VED", "VES", "VND", "VUV", "WST", "XAF", "XAU", "XCD", "XOF", "XPF",
    "YER",
];

/// Parses `cell` as a number.
pub(crate) fn parse(cell: &[u8], decimal_mark: DecimalMark) -> Option<Number<'_>> {
    if cell.len() > MAX_CELL || !reject::may_be_amount(cell) {
        return None;
    }
    parse_completely(cell, decimal_mark)
}

/// Parses `cell` without [`reject::may_be_amount`].
pub(crate) fn parse_completely(cell: &[u8], decimal_mark: DecimalMark) -> Option<Number<'_>> {
    let mut rest = std::str::from_utf8(cell).ok()?.trim_matches(is_space);
    let (mut sign, mut unit, mut open, mut closed) = (None, false, false, false);
    loop {
        let first = rest.chars().next()?;
        rest = match first {
            '0'..='9' | '.' | ',' => break,
            '(' if !open && sign.is_none() => {
                open = true;
                &rest[1..]
            }
            '+' if sign.is_none() && !open => {
                sign = Some(false);
                &rest[1..]
            }
            _ if is_minus(first) && sign.is_none() && !open => {
                sign = Some(true);
                &rest[first.len_utf8()..]
            }
            _ if !unit => {
                unit = true;
                &rest[unit_before(rest)?..]
            }
            _ => return None,
        };
        rest = rest.trim_start_matches(is_space);
    }
    loop {
        let last = rest.chars().next_back()?;
        rest = match last {
            '0'..='9' => break,
            ')' if open && !closed => {
                closed = true;
                &rest[..rest.len() - 1]
            }
            '%' | '‰' | '％' if !unit => {
                unit = true;
                &rest[..rest.len() - last.len_utf8()]
            }
            // `12.–` is a price without cents; `12-` is negative, as accounting programs write it.
            _ if is_minus(last) || last == '—' => {
                let before = &rest[..rest.len() - last.len_utf8()];
                match before.strip_suffix(['.', ',']) {
                    Some(whole) => whole,
                    None if sign.is_none()
                        && !open
                        && before.ends_with(|digit: char| digit.is_ascii_digit()) =>
                    {
                        sign = Some(true);
                        before
                    }
                    None => return None,
                }
            }
            _ if !unit && let Some(length) = unit_after(rest) => {
                unit = true;
                &rest[..rest.len() - length]
            }
            '.' | ',' => break,
            _ => return None,
        };
        rest = rest.trim_end_matches(is_space);
    }
    if open != closed {
        return None;
    }
    digits(rest, open || sign == Some(true), decimal_mark)
}

/// Whether a character is a minus sign.
const fn is_minus(character: char) -> bool {
    matches!(character, '-' | '\u{2212}' | '\u{2013}' | '\u{2012}' | '\u{FE63}' | '\u{FF0D}')
}

/// The length of the currency at the start of `text`.
fn unit_before(text: &str) -> Option<usize> {
    let is_whole = |length: usize| !text[length..].starts_with(char::is_alphabetic);
    let first = text.chars().next()?;
    if is_currency_sign(first) {
        return Some(first.len_utf8());
    }
    if text.get(..3).is_some_and(is_code) && is_whole(3) {
        return Some(3);
    }
    SIGNS.iter().find(|sign| text.starts_with(**sign) && is_whole(sign.len())).map(|sign| sign.len())
}

/// The length of the currency at the end of `text`.
fn unit_after(text: &str) -> Option<usize> {
    let is_whole = |length: usize| !text[..text.len() - length].ends_with(char::is_alphabetic);
    let last = text.chars().next_back()?;
    if is_currency_sign(last) {
        return Some(last.len_utf8());
    }
    let code = text.len().checked_sub(3).and_then(|start| text.get(start..));
    if code.is_some_and(is_code) && is_whole(3) {
        return Some(3);
    }
    SIGNS.iter().find(|sign| text.ends_with(**sign) && is_whole(sign.len())).map(|sign| sign.len())
}

/// Whether a character is in the block of currency symbols.
const fn is_currency_sign(character: char) -> bool {
    matches!(character, '\u{20A0}'..='\u{20CF}')
}

fn is_code(text: &str) -> bool {
    CODES.binary_search(&text).is_ok()
}

/// Digits, optionally in groups, optionally with a fraction.
fn digits(text: &str, negative: bool, decimal_mark: DecimalMark) -> Option<Number<'_>> {
    let (mark, point) = match decimal_mark {
        DecimalMark::Point => ('.', ','),
        DecimalMark::Comma => (',', '.'),
    };
    let length = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (first, mut at) = (length(text), length(text));
    let mut separator: Option<char> = None;
    let (mut last, mut threes, mut twos) = (3, true, true);
    loop {
        let rest = &text[at..];
        let Some(next) = rest.chars().next() else { break };
        let is_separator = next == point || is_space(next) || matches!(next, '\'' | '’');
        if !is_separator || separator.is_some_and(|before| before != next) {
            break;
        }
        let group = length(&rest[next.len_utf8()..]);
        if group == 0 {
            return None;
        }
        // The earlier groups decide whether groups are thousands, or hundreds as in India.
        if separator.is_some() {
            (threes, twos) = (threes && last == 3, twos && last == 2);
        }
        (separator, last) = (Some(next), group);
        at += next.len_utf8() + group;
    }
    if let Some(separator) = separator {
        let is_indian = separator == ',' && twos && first <= 2;
        // A leading 0 indicates a fraction or a telephone number.
        if !(1..=3).contains(&first) || last != 3 || !(threes || is_indian) || text.starts_with('0') {
            return None;
        }
    }
    let (whole, rest) = text.split_at(at);
    let (fraction, is_integer) = match rest.strip_prefix(mark) {
        Some(fraction) => (fraction, false),
        None => (rest, true),
    };
    let is_whole = length(fraction) == fraction.len() && (is_integer == rest.is_empty());
    (is_whole && !(whole.is_empty() && fraction.is_empty()))
        .then(|| Number::from_parts(negative, whole.as_bytes(), fraction.as_bytes(), is_integer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_and_signs_precede_their_suffixes() {
        assert!(CODES.is_sorted());
        for (i, sign) in SIGNS.iter().enumerate() {
            let longer =
                |other: &&&str| other.len() > sign.len() && other.ends_with(*sign) && other.ends_with('.');
            assert!(SIGNS[i + 1..].iter().all(|other| !longer(&other) || *other == "SFr."), "{sign}");
        }
    }

    #[test]
    fn common_forms_of_amounts_are_parsed() {
        let point = |cell: &str| parse(cell.as_bytes(), DecimalMark::Point).map(|number| number.value());
        let comma = |cell: &str| parse(cell.as_bytes(), DecimalMark::Comma).map(|number| number.value());
        for (cell, value) in [
            ("5%", 5.0),
            ("2.5 %", 2.5),
            ("-3 %", -3.0),
            ("$1,234.50", 1234.5),
            ("-$5", -5.0),
            ("$-5", -5.0),
            ("$ 5", 5.0),
            ("US$ 1,000", 1000.0),
            ("EUR 12.50", 12.5),
            ("12.50 EUR", 12.5),
            ("12.50EUR", 12.5),
            ("CHF 1'234.50", 1234.5),
            ("1’234’567", 1_234_567.0),
            ("1 234 567", 1_234_567.0),
            ("1\u{A0}234.5", 1234.5),
            ("1\u{202F}234", 1234.0),
            ("\u{2212}5", -5.0),
            ("–5.5", -5.5),
            ("(1,250.00)", -1250.0),
            ("($5)", -5.0),
            ("$(5.00)", -5.0),
            ("(5) €", -5.0),
            ("12-", -12.0),
            ("CHF 12.–", 12.0),
            ("₹ 1,23,45,678.50", 12_345_678.5),
            ("150 kr.", 150.0),
            ("kr 150", 150.0),
            ("£0.99", 0.99),
            ("￥500", 500.0),
            ("+7 %", 7.0),
            (".5 %", 0.5),
        ] {
            assert_eq!(point(cell), Some(value), "{cell}");
        }
        for (cell, value) in [
            ("1.234,50 €", 1234.5),
            ("99,00 €", 99.0),
            ("€ 12.000,00", 12000.0),
            ("1 234,5", 1234.5),
            ("−1.234,5 %", -1234.5),
            ("12,– €", 12.0),
            ("1.234,50-", -1234.5),
            ("1'234,50", 1234.5),
        ] {
            assert_eq!(comma(cell), Some(value), "{cell}");
        }
        for cell in [
            "",
            "-",
            "%",
            "€",
            "5 kg",
            "A 5",
            "5 5",
            "12 34",
            "030 123 456",
            "1-2",
            "--1",
            "5%%",
            "$5%",
            "(5",
            "5)",
            "1,23,4",
            "12,34,56",
            "1,,234",
            "1 234,567 89",
            "ROW 5",
            "5EURO",
            "5 crore",
            "١٢",
            "1.2.3",
            "5 – 7",
            "$",
            "1 .5",
            "(-5)",
        ] {
            assert_eq!(point(cell), None, "{cell}");
        }
    }
}
