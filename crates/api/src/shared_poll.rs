//! The request of the method about shared polls.

use serde::Deserialize;

use crate::fields::{RawJson, any_json, null_as_default};

/// The request of `shared_poll_publish`.
#[derive(Debug, Deserialize)]
pub struct SharedPollPublish {
    /// The channel.
    #[serde(default, deserialize_with = "null_as_default")]
    pub channel: String,
    /// The key.
    #[serde(default, deserialize_with = "null_as_default")]
    pub key: String,
    /// The value.
    #[serde(default, deserialize_with = "any_json")]
    pub data: Option<RawJson>,
    /// As `data`, in base64; takes precedence.
    #[serde(default)]
    pub b64data: Option<String>,
    /// The version, from 1 on. A value with a version that is not higher than that of the key is discarded.
    #[serde(default, deserialize_with = "null_as_default")]
    pub version: u64,
    /// The epoch of the versions.
    #[serde(default, deserialize_with = "null_as_default")]
    pub epoch: String,
}
