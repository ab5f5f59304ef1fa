//! Keys of Redis.

use std::fmt;

use crate::raw::Raw;
use crate::setting::{Setting, expected, quoted};

/// The longest key in bytes.
const MAX: usize = 1024;

/// A key of Redis: 1 to 1,024 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisKey(String);

impl RedisKey {
    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RedisKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Setting for RedisKey {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        let key = raw.as_text().filter(|key| (1..=MAX).contains(&key.len()));
        key.map(|key| Self(key.to_owned())).ok_or_else(|| expected("a key of 1 to 1024 bytes", raw))
    }

    fn kind((): &()) -> String {
        "Redis key".into()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(&self.0))
    }
}
