//! Checks of the values of commands.

use std::collections::BTreeMap;
use std::ops::Range;

use tidings_table::{Op, Query, TypeChoice};
use tidings_table_store::Condition;

use crate::condition::{self, MAX_QUERY_TEXT};
use crate::{InvalidCommand, pattern};

/// The most rows of a page or a private window.
pub const MAX_ROWS: usize = 1_000;
/// The most columns of a private window.
const MAX_COLUMNS: usize = 1_000;
/// The most columns with chosen types.
const MAX_TYPES: usize = 1_000;
/// The most columns of a key, and the longest name of one in bytes.
const MAX_KEY_COLUMNS: usize = 16;
const MAX_KEY_NAME: usize = 255;
/// The longest stored file name, in bytes.
pub(crate) const MAX_NAME: usize = 255;

/// Checks the number and the length of the names of a key.
pub(crate) fn checked_key(key: Vec<String>) -> Result<Vec<String>, InvalidCommand> {
    let key = limited("key", key, MAX_KEY_COLUMNS)?;
    if key.iter().any(|name| name.len() > MAX_KEY_NAME) {
        return Err(InvalidCommand::new(format!(
            "the name of a key column has at most {MAX_KEY_NAME} bytes"
        )));
    }
    match key.iter().enumerate().find(|(at, name)| key[..*at].contains(name)) {
        Some((_, twice)) => Err(InvalidCommand::new(format!("the key names the column {twice:?} twice"))),
        None => Ok(key),
    }
}

/// Checks a number of rows.
pub fn rows(what: &str, number: Option<u64>) -> Result<usize, InvalidCommand> {
    let number = number.and_then(|number| usize::try_from(number).ok());
    match number {
        Some(number) if (1..=MAX_ROWS).contains(&number) => Ok(number),
        _ => Err(InvalidCommand::new(format!("{what} must be from 1 to {MAX_ROWS} rows"))),
    }
}

pub(crate) fn checked_filter(filter: Vec<Condition>) -> Result<Vec<Condition>, InvalidCommand> {
    let filter = limited("filter", filter, Query::FILTERS)?;
    filter.iter().try_for_each(condition::check)?;
    Ok(filter)
}

pub(crate) fn checked_search(search: String) -> Result<String, InvalidCommand> {
    if search.len() > MAX_QUERY_TEXT {
        return Err(InvalidCommand::new(format!("a search may have {MAX_QUERY_TEXT} bytes")));
    }
    pattern::check(Op::Contains, &search)?;
    Ok(search)
}

pub(crate) fn column_range(from: usize, count: usize) -> Result<Range<usize>, InvalidCommand> {
    match from.checked_add(count) {
        Some(end) if (1..=MAX_COLUMNS).contains(&count) => Ok(from..end),
        _ => Err(InvalidCommand::new(format!("the count of columns must be from 1 to {MAX_COLUMNS}"))),
    }
}

pub(crate) fn limited<T>(what: &str, list: Vec<T>, most: usize) -> Result<Vec<T>, InvalidCommand> {
    if list.len() <= most {
        Ok(list)
    } else {
        Err(InvalidCommand::new(format!("{what} may have {most} entries")))
    }
}

/// The file name that is shown and offered for downloads: without folders and control characters, truncated.
pub(crate) fn sanitize_name(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut name: String = name.chars().filter(|character| !character.is_control()).collect();
    while name.len() > MAX_NAME {
        name.pop();
    }
    name
}

/// Checks the types of columns. An empty type and `auto` mean detection.
pub(crate) fn types_of(
    types: BTreeMap<usize, Option<String>>,
) -> Result<BTreeMap<usize, Option<String>>, InvalidCommand> {
    if types.len() > MAX_TYPES {
        return Err(InvalidCommand::new(format!("types may have {MAX_TYPES} entries")));
    }
    let checked = types.into_iter().map(|(column, name)| {
        let name = name.filter(|name| !name.is_empty() && name != "auto");
        if let Some(name) = &name
            && let Err(unknown) = name.parse::<TypeChoice>()
        {
            return Err(InvalidCommand::new(format!("the type of column {column} {unknown}, got {name:?}")));
        }
        Ok((column, name))
    });
    checked.collect()
}
