//! Rows that remove a row: the first cell begins with U+007F (DELETE), and has the cells of the key after it, each
//! after another U+007F. The other cells are empty.

/// The character of removals. It is no letter, is in every encoding, and needs no quotes.
const DELETE: char = '\u{7F}';

/// A key that no removal can name, because a cell contains U+007F.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("a key with the character U+007F cannot be removed")]
pub struct UnusableKey;

/// The cells of a row that removes the row with this key, of a table with `columns` columns.
///
/// # Errors
/// [`UnusableKey`].
pub fn removal<'a>(
    key: impl IntoIterator<Item = &'a str>,
    columns: usize,
) -> Result<impl Iterator<Item = String>, UnusableKey> {
    let mut first = String::new();
    for cell in key {
        if cell.contains(DELETE) {
            return Err(UnusableKey);
        }
        first.push(DELETE);
        first.push_str(cell);
    }
    Ok(std::iter::once(first).chain(std::iter::repeat_n(String::new(), columns.saturating_sub(1))))
}

/// The cells of the key that a row with this first cell removes; `None` when it is an ordinary row.
pub(crate) fn removed_key(first: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let is_delete = |byte: &u8| *byte == DELETE as u8;
    Some(first.strip_prefix(&[DELETE as u8])?.split(is_delete))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_names_the_cells_of_its_key() {
        let row: Vec<String> = removal(["42", "", "a,b"], 4).expect("a usable key").collect();
        assert_eq!(row.len(), 4);
        let key: Vec<&[u8]> = removed_key(row[0].as_bytes()).expect("a removal").collect();
        assert_eq!(key, [&b"42"[..], b"", b"a,b"]);
        assert!(removed_key(b"42").is_none());
        assert!(removal(["a\u{7F}b"], 1).is_err());
    }
}
