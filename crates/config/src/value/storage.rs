//! The folder for data, and the store of tables.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::raw::Raw;
use crate::setting::{Setting, expected, quoted};

/// The location of data that survives a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DataDir {
    /// The user's data folder, which the program finds; for the library the same as [`Self::Off`].
    #[default]
    User,
    /// None: files are removed when the server stops.
    Off,
    /// This folder.
    Folder(PathBuf),
}

impl DataDir {
    /// The configured folder, if there is one.
    pub fn folder(&self) -> Option<&Path> {
        if let Self::Folder(folder) = self { Some(folder) } else { None }
    }
}

impl Setting for DataDir {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        if matches!(raw.as_text(), Some("off")) || matches!(raw, Raw::Switch(false)) {
            return Ok(Self::Off);
        }
        Ok(Option::<PathBuf>::read(raw, &())?.map_or(Self::User, Self::Folder))
    }

    fn kind((): &()) -> String {
        "path, or `off`".into()
    }

    fn toml(&self) -> Option<String> {
        match self {
            Self::User => None,
            Self::Off => Some(quoted("off")),
            Self::Folder(folder) => Some(quoted(&folder.display().to_string())),
        }
    }
}

/// The store of tables. Displays in the form of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TablesStore {
    /// In a folder.
    Folder(PathBuf),
    /// A bucket of S3, with a prefix without slashes at its ends, which may be empty.
    S3 {
        /// The bucket.
        bucket: String,
        /// The prefix of the keys of all objects.
        prefix: String,
    },
}

impl fmt::Display for TablesStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

/// The longest prefix of keys in bytes: keys have at most 1,024, and those of tables need 120 of them.
const MAX_PREFIX: usize = 512;

impl Setting for Option<TablesStore> {
    type Rule = ();

    fn read(raw: &Raw, rule: &()) -> Result<Self, String> {
        let Some((scheme, rest)) = raw.as_text().and_then(|text| text.split_once("://")) else {
            return Ok(Option::<PathBuf>::read(raw, rule)?.map(TablesStore::Folder));
        };
        if scheme != "s3" {
            return Err(expected("a folder's path or s3://BUCKET/PREFIX", raw));
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        // https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html, including the rules of older
        // buckets.
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if !(3..=255).contains(&bucket.len()) || !bucket.bytes().all(letter) {
            return Err(expected("s3://BUCKET/PREFIX with a bucket's name behind s3://", raw));
        }
        let safe = |b: u8| letter(b) || matches!(b, b'/' | b'=' | b'+' | b'!');
        let parts = || prefix.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if prefix.len() > MAX_PREFIX || !prefix.bytes().all(safe) || !prefix.is_empty() && !parts() {
            let what = "s3://BUCKET/PREFIX with a prefix of letters, digits and -._=+!/ (at most 512)";
            return Err(expected(what, raw));
        }
        Ok(Some(TablesStore::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() }))
    }

    fn kind((): &()) -> String {
        "path, or `s3://BUCKET/PREFIX`".into()
    }

    fn toml(&self) -> Option<String> {
        self.as_ref().map(|store| quoted(&store.to_string()))
    }
}
