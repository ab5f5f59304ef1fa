//! Comparison of an output with the one that a page shows, where `…` stands for any text.

use serde_json::{Map, Value};

/// Whether a JSON value is the one that a page shows, where `"…"` stands for any value or key.
pub(crate) fn alike(shown: &Value, answer: &Value) -> bool {
    let keys = |shown: &Map<String, Value>, answer: &Map<String, Value>| {
        shown.len() == answer.len()
            && shown.iter().all(|(key, value)| match key.as_str() {
                "…" => answer.values().all(|other| alike(value, other)),
                key => answer.get(key).is_some_and(|other| alike(value, other)),
            })
    };
    match (shown, answer) {
        (Value::String(text), _) if text == "…" => true,
        (Value::Object(shown), Value::Object(answer)) => keys(shown, answer),
        (Value::Array(shown), Value::Array(answer)) => {
            shown.len() == answer.len()
                && shown.iter().zip(answer).all(|(shown, answer)| alike(shown, answer))
        }
        _ => shown == answer,
    }
}

/// The JSON values of a text, one after the other.
pub(crate) fn values(text: &str) -> Result<Vec<Value>, serde_json::Error> {
    serde_json::Deserializer::from_str(text).into_iter().collect()
}

/// Whether an output is the one that a page shows.
pub(crate) fn same(language: &str, shown: &str, output: &str) -> bool {
    if language != "json" {
        return fits(&tidy(shown), &tidy(output));
    }
    match (values(shown), values(output)) {
        (Ok(shown), Ok(output)) => {
            shown.len() == output.len() && shown.iter().zip(&output).all(|(s, o)| alike(s, o))
        }
        _ => false,
    }
}

/// Whether a part of an output is what a page shows.
pub(crate) fn contains(shown: &str, output: &str) -> bool {
    fits(&format!("…{}…", tidy(shown)), &tidy(output))
}

/// A text without spaces and carriage returns at the ends of its lines, and without a last line break.
fn tidy(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_end().to_owned()
}

/// Whether `text` is `shown`, where every `…` in `shown` stands for any text.
fn fits(shown: &str, text: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[test]
fn an_ellipsis_stands_for_any_text() {
    for (shown, output, fit) in [
        ("a", "a", true),
        ("a", "ab", false),
        ("a…", "ab\nc", true),
        ("a…c", "ab\nc", true),
        ("a…c", "ab\nd", false),
        ("…b…", "abc", true),
        ("…b…", "ac", false),
        ("a…a", "a", false),
    ] {
        assert_eq!(fits(shown, output), fit, "{shown:?} {output:?}");
    }
}
