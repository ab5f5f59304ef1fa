//! The record of a table: a small JSON file, replaced at each change.

mod condition;
mod dialect_options;
mod view_settings;

use serde::{Deserialize, Serialize};

use crate::id;

pub use condition::Condition;
pub use dialect_options::{DialectOptions, InvalidDialect};
pub use view_settings::{ColumnLayout, Sort, ViewSettings};

/// The state of a table that survives a restart and is sent to other nodes.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Record {
    /// The name of the file's folder within the table's folder; `None` while there is no file.
    pub file: Option<String>,
    /// The file name that the uploader gave.
    pub name: String,
    /// The hash of the owner's secret; `None` for a table without an owner, as on the article's page.
    pub owner: Option<String>,
    /// The key of the quota that the file counts for ([`Quota::key`](crate::Quota)); empty: none.
    #[serde(default)]
    pub uploader: String,
    /// Whether the file was uploaded in the form of the article: as tab-separated values.
    pub is_article: bool,
    /// The requested dialect.
    #[serde(rename = "wish")]
    pub dialect: DialectOptions,
    /// The names of the columns that are the key of a row; empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// The settings of the shared view.
    #[serde(rename = "shown")]
    pub view: ViewSettings,
    /// The actions that only the owner may take.
    pub locks: Locks,
    /// The version of the last view.
    pub version: u64,
    /// The file before the last replacement, as long as it can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousFile>,
    /// The stamp of the last change. Of two records the one with the larger stamp is kept.
    pub stamp: Stamp,
}

/// A file that was replaced and can be restored, with its settings.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct PreviousFile {
    /// As [`Record::file`].
    pub file: String,
    /// As [`Record::name`].
    pub name: String,
    /// As [`Record::uploader`].
    pub uploader: String,
    /// As [`Record::is_article`].
    pub is_article: bool,
    /// As [`Record::dialect`].
    pub dialect: DialectOptions,
    /// As [`Record::key`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// As [`Record::view`].
    pub view: ViewSettings,
    /// The time until which it is stored, in seconds since 1970.
    pub until: u64,
}

/// Actions that are restricted to the owner.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Locks {
    /// Upload another file.
    pub uploads: bool,
    /// Turn pages, sort, filter, search, change the dialect.
    pub view: bool,
}

/// The logical time of a change (Lamport's clock): the version of the view after the change, which is larger than every
/// version that the node has received, and the node, which orders concurrent changes with the same version.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Stamp {
    /// The version of the view after the change.
    pub version: u64,
    /// The number of the node that made the change.
    pub node: u64,
}

impl Locks {
    /// Whether any action is restricted.
    pub const fn any(self) -> bool {
        self.uploads || self.view
    }
}

impl Record {
    /// A table without a file. Its owner has this secret.
    pub fn new(secret: Option<&str>) -> Self {
        Self {
            file: None,
            name: String::new(),
            owner: secret.map(id::hash),
            uploader: String::new(),
            is_article: false,
            dialect: DialectOptions::default(),
            key: Vec::new(),
            view: ViewSettings::default(),
            locks: Locks::default(),
            previous: None,
            version: 0,
            stamp: Stamp::default(),
        }
    }

    /// Whether the record names this file, now or as the previous one.
    pub fn names(&self, file: &str) -> bool {
        self.files().any(|named| named == file)
    }

    /// The files that the record names.
    pub fn files(&self) -> impl Iterator<Item = &String> {
        self.file.iter().chain(self.previous.as_ref().map(|previous| &previous.file))
    }

    /// Replaces the file and its settings by `next`. The replaced file, if there is one, becomes the previous one until
    /// this time.
    pub fn replace_file(&mut self, next: PreviousFile, until: u64) {
        let PreviousFile { file, name, uploader, is_article, dialect, key, view, until: _ } = next;
        let old = self.file.replace(file);
        let old = PreviousFile {
            file: old.unwrap_or_default(),
            name: std::mem::replace(&mut self.name, name),
            uploader: std::mem::replace(&mut self.uploader, uploader),
            is_article: std::mem::replace(&mut self.is_article, is_article),
            dialect: std::mem::replace(&mut self.dialect, dialect),
            key: std::mem::replace(&mut self.key, key),
            view: std::mem::replace(&mut self.view, view),
            until,
        };
        self.previous = Some(old).filter(|old| !old.file.is_empty());
    }

    /// Whether this is the secret of the owner.
    pub fn is_owned_by(&self, secret: &str) -> bool {
        self.owner.as_deref() == Some(&*id::hash(secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_stored_fields_are_stable() {
        let stored = r#"{"file":"f-1","name":"a.csv","owner":null,"uploader":"user:ann","is_article":false,
            "wish":{"header":true},
            "shown":{"page":2,"page_size":10,"sort":[],"filter":[],"search":"x","types":{}},
            "locks":{"uploads":true,"view":false},"version":7,"stamp":{"version":7,"node":1}}"#;
        let record: Record = serde_json::from_str(stored).expect("a record");
        assert_eq!((record.view.page, &*record.view.search, record.locks.uploads), (2, "x", true));
        let written: serde_json::Value = serde_json::to_value(&record).expect("JSON");
        let stored: serde_json::Value = serde_json::from_str(stored).expect("JSON");
        assert_eq!(written, stored);
    }
}
