//! Values as text, by the types of the schema.

use std::fmt::Write as _;

use parquet::basic::{ConvertedType, LogicalType, TimeUnit, Type as PhysicalType};
use parquet::record::Field;
use parquet::schema::types::Type;

use crate::{DeclaredType, value};

/// The longest number whose decimal digits are computed, in bytes: 154 digits.
const MAX_DECIMAL: usize = 64;

/// The type of a column; `None` for a column of nulls alone.
pub(super) fn declared(column: &Type) -> Option<DeclaredType> {
    if !column.is_primitive() {
        return Some(DeclaredType::Text);
    }
    let info = column.get_basic_info();
    Some(match (info.logical_type_ref(), info.converted_type(), column.get_physical_type()) {
        (Some(LogicalType::Unknown), ..) => return None,
        (Some(LogicalType::Date | LogicalType::Time(_) | LogicalType::Timestamp(_)), ..)
        | (
            _,
            ConvertedType::DATE
            | ConvertedType::TIME_MILLIS
            | ConvertedType::TIME_MICROS
            | ConvertedType::TIMESTAMP_MILLIS
            | ConvertedType::TIMESTAMP_MICROS,
            _,
        )
        | (.., PhysicalType::INT96) => DeclaredType::Date,
        (Some(LogicalType::Decimal(_) | LogicalType::Float16), ..)
        | (_, ConvertedType::DECIMAL, _)
        | (.., PhysicalType::INT32 | PhysicalType::INT64 | PhysicalType::FLOAT | PhysicalType::DOUBLE) => {
            DeclaredType::Number
        }
        (.., PhysicalType::BOOLEAN) => DeclaredType::Boolean,
        _ => DeclaredType::Text,
    })
}

/// Appends a cell: nothing for null, JSON for nested values.
pub(super) fn cell(field: &Field, column: &Type, out: &mut String) {
    match field {
        Field::Null => {}
        Field::Group(_) | Field::ListInternal(_) | Field::MapInternal(_) => json(field, column, out),
        _ => drop(scalar(field, column, out)),
    }
}

/// Appends a value that is not nested. Returns whether JSON needs no quotes around it.
fn scalar(field: &Field, column: &Type, out: &mut String) -> bool {
    let info = column.get_basic_info();
    let logical = info.logical_type_ref();
    let integer = |number: i64, out: &mut String| match logical {
        Some(LogicalType::Timestamp(kind)) => {
            value::instant(number, digits(kind.unit), out);
            if kind.is_adjusted_to_u_t_c {
                out.push('Z');
            }
            false
        }
        Some(LogicalType::Time(kind)) => {
            value::time(number, digits(kind.unit), out);
            false
        }
        _ => {
            let _ = write!(out, "{number}");
            true
        }
    };
    // A timestamp of the older kind of types is in UTC (LogicalTypes.md).
    let stamp = |number: i64, units: usize, out: &mut String| {
        if logical.is_some() {
            return integer(number, out);
        }
        value::instant(number, units, out);
        if info.converted_type() != ConvertedType::NONE {
            out.push('Z');
        }
        false
    };
    match field {
        Field::Bool(is) => drop(write!(out, "{is}")),
        Field::Byte(number) => return integer(i64::from(*number), out),
        Field::Short(number) => return integer(i64::from(*number), out),
        Field::Int(number) => return integer(i64::from(*number), out),
        Field::Long(number) => return integer(*number, out),
        Field::UByte(number) => drop(write!(out, "{number}")),
        Field::UShort(number) => drop(write!(out, "{number}")),
        Field::UInt(number) => drop(write!(out, "{number}")),
        Field::ULong(number) => drop(write!(out, "{number}")),
        Field::Float16(number) => return float(f64::from(number.to_f32()), &number.to_f32(), out),
        Field::Float(number) => return float(f64::from(*number), number, out),
        Field::Double(number) => return float(*number, number, out),
        Field::Decimal(number) => decimal(number.data(), number.scale(), out),
        Field::Date(days) => {
            value::date(i64::from(*days), out);
            return false;
        }
        Field::TimeMillis(time) => {
            value::time(i64::from(*time), 3, out);
            return false;
        }
        Field::TimeMicros(time) => {
            value::time(*time, 6, out);
            return false;
        }
        Field::TimestampMillis(number) => return stamp(*number, 3, out),
        Field::TimestampMicros(number) => return stamp(*number, 6, out),
        Field::Str(text) => {
            out.push_str(text);
            return false;
        }
        Field::Bytes(bytes) => {
            binary(bytes.data(), logical == Some(&LogicalType::Uuid), out);
            return false;
        }
        Field::Null | Field::Group(_) | Field::ListInternal(_) | Field::MapInternal(_) => {
            out.push_str("null");
        }
    }
    true
}

const fn digits(unit: TimeUnit) -> usize {
    match unit {
        TimeUnit::MILLIS => 3,
        TimeUnit::MICROS => 6,
        TimeUnit::NANOS => 9,
    }
}

/// A number in the shortest form with the same value: with an exponent only where it has many zeros.
fn float(number: f64, shown: &(impl std::fmt::Display + std::fmt::LowerExp), out: &mut String) -> bool {
    let size = number.abs();
    if size != 0.0 && size.is_finite() && !(1e-7..1e21).contains(&size) {
        let _ = write!(out, "{shown:e}");
    } else {
        let _ = write!(out, "{shown}");
    }
    number.is_finite()
}

/// A number in two's complement, in big endian, divided by a power of ten.
fn decimal(bytes: &[u8], scale: i32, out: &mut String) {
    if bytes.len() > MAX_DECIMAL || !(0..=512).contains(&scale) {
        return value::hex(bytes, out);
    }
    let is_negative = bytes.first().is_some_and(|byte| *byte >= 0x80);
    let mut magnitude = bytes.to_vec();
    if is_negative {
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            let (value, overflows) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (value, overflows);
        }
    }
    // Repeated division by ten.
    let mut digits = Vec::new();
    while magnitude.iter().any(|byte| *byte != 0) {
        let mut rest = 0_u16;
        for byte in &mut magnitude {
            let value = rest << 8 | u16::from(*byte);
            (*byte, rest) = ((value / 10) as u8, value % 10);
        }
        digits.push(b'0' + rest as u8);
    }
    let scale = scale as usize;
    while digits.len() <= scale {
        digits.push(b'0');
    }
    if is_negative {
        out.push('-');
    }
    for (place, digit) in digits.iter().enumerate().rev() {
        out.push(char::from(*digit));
        if place == scale && scale > 0 {
            out.push('.');
        }
    }
}

/// Bytes: a UUID, text if they are printable UTF-8, otherwise hexadecimal.
fn binary(bytes: &[u8], is_uuid: bool, out: &mut String) {
    if is_uuid && bytes.len() == 16 {
        for (part, range) in [0..4, 4..6, 6..8, 8..10, 10..16].into_iter().enumerate() {
            if part > 0 {
                out.push('-');
            }
            value::hex(&bytes[range], out);
        }
        return;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|character| character.is_control() && !character.is_whitespace()) => {
            out.push_str(text);
        }
        _ => value::hex(bytes, out),
    }
}

/// Appends a value as JSON.
fn json(field: &Field, column: &Type, out: &mut String) {
    let children = |index: usize| -> Option<&Type> {
        (!column.is_primitive()).then(|| column.get_fields().get(index).map(|child| &**child)).flatten()
    };
    match field {
        Field::Null => out.push_str("null"),
        Field::Group(row) => {
            out.push('{');
            for (index, (name, field)) in row.get_column_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                value::json_string(name, out);
                out.push(':');
                json(field, children(index).unwrap_or(column), out);
            }
            out.push('}');
        }
        Field::ListInternal(list) => {
            let element = element(column, list.elements());
            out.push('[');
            for (index, field) in list.elements().iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                json(field, element, out);
            }
            out.push(']');
        }
        Field::MapInternal(map) => {
            let entry = children(0).unwrap_or(column);
            let part = |index: usize| {
                let part = if entry.is_primitive() { None } else { entry.get_fields().get(index) };
                part.map_or(entry, |part| &**part)
            };
            out.push('{');
            for (index, (key, field)) in map.entries().iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                let mut name = String::new();
                scalar(key, part(0), &mut name);
                value::json_string(&name, out);
                out.push(':');
                json(field, part(1), out);
            }
            out.push('}');
        }
        _ => {
            let start = out.len();
            if !scalar(field, column, out) {
                let text = out.split_off(start);
                value::json_string(&text, out);
            }
        }
    }
}

/// The type of a list's elements. In most files a list has a repeated group around each element.
fn element<'a>(list: &'a Type, elements: &[Field]) -> &'a Type {
    if list.is_primitive() {
        return list;
    }
    let [repeated] = list.get_fields() else { return list };
    if repeated.is_primitive() {
        return repeated;
    }
    match repeated.get_fields() {
        [inner] => {
            // An element that is a structure with one field has no group around it in files of older programs.
            let is_structure = elements.iter().any(|field| match field {
                Field::Group(row) => inner.is_primitive() && row.len() == 1,
                _ => false,
            });
            if is_structure { repeated } else { inner }
        }
        _ => repeated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn decimals_have_all_their_digits() {
        for (number, scale, text) in [
            (0_i64, 0, "0"),
            (0, 2, "0.00"),
            (5, 2, "0.05"),
            (-5, 2, "-0.05"),
            (-12_345, 2, "-123.45"),
            (i64::MIN, 0, "-9223372036854775808"),
            (i64::MAX, 18, "9.223372036854775807"),
        ] {
            assert_eq!(shown(|out| decimal(&number.to_be_bytes(), scale, out)), text);
        }
        // -1 in 16 bytes.
        assert_eq!(shown(|out| decimal(&[0xFF; 16], 1, out)), "-0.1");
        assert_eq!(shown(|out| decimal(&[0xAB; 65], 0, out)), "ab".repeat(65));
        assert_eq!(shown(|out| decimal(&[1], -3, out)), "01");
    }

    #[test]
    fn numbers_have_the_shortest_form_of_their_type() {
        for (number, text) in
            [(0.1, "0.1"), (1e20, "100000000000000000000"), (1e22, "1e22"), (1e-9, "1e-9"), (-0.0, "-0")]
        {
            assert_eq!(shown(|out| assert!(float(number, &number, out))), text);
        }
        assert_eq!(shown(|out| assert!(float(f64::from(0.1_f32), &0.1_f32, out))), "0.1");
        assert!(!float(f64::NAN, &f64::NAN, &mut String::new()));
    }

    #[test]
    fn bytes_are_text_if_they_are_printable() {
        for (bytes, text) in [
            (&b"plain \n"[..], "plain \n"),
            ("Zoë".as_bytes(), "Zoë"),
            (b"a\0", "6100"),
            (b"\xFF", "ff"),
            (b"", ""),
        ] {
            assert_eq!(shown(|out| binary(bytes, false, out)), text);
        }
        let id: Vec<u8> = (0..16).collect();
        assert_eq!(shown(|out| binary(&id, true, out)), "00010203-0405-0607-0809-0a0b0c0d0e0f");
    }
}
