//! The fields of log lines as text: `name=value`, with a value that contains spaces in quotation marks, so that programs can
//! split a line.
//!
//! Invariant: no control character of a value or a message reaches the terminal, because both may come from clients.

use std::fmt;

use tracing::field::Field;
use tracing_subscriber::field::{MakeExt as _, delimited::Delimited};
use tracing_subscriber::fmt::format::{FieldFn, Writer, debug_fn};

type WriteField = fn(&mut Writer<'_>, &Field, &dyn fmt::Debug) -> fmt::Result;

/// The formatter of fields.
pub(crate) fn fields() -> Delimited<&'static str, FieldFn<WriteField>> {
    let write: WriteField = write_field;
    debug_fn(write).delimited(" ")
}

fn write_field(out: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let text = format!("{value:?}");
    if field.name() == "message" {
        return out.write_str(&message(&text));
    }
    let (name, value) = (field.name(), quoted(text));
    if out.has_ansi_escapes() {
        return write!(out, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}");
    }
    write!(out, "{name}={value}")
}

/// The value, in quotation marks if it has none and contains a space or a control character. Texts, and the items of lists, have
/// them already.
fn quoted(value: String) -> String {
    let is_delimited = value.starts_with(['"', '[']);
    let is_plain = |c: char| !c.is_control() && (is_delimited || !c.is_whitespace());
    if value.chars().all(is_plain) { value } else { format!("{value:?}") }
}

/// The message, with its control characters escaped.
fn message(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_with_spaces_are_in_quotation_marks() {
        assert_eq!(quoted("no PROXY protocol header".into()), "\"no PROXY protocol header\"");
        assert_eq!(quoted("10.0.0.1".into()), "10.0.0.1");
        assert_eq!(quoted("\"a text\"".into()), "\"a text\"", "a text is in quotation marks already");
        assert_eq!(
            quoted("[\"a\", \"b\"]".into()),
            "[\"a\", \"b\"]",
            "the items are in quotation marks already"
        );
        assert_eq!(quoted("\x1b[2J".into()), "\"\\u{1b}[2J\"");
        assert_eq!(message("gone\n\x1b[2J"), "gone\\n\\u{1b}[2J");
    }
}
