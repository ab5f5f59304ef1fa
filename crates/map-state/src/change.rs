//! Changes of keys, their options and their results.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tidings_wire::{ClientInfo, Position, Publication};

use crate::MAX_KEY_BYTES;

/// The options of a map. Each change passes them, and the last ones count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapOptions {
    /// Whether pages are ordered by score.
    pub ordered: bool,
    /// The time after which a key is removed unless it is set again; `None` for no end.
    pub key_ttl: Option<Duration>,
    /// Most keys.
    pub keys: usize,
    /// Most bytes of the state, and most bytes of the stream.
    pub bytes: usize,
    /// Most publications of the stream.
    pub stream_size: usize,
    /// How long a publication stays in the stream.
    pub stream_ttl: Duration,
    /// How long the position of a map without keys and without a stream is kept.
    pub meta_ttl: Duration,
}

/// A change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// The key.
    pub key: Box<str>,
    /// The new value; `None` removes the key.
    pub set: Option<SetKey>,
    /// The tags of the publication. A removal without tags has those of the removed value.
    pub tags: Vec<(String, String)>,
    /// The client that makes the change.
    pub info: Option<ClientInfo>,
}

/// A new value of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetKey {
    /// The value.
    pub body: Bytes,
    /// What the stream and the subscribers get in place of the value.
    pub stream_body: Option<Bytes>,
    /// The place of the key in an ordered map.
    pub score: i64,
    /// The condition of the change.
    pub mode: KeyMode,
    /// The version of the value.
    pub version: Option<Version>,
}

/// The condition of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyMode {
    /// None.
    #[default]
    Always,
    /// The key does not exist.
    IfNew,
    /// The key exists.
    IfExists,
    /// The key does not exist, or has another value or client; otherwise the change only renews the time of its expiry.
    IfChanged,
}

/// The version of a value. A value is not replaced by one with the same epoch and a version that is not greater.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The number.
    pub number: u64,
    /// Its epoch.
    pub epoch: Box<str>,
}

/// The result of a change that has no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The change was made; this is its publication.
    Changed(Arc<Publication>),
    /// The change was not made, for this reason; with the position of the channel.
    Suppressed(Suppression, Position),
}

/// Why a change was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suppression {
    /// The key exists ([`KeyMode::IfNew`], [`KeyMode::IfChanged`]).
    KeyExists,
    /// The key does not exist (a removal, or [`KeyMode::IfExists`]).
    KeyNotFound,
    /// The value has this version or a later one.
    Version,
    /// The change was made before with the same idempotency key.
    Idempotency,
}

impl Suppression {
    /// Its name in the server API.
    pub fn name(self) -> &'static str {
        match self {
            Self::KeyExists => "key_exists",
            Self::KeyNotFound => "key_not_found",
            Self::Version => "version",
            Self::Idempotency => "idempotency",
        }
    }
}

/// Why a change failed. Nothing was changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MapError {
    /// The key is empty.
    #[error("the key of a map must not be empty")]
    EmptyKey,
    /// The key is too long.
    #[error("the key of a map may have at most {MAX_KEY_BYTES} bytes, not {0}")]
    KeyTooLong(usize),
    /// The map has the most keys.
    #[error("limit exceeded: {0} keys in a map (map.max_keys)")]
    Keys(usize),
    /// The state of the map would take too many bytes.
    #[error("limit exceeded: {0} bytes in a map (memory.map_max_channel)")]
    ChannelBytes(usize),
    /// All maps together would take too many bytes.
    #[error("limit exceeded: {0} bytes in all maps (memory.map_max_total)")]
    TotalBytes(u64),
}

impl KeyChange {
    /// The bytes of its publication: those of the value, the key, the tags and the client.
    pub fn size(&self) -> usize {
        let tags: usize = self.tags.iter().map(|(name, value)| name.len() + value.len()).sum();
        let body = self.set.as_ref().map_or(0, |set| set.body.len());
        body + self.key.len() + tags + self.info.as_ref().map_or(0, ClientInfo::size)
    }

    /// Checks the key.
    ///
    /// # Errors
    /// [`MapError::EmptyKey`] or [`MapError::KeyTooLong`].
    pub fn check(&self) -> Result<(), MapError> {
        match self.key.len() {
            0 => Err(MapError::EmptyKey),
            length if length > MAX_KEY_BYTES => Err(MapError::KeyTooLong(length)),
            _ => Ok(()),
        }
    }
}
