//! Checks of the layout of columns, before the view changes.

use std::collections::HashSet;

use tidings_table_store::ColumnLayout;

use crate::InvalidCommand;

/// The most columns in each part of a layout. A view contains the layout.
const MAX_ENTRIES: usize = 2_000;
/// The most frozen columns.
const MAX_FROZEN: usize = 100;
/// The narrowest and the widest column, in CSS pixels.
const WIDTHS: std::ops::RangeInclusive<u32> = 20..=2_000;

/// Whether a layout is valid; its columns are checked with the other settings of the view.
///
/// # Errors
/// too many columns, a column twice, a width or a number of frozen columns beyond the limits.
pub(crate) fn check(layout: &ColumnLayout) -> Result<(), InvalidCommand> {
    for (what, columns) in [("order", &layout.order), ("hidden", &layout.hidden)] {
        if columns.len() > MAX_ENTRIES {
            return Err(InvalidCommand::new(format!("{what} may have {MAX_ENTRIES} columns")));
        }
        let mut seen = HashSet::with_capacity(columns.len());
        if let Some(twice) = columns.iter().find(|column| !seen.insert(**column)) {
            return Err(InvalidCommand::new(format!("{what} has column {twice} twice")));
        }
    }
    if layout.widths.len() > MAX_ENTRIES {
        return Err(InvalidCommand::new(format!("widths may have {MAX_ENTRIES} columns")));
    }
    if layout.frozen > MAX_FROZEN {
        return Err(InvalidCommand::new(format!("frozen may be {MAX_FROZEN} columns")));
    }
    match layout.widths.iter().find(|(_, width)| !WIDTHS.contains(width)) {
        Some((column, width)) => Err(InvalidCommand::new(format!(
            "the width of column {column} must be from {} to {} pixels, got {width}",
            WIDTHS.start(),
            WIDTHS.end()
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_layout_is_rejected_with_the_reason() {
        let checked = |text: &str| check(&serde_json::from_str(text).expect(text)).map_err(|error| error.0);
        assert_eq!(checked(r#"{"order":[2,0,1],"hidden":[4],"frozen":1,"widths":{"0":120}}"#), Ok(()));
        assert_eq!(checked("{}"), Ok(()));
        let many: Vec<usize> = (0..=MAX_ENTRIES).collect();
        for (text, reason) in [
            (r#"{"order":[2,0,2]}"#.to_owned(), "order has column 2 twice"),
            (r#"{"hidden":[1,1]}"#.to_owned(), "hidden has column 1 twice"),
            (r#"{"frozen":101}"#.to_owned(), "frozen may be 100"),
            (r#"{"widths":{"3":19}}"#.to_owned(), "column 3 must be from 20 to 2000 pixels, got 19"),
            (r#"{"widths":{"3":2001}}"#.to_owned(), "got 2001"),
            (format!(r#"{{"order":{many:?}}}"#), "order may have 2000 columns"),
        ] {
            let failure = checked(&text).expect_err(&text);
            assert!(failure.contains(reason), "{failure}");
        }
    }
}
