//! The settings of the shared view, in the form of messages and records.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidings_table::{Query, SortBy};
use tidings_table_group::Group;

use super::condition::Condition;

/// A column to sort by, in the form of messages and records.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Sort {
    /// The column, counted from 0.
    pub column: usize,
    #[serde(default)]
    /// Whether the order is descending.
    pub desc: bool,
    /// Whether numbers within text are compared by value.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub natural: bool,
}

/// The layout of the columns on pages. Rows and their cells stay in the order of the file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub struct ColumnLayout {
    /// The columns that come first, in this order; the others follow in the order of the file.
    pub order: Vec<usize>,
    /// The columns that are not shown.
    pub hidden: Vec<usize>,
    /// The number of columns that stay visible at the left.
    pub frozen: usize,
    /// The widths of columns, in CSS pixels.
    pub widths: BTreeMap<usize, u32>,
}

/// The settings of the shared view: page, order, filter.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct ViewSettings {
    /// The page, counted from 1.
    pub page: u64,
    /// The number of rows of a page.
    pub page_size: usize,
    /// The columns to sort by, the most significant first: those of the file, or of the groups.
    pub sort: Vec<Sort>,
    /// The conditions that all rows meet.
    pub filter: Vec<Condition>,
    /// The text that all rows contain; empty: all rows.
    pub search: String,
    /// Whether the search also finds letters with other accents.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignore_accents: bool,
    /// The chosen types of columns, by column, in the form of messages.
    #[serde(default)]
    pub types: BTreeMap<usize, String>,
    /// The columns to group the rows by, and their measures; `None`: the rows of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Group>,
    /// The layout of the columns of the file; `None`: all of them in the order of the file.
    #[serde(default, rename = "columns", skip_serializing_if = "Option::is_none")]
    pub layout: Option<ColumnLayout>,
}

impl ColumnLayout {
    /// The columns that the layout refers to.
    fn columns(&self) -> impl Iterator<Item = usize> {
        let last_frozen = self.frozen.checked_sub(1);
        let named = self.order.iter().chain(&self.hidden).chain(self.widths.keys()).copied();
        named.chain(last_frozen)
    }
}

impl Default for ViewSettings {
    fn default() -> Self {
        Self {
            page: 1,
            page_size: 100,
            sort: Vec::new(),
            filter: Vec::new(),
            search: String::new(),
            ignore_accents: false,
            types: BTreeMap::new(),
            group: None,
            layout: None,
        }
    }
}

impl ViewSettings {
    /// The query for the engine. `header_is_row` is set on the article's page.
    pub fn query(&self, header_is_row: bool) -> Query {
        let sort =
            self.sort.iter().map(|by| SortBy { column: by.column, desc: by.desc, natural: by.natural });
        Query {
            sort: sort.collect(),
            filter: self.filter.iter().map(Condition::filter).collect(),
            search: self.search.clone(),
            ignore_accents: self.ignore_accents,
            types: self.type_choices(),
            header_is_row,
        }
    }

    /// The chosen types in the engine's form.
    pub fn type_choices(&self) -> tidings_table::TypeChoices {
        let known = |(column, name): (&usize, &String)| Some((*column, name.parse().ok()?));
        self.types.iter().filter_map(known).collect()
    }

    /// The types after these changes.
    pub fn types_with(&self, changes: BTreeMap<usize, Option<String>>) -> BTreeMap<usize, String> {
        let mut types = if changes.is_empty() { BTreeMap::new() } else { self.types.clone() };
        for (column, name) in changes {
            match name {
                Some(name) => types.insert(column, name),
                None => types.remove(&column),
            };
        }
        types
    }

    /// The settings with other groups. Their rows have another order, unless only the chart differs.
    pub fn grouped(self, group: Option<Group>) -> Self {
        let is_same = matches!((&self.group, &group), (Some(old), Some(new)) if old.same_rows(new));
        if is_same { Self { group, ..self } } else { Self { group, sort: Vec::new(), page: 1, ..self } }
    }

    /// Whether all rows are shown in the order of the file.
    pub fn is_plain(&self) -> bool {
        self.sort.is_empty() && self.filter.is_empty() && self.search.is_empty() && self.group.is_none()
    }

    /// The layout of the shown columns. Groups have none.
    pub fn shown_layout(&self) -> Option<&ColumnLayout> {
        self.layout.as_ref().filter(|_| self.group.is_none())
    }

    /// Whether the other settings show the same rows in the same order; pages may differ.
    pub fn same_rows(&self, other: &Self) -> bool {
        let has_same_groups = match (&self.group, &other.group) {
            (Some(group), Some(other)) => group.same_rows(other),
            (None, None) => true,
            _ => false,
        };
        has_same_groups
            && (&self.sort, &self.filter, &self.types) == (&other.sort, &other.filter, &other.types)
            && self.search == other.search
            && (self.search.is_empty() || self.ignore_accents == other.ignore_accents)
    }

    /// The columns of the file that the settings refer to.
    pub fn columns(&self) -> impl Iterator<Item = usize> {
        let sorted = self.sort.iter().filter(|_| self.group.is_none()).map(|by| by.column);
        let grouped = self.group.iter().flat_map(Group::columns);
        let filtered = self.filter.iter().map(|condition| condition.column);
        let layout = self.layout.iter().flat_map(ColumnLayout::columns);
        sorted.chain(grouped).chain(filtered).chain(self.types.keys().copied()).chain(layout)
    }

    /// The number of pages of `total` rows, at least 1.
    pub fn pages(&self, total: u64) -> u64 {
        total.div_ceil(self.page_size as u64).max(1)
    }
}
