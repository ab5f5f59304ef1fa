//! Files of environment variables in the format of systemd (systemd.exec(5), `EnvironmentFile=`): one assignment a line.
//!
//! A `#` or `;` at the beginning makes a line a comment. Quotation marks, which may span lines, and backslashes work as in a shell;
//! nothing is expanded.

use std::path::Path;
use std::{fs, io};

use crate::failure::{Failure, print_notice};

/// The variables in a file, in their order. A file that does not exist has none, as with `EnvironmentFile=-FILE` in the unit;
/// a notice on stderr names it.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn read(path: &Path) -> Result<Vec<(String, String)>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(parse(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            print_notice(format!("{} does not exist, so no variables are read from it", path.display()));
            Ok(Vec::new())
        }
        Err(error) => Err(Failure::Usage(format!("{} cannot be read: {error}", path.display()))),
    }
}

fn parse(text: &str) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let line = rest.trim_start();
        if line.starts_with(['#', ';']) {
            rest = line.split_once('\n').map_or("", |(_, rest)| rest);
            continue;
        }
        let (assignment, after) = unquote(line);
        rest = after;
        if let Some((name, value)) = assignment.split_once('=') {
            variables.push((name.trim().to_owned(), value.to_owned()));
        }
    }
    variables
}

/// The text of an assignment without its quotation marks and the space around its value, and the text after its line.
fn unquote(text: &str) -> (String, &str) {
    let (mut out, mut quote) = (String::new(), None);
    // Space at the end of a value counts only within quotation marks.
    let mut kept = 0;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match (c, quote) {
            ('\n', None) => {
                out.truncate(kept);
                return (out, &text[at + 1..]);
            }
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => match chars.next() {
                Some((_, '\n')) | None => {}
                Some((_, c)) => out.push(c),
            },
            (c, None) if c.is_whitespace() => {
                // None before a value.
                if !out.ends_with('=') {
                    out.push(c);
                }
                continue;
            }
            (c, _) => out.push(c),
        }
        kept = out.len();
    }
    out.truncate(kept);
    (out, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_read_as_systemd_reads_them() {
        let text = "# a comment=1\n\nA=1\n  B = two words \n; C=3\nD=\"a \\\"quoted\\\" text \"\nE='$x \\n'\nF=a\\\n b\nnone\nG=\nH=\"two\nlines\"";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("D", "a \"quoted\" text "),
            ("E", "$x \\n"),
            ("F", "a b"),
            ("G", ""),
            ("H", "two\nlines"),
        ];
        assert_eq!(parse(text), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
