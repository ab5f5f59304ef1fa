//! Regular expressions.

use tidings_pattern::Pattern;

use crate::raw::Raw;
use crate::setting::{Setting, expected, quoted};

/// Empty text is no pattern.
impl Setting for Option<Pattern> {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        let text = raw.as_text().ok_or_else(|| expected("a regular expression in quotes", raw))?;
        if text.is_empty() {
            return Ok(None);
        }
        Pattern::new(text)
            .map(Some)
            .map_err(|error| format!("expected a regular expression, got {raw}: {error}"))
    }

    fn kind((): &()) -> String {
        format!("regular expression, at most {} bytes, or empty", tidings_pattern::MAX_LEN)
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(self.as_ref().map_or("", Pattern::as_str)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_a_regular_expression_or_empty() {
        let read = |text: &str| Option::<Pattern>::read(&Raw::Text(text.into()), &());
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("^a+$").map(|pattern| pattern.map(|pattern| pattern.is_match("aa"))), Ok(Some(true)));
        let error = read("a(b").expect_err("no pattern");
        assert_eq!(error, "expected a regular expression, got \"a(b\": unclosed group");
    }
}
