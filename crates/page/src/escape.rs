//! Escaping of text for HTML and for shell commands.

use std::fmt;

/// Displays a value escaped for HTML, between tags and in quoted attributes (HTML §13.3, "escaping a string").
pub(super) struct Html<T>(pub(super) T);

impl<T: fmt::Display> fmt::Display for Html<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::write(&mut Escaping(f), format_args!("{}", self.0))
    }
}

struct Escaping<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(['&', '<', '>', '"', '\'']) {
            let special = part.chars().next_back().and_then(|last| {
                Some(match last {
                    '&' => "&amp;",
                    '<' => "&lt;",
                    '>' => "&gt;",
                    '"' => "&quot;",
                    '\'' => "&#39;",
                    _ => return None,
                })
            });
            match special {
                // All five are one byte long.
                Some(entity) => {
                    self.0.write_str(&part[..part.len() - 1])?;
                    self.0.write_str(entity)?;
                }
                None => self.0.write_str(part)?,
            }
        }
        Ok(())
    }
}

/// Quotes `word` for a POSIX shell, in single quotes if it contains special characters.
pub(super) fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '/' | '-' | '_' | ',');
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_text_contains_no_markup() {
        let text = Html(r#"<b id="a" class='b'>&amp; ÿ</b>"#).to_string();
        assert_eq!(text, "&lt;b id=&quot;a&quot; class=&#39;b&#39;&gt;&amp;amp; ÿ&lt;/b&gt;");
        assert_eq!(Html("").to_string(), "");
        assert_eq!(Html(12).to_string(), "12");
    }

    #[test]
    fn a_quoted_word_has_no_special_meaning_for_the_shell() {
        assert_eq!(shell("unix:/run/tidings.sock"), "unix:/run/tidings.sock");
        assert_eq!(shell("$(reboot)"), "'$(reboot)'");
        assert_eq!(shell("a'b"), r"'a'\''b'");
        assert_eq!(shell(""), "''");
    }
}
