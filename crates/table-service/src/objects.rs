//! Cells of JSON objects in the columns of a table, and rows that remove rows.

use std::collections::HashMap;
use std::sync::Arc;

use tidings_table::{Reading, View};
use tidings_table_live::removal;
use tidings_table_room::failure::Failure;
use tidings_table_room::rows::Cells;

/// The rows of objects. Columns that an object does not name are empty.
///
/// # Errors
/// 422 for a name that is no column, and for a file without a header.
pub(super) fn rows<'a>(objects: &'a Cells, reading: &Arc<Reading>) -> Result<Vec<Vec<&'a str>>, Failure> {
    let header = View::plain(reading, false).header()?;
    let header = header.ok_or_else(|| {
        Failure::new(422, "objects name columns, and this file has no header: send arrays of cells")
    })?;
    // Of columns with the same name, the first one counts.
    let columns: HashMap<&str, usize> =
        header.cells.iter().enumerate().rev().map(|(column, cell)| (&*cell.text, column)).collect();
    let row = |object: &mut dyn Iterator<Item = &'a str>| {
        let mut row = vec![""; header.cells.len()];
        while let (Some(name), Some(cell)) = (object.next(), object.next()) {
            let column = columns.get(name).ok_or_else(|| {
                let names: Vec<_> =
                    header.cells.iter().take(10).map(|cell| format!("{:?}", cell.text)).collect();
                let more = if header.width > 10 { ", …" } else { "" };
                let names = names.join(", ");
                Failure::new(422, format!("the table has no column {name:?}; it has {names}{more}"))
            })?;
            row[*column] = cell;
        }
        Ok(row)
    };
    objects.rows().map(|mut object| row(&mut object)).collect()
}

/// The rows that remove the rows with these keys.
///
/// # Errors
/// 422 for a key with another number of cells, an empty one, and one that cannot be written.
pub(super) fn removals(
    keys: &Cells,
    columns: &[String],
    reading: &Arc<Reading>,
) -> Result<Vec<Vec<String>>, Failure> {
    let width = reading.summary().columns as usize;
    let row = |key: Vec<&str>| {
        if key.len() != columns.len() {
            let (wanted, got) = (columns.len(), key.len());
            return Err(Failure::new(
                422,
                format!("the key of this table has {wanted} cells, got {got}: {key:?}"),
            ));
        }
        if key.iter().all(|cell| cell.is_empty()) {
            return Err(Failure::new(422, "rows without a key cannot be removed"));
        }
        removal(key, width).map(Iterator::collect).map_err(|error| Failure::new(422, error.to_string()))
    };
    keys.rows().map(|key| row(key.collect())).collect()
}
