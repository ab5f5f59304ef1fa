//! The record of a table: a small JSON file in its folder, replaced with each change.

use serde::{Deserialize, Serialize};

use super::dialect_options::DialectOptions;
use super::id;
use super::view_settings::ViewSettings;

/// The state of a table that survives a restart and that nodes send each other.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Record {
    /// The folder within the table's own that holds the file; `None` while there is none.
    pub(super) file: Option<String>,
    /// The file's name, as its uploader calls it.
    pub(super) name: String,
    /// The hash of the owner's secret; `None`: the table has no owner, as on the article's page.
    pub(super) owner: Option<String>,
    /// The key of the quota that the file counts to ([`Quota::key`](crate::Quota)); empty: none.
    #[serde(default)]
    pub(super) uploader: String,
    /// Whether it was uploaded in the article's way, as tab-separated values.
    pub(super) is_article: bool,
    pub(super) wish: DialectOptions,
    pub(super) shown: ViewSettings,
    pub(super) locks: Locks,
    /// The number of the last view.
    pub(super) version: u64,
    /// When it was changed last; of two records the one with the larger stamp holds.
    pub(super) stamp: Stamp,
}

/// What is permitted to the owner alone.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Locks {
    /// Upload another file.
    pub(super) uploads: bool,
    /// Turn pages, sort, filter, search, change the dialect.
    pub(super) view: bool,
}

/// When something was changed: the number that its view would have had then, which grows past every number that the
/// node has heard of (Lamport's clock), and the node itself where two chose the same.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Stamp {
    pub(super) version: u64,
    pub(super) node: u64,
}

impl Locks {
    /// Whether any is on.
    pub(super) const fn any(self) -> bool {
        self.uploads || self.view
    }
}

impl Record {
    /// A table without a file, owned by the holder of this secret.
    pub(super) fn new(secret: Option<&str>) -> Self {
        Self {
            file: None,
            name: String::new(),
            owner: secret.map(id::hash),
            uploader: String::new(),
            is_article: false,
            wish: DialectOptions::default(),
            shown: ViewSettings::default(),
            locks: Locks::default(),
            version: 0,
            stamp: Stamp::default(),
        }
    }

    /// Whether this is the owner's secret.
    pub(super) fn is_owned_by(&self, secret: &str) -> bool {
        self.owner.as_deref() == Some(&*id::hash(secret))
    }
}
