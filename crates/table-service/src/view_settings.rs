//! What the viewers of a table are shown, as messages and records have it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidings_table::{Query, SortBy};

use super::condition::Condition;

/// A column to sort by, as messages and files have it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Sort {
    pub(super) column: usize,
    #[serde(default)]
    pub(super) desc: bool,
    /// Whether numbers within text compare by value.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) natural: bool,
}

/// What the viewers are shown: which page of which rows in which order.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct ViewSettings {
    /// Counted from 1.
    pub(super) page: u64,
    pub(super) page_size: usize,
    pub(super) sort: Vec<Sort>,
    pub(super) filter: Vec<Condition>,
    pub(super) search: String,
    /// The types of columns that were chosen, as they were written.
    #[serde(default)]
    pub(super) types: BTreeMap<usize, String>,
}

impl Default for ViewSettings {
    fn default() -> Self {
        Self {
            page: 1,
            page_size: 100,
            sort: Vec::new(),
            filter: Vec::new(),
            search: String::new(),
            types: BTreeMap::new(),
        }
    }
}

impl ViewSettings {
    /// The query for the engine; `header_is_row` as on the article's page.
    pub(super) fn query(&self, header_is_row: bool) -> Query {
        let sort =
            self.sort.iter().map(|by| SortBy { column: by.column, desc: by.desc, natural: by.natural });
        Query {
            sort: sort.collect(),
            filter: self.filter.iter().map(Condition::filter).collect(),
            search: self.search.clone(),
            types: self.type_choices(),
            header_is_row,
        }
    }

    /// The types that were chosen, as the engine takes them.
    pub(super) fn type_choices(&self) -> tidings_table::Types {
        let known = |(column, name): (&usize, &String)| Some((*column, name.parse().ok()?));
        self.types.iter().filter_map(known).collect()
    }

    /// The types with these changes.
    pub(super) fn types_with(&self, changes: BTreeMap<usize, Option<String>>) -> BTreeMap<usize, String> {
        let mut types = if changes.is_empty() { BTreeMap::new() } else { self.types.clone() };
        for (column, name) in changes {
            match name {
                Some(name) => types.insert(column, name),
                None => types.remove(&column),
            };
        }
        types
    }

    /// Whether it shows all rows in the order of the file.
    pub(super) fn is_plain(&self) -> bool {
        self.sort.is_empty() && self.filter.is_empty() && self.search.is_empty()
    }

    /// Whether it shows the same rows in the same order, perhaps another page of them.
    pub(super) fn same_rows(&self, other: &Self) -> bool {
        (&self.sort, &self.filter, &self.search, &self.types)
            == (&other.sort, &other.filter, &other.search, &other.types)
    }

    /// The columns that it refers to.
    pub(super) fn columns(&self) -> impl Iterator<Item = usize> {
        let sorted = self.sort.iter().map(|by| by.column);
        let filtered = self.filter.iter().map(|condition| condition.column);
        sorted.chain(filtered).chain(self.types.keys().copied())
    }

    /// The number of pages of `total` rows, at least 1.
    pub(super) fn pages(&self, total: u64) -> u64 {
        total.div_ceil(self.page_size as u64).max(1)
    }
}
