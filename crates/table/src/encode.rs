//! Encoding of rows as delimited text, for appended rows and for downloads of views.

use crate::Error;
use crate::dialect::Dialect;
use crate::syntax::Syntax;

/// Appends one row with its line break to `out`, in the dialect of a file.
///
/// # Errors
/// [`Error::Unwritable`] when a cell needs quotes that the dialect does not have.
pub(crate) fn write_row<C: AsRef<str>>(
    row: impl IntoIterator<Item = C>,
    dialect: &Dialect,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let start = out.len();
    for (column, cell) in row.into_iter().enumerate() {
        if column > 0 {
            out.push(dialect.syntax.delimiter());
        }
        write_cell(cell.as_ref().as_bytes(), dialect.syntax, out)?;
    }
    if out.len() == start {
        // A row without bytes would be an empty line, which is not a row.
        write_quoted(b"", dialect.syntax, out)?;
    }
    out.extend_from_slice(dialect.line_end.as_str().as_bytes());
    Ok(())
}

/// Appends a cell, with quotes if it would be parsed differently without.
pub(crate) fn write_cell(content: &[u8], syntax: Syntax, out: &mut Vec<u8>) -> Result<(), Error> {
    let is_special = |content| memchr::memchr3(syntax.delimiter(), b'\n', b'\r', content).is_some();
    let looks_quoted = syntax.quote().is_some() && content.first().copied() == syntax.quote();
    let looks_indented = syntax.skips_spaces() && content.first() == Some(&b' ');
    let escape = syntax.escape().filter(|_| syntax.escapes_everywhere());
    let looks_escaped = escape.is_some_and(|escape| content.contains(&escape));
    if looks_quoted || looks_indented || looks_escaped || is_special(content) {
        match (syntax.quote(), escape) {
            (None, Some(escape)) => write_escaped(content, escape, syntax, out),
            _ => return write_quoted(content, syntax, out),
        }
    } else {
        out.extend_from_slice(content);
    }
    Ok(())
}

/// Appends a cell with an escape before every byte with a meaning.
fn write_escaped(content: &[u8], escape: u8, syntax: Syntax, out: &mut Vec<u8>) {
    for byte in content {
        if *byte == syntax.delimiter() || *byte == escape || matches!(byte, b'\n' | b'\r') {
            out.push(escape);
        }
        out.push(*byte);
    }
}

fn write_quoted(content: &[u8], syntax: Syntax, out: &mut Vec<u8>) -> Result<(), Error> {
    let Some(quote) = syntax.quote() else {
        return Err(Error::Unwritable("a cell needs quotes, which the dialect of the file does not have"));
    };
    out.push(quote);
    write_within_quotes(content, quote, syntax.escape(), out);
    out.push(quote);
    Ok(())
}

/// Appends a part of a quoted cell.
pub(crate) fn write_within_quotes(content: &[u8], quote: u8, escape: Option<u8>, out: &mut Vec<u8>) {
    for byte in content {
        if Some(*byte) == escape {
            out.push(*byte);
        } else if *byte == quote {
            out.push(escape.unwrap_or(quote));
        }
        out.push(*byte);
    }
}
