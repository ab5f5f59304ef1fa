//! The message that replaces a private view.

use std::collections::BTreeMap;

use serde::Deserialize;
use tidings_table::Query;
use tidings_table_group::Group;
use tidings_table_store::{ColumnLayout, Condition, Sort, ViewSettings};

use crate::InvalidCommand;
use crate::checks::{checked_filter, checked_search, limited, rows, types_of};
use crate::layout;

/// The complete state of a private view. Absent fields are those of a view of all rows, and of the shared view for the
/// size of pages and the types of columns.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct PrivateMessage {
    pub(crate) sort: Vec<Sort>,
    pub(crate) filter: Vec<Condition>,
    pub(crate) search: String,
    pub(crate) ignore_accents: bool,
    pub(crate) page: Option<u64>,
    pub(crate) page_size: Option<u64>,
    pub(crate) types: Option<BTreeMap<usize, Option<String>>>,
    pub(crate) columns: Option<ColumnLayout>,
    pub(crate) group: Option<Group>,
}

impl PrivateMessage {
    pub(crate) fn checked(self) -> Result<Self, InvalidCommand> {
        if self.page == Some(0) {
            return Err(InvalidCommand::new("pages are counted from 1"));
        }
        if self.page_size.is_some() {
            rows("page_size", self.page_size)?;
        }
        self.columns.iter().try_for_each(layout::check)?;
        Ok(Self {
            sort: limited("sort", self.sort, Query::SORTS)?,
            filter: checked_filter(self.filter)?,
            search: checked_search(self.search)?,
            types: self.types.map(types_of).transpose()?,
            group: self.group.map(Group::checked).transpose()?,
            ..self
        })
    }

    /// The settings of the view.
    pub fn settings(self, shared: &ViewSettings) -> ViewSettings {
        let types =
            self.types.map(|types| types.into_iter().filter_map(|(column, name)| Some((column, name?))));
        ViewSettings {
            page: self.page.unwrap_or(1),
            page_size: self.page_size.map_or(shared.page_size, |size| size as usize),
            sort: self.sort,
            filter: self.filter,
            search: self.search,
            ignore_accents: self.ignore_accents,
            types: types.map_or_else(|| shared.types.clone(), Iterator::collect),
            group: self.group,
            layout: self.columns,
        }
    }
}
