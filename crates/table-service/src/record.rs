//! What is kept of a table besides its file: a small JSON file in its folder, written anew with each change.

use serde::{Deserialize, Serialize};

use super::command::{Shown, Wish};
use super::id;

/// Everything about a table that outlives the server, and that its nodes tell each other.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Record {
    /// The folder within the table's own that holds the file; `None` while there is none.
    pub(super) file: Option<String>,
    /// The file's name, as its uploader calls it.
    pub(super) name: String,
    /// The hash of the owner's secret; `None`: nobody owns it, as on the article's page.
    pub(super) owner: Option<String>,
    /// Whose quota the file counts to ([`Quota::key`](crate::Quota)); empty: nobody's.
    #[serde(default)]
    pub(super) uploader: String,
    /// Whether it was uploaded in the article's way, as tab-separated values.
    pub(super) is_article: bool,
    pub(super) wish: Wish,
    pub(super) shown: Shown,
    pub(super) locks: Locks,
    /// The number of the last view.
    pub(super) version: u64,
    /// When it was changed last; of two records the one with the larger stamp holds.
    pub(super) stamp: Stamp,
}

/// What only the owner may do.
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
    /// A table without a file, and who has this secret owns it.
    pub(super) fn new(secret: Option<&str>) -> Self {
        Self {
            file: None,
            name: String::new(),
            owner: secret.map(id::hash),
            uploader: String::new(),
            is_article: false,
            wish: Wish::default(),
            shown: Shown::default(),
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
