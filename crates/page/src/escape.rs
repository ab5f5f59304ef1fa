//! Text as part of HTML, and as a word of a shell's command line.

use std::fmt;

/// Displays as text that means itself in HTML, between tags and in quoted attributes (HTML §13.3, "escaping a
/// string").
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

/// `word` as a POSIX shell reads it back: as it is, or in single quotes where it would mean more than itself.
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
    fn nothing_in_a_text_is_markup() {
        let text = Html(r#"<b id="a" class='b'>&amp; ÿ</b>"#).to_string();
        assert_eq!(text, "&lt;b id=&quot;a&quot; class=&#39;b&#39;&gt;&amp;amp; ÿ&lt;/b&gt;");
        assert_eq!(Html("").to_string(), "");
        assert_eq!(Html(12).to_string(), "12");
    }

    #[test]
    fn a_word_for_the_shell_means_only_itself() {
        assert_eq!(shell("unix:/run/tidings.sock"), "unix:/run/tidings.sock");
        assert_eq!(shell("$(reboot)"), "'$(reboot)'");
        assert_eq!(shell("a'b"), r"'a'\''b'");
        assert_eq!(shell(""), "''");
    }
}
