//! The requests and results of the methods about maps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidings_broker::BrokerError;
use tidings_map_state::{Applied, KeyMode};
use tidings_wire::Publication;
use tidings_wire::body::DataFormat;

use crate::fields::{RawJson, any_json, json_or_null, null_as_default};
use crate::reply::{Body, ClientJson, PublicationJson};

/// The condition of `map_publish`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub enum KeyModeField {
    /// None.
    #[default]
    #[serde(rename = "")]
    Always,
    /// The key does not exist.
    #[serde(rename = "if_new")]
    IfNew,
    /// The key exists.
    #[serde(rename = "if_exists")]
    IfExists,
}

impl From<KeyModeField> for KeyMode {
    fn from(field: KeyModeField) -> Self {
        match field {
            KeyModeField::Always => Self::Always,
            KeyModeField::IfNew => Self::IfNew,
            KeyModeField::IfExists => Self::IfExists,
        }
    }
}

/// The request of `map_publish`.
#[derive(Debug, Deserialize)]
pub struct MapPublish {
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
    /// What subscribers get in place of the value.
    #[serde(default, deserialize_with = "json_or_null")]
    pub stream_data: Option<RawJson>,
    /// As `stream_data`, in base64; takes precedence.
    #[serde(default, deserialize_with = "null_as_default")]
    pub b64stream_data: String,
    /// Tags of the publication.
    #[serde(default, deserialize_with = "null_as_default")]
    pub tags: BTreeMap<String, String>,
    /// The place in an ordered map.
    #[serde(default, deserialize_with = "null_as_default")]
    pub score: i64,
    /// The condition.
    #[serde(default, deserialize_with = "null_as_default")]
    pub key_mode: KeyModeField,
    /// A request with the key of an earlier one changes nothing; empty for none.
    #[serde(default, deserialize_with = "null_as_default")]
    pub idempotency_key: String,
    /// A value with a version that is not higher than that of the key is discarded; 0 for none.
    #[serde(default, deserialize_with = "null_as_default")]
    pub version: u64,
    /// The epoch of `version`; a value with another epoch always replaces.
    #[serde(default, deserialize_with = "null_as_default")]
    pub version_epoch: String,
}

/// The request of `map_remove`.
#[derive(Debug, Deserialize)]
pub struct MapRemove {
    /// The channel.
    #[serde(default, deserialize_with = "null_as_default")]
    pub channel: String,
    /// The key.
    #[serde(default, deserialize_with = "null_as_default")]
    pub key: String,
    /// Tags of the publication; without them those of the removed value.
    #[serde(default, deserialize_with = "null_as_default")]
    pub tags: BTreeMap<String, String>,
    /// A request with the key of an earlier one changes nothing; empty for none.
    #[serde(default, deserialize_with = "null_as_default")]
    pub idempotency_key: String,
}

/// The request of `map_read_state`.
#[derive(Debug, Deserialize)]
pub struct MapReadState {
    /// The channel.
    #[serde(default, deserialize_with = "null_as_default")]
    pub channel: String,
    /// The cursor of the page before; empty for the first page.
    #[serde(default, deserialize_with = "null_as_default")]
    pub cursor: String,
    /// Most keys; 0 for the position alone, negative for no limit.
    #[serde(default, deserialize_with = "null_as_default")]
    pub limit: i64,
    /// This key alone; empty for all.
    #[serde(default, deserialize_with = "null_as_default")]
    pub key: String,
    /// Whether an ordered map begins with the lowest score.
    #[serde(default, deserialize_with = "null_as_default")]
    pub asc: bool,
    /// The offset of the position of an earlier page.
    #[serde(default, deserialize_with = "null_as_default")]
    pub revision_offset: u64,
    /// The epoch of an earlier page; the request fails when it has ended.
    #[serde(default, deserialize_with = "null_as_default")]
    pub revision_epoch: String,
}

/// The request of `map_read_stream`.
#[derive(Debug, Deserialize)]
pub struct MapReadStream {
    /// The channel.
    #[serde(default, deserialize_with = "null_as_default")]
    pub channel: String,
    /// The offset after which (in reverse: before which) changes are read.
    #[serde(default, deserialize_with = "null_as_default")]
    pub since_offset: u64,
    /// The epoch of `since_offset`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub since_epoch: String,
    /// Most changes; 0 for the position alone, negative for no limit.
    #[serde(default, deserialize_with = "null_as_default")]
    pub limit: i64,
    /// Whether the newest change comes first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub reverse: bool,
}

/// The request of `map_stats`.
#[derive(Debug, Deserialize)]
pub struct MapStats {
    /// The channel.
    #[serde(default, deserialize_with = "null_as_default")]
    pub channel: String,
}

/// The request of `map_clear`.
#[derive(Debug, Deserialize)]
pub struct MapClear {
    /// The channel.
    #[serde(default, deserialize_with = "null_as_default")]
    pub channel: String,
}

/// The result of `map_publish` and `map_remove`.
#[derive(Debug, Default, Serialize)]
pub struct MapChanged {
    /// The offset of the change, or that of the channel if nothing changed.
    pub offset: u64,
    /// Its epoch.
    pub epoch: String,
    /// Whether nothing changed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub suppressed: bool,
    /// The reason.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub suppress_reason: &'static str,
}

impl TryFrom<Applied> for MapChanged {
    type Error = BrokerError;

    fn try_from(applied: Applied) -> Result<Self, BrokerError> {
        let (position, why) = match applied {
            Applied::Changed(publication) => (publication.position.clone(), None),
            Applied::Suppressed(why, position) => (Some(position), Some(why)),
        };
        let position = position.ok_or(BrokerError::Failed("a change without a position"))?;
        Ok(Self {
            offset: position.offset,
            epoch: position.epoch.as_str().to_owned(),
            suppressed: why.is_some(),
            suppress_reason: why.map_or("", tidings_map_state::Suppression::name),
        })
    }
}

/// A key with its value, or a change of a key.
#[derive(Debug, Serialize)]
pub struct MapEntryJson {
    /// The key.
    pub key: String,
    /// The value; absent where the key is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Body>,
    /// The offset of the change.
    pub offset: u64,
    /// The score, if it is not 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub score: i64,
    /// Whether the key is removed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    /// The tags, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// The client that made the change, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<ClientJson>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature of serde")]
fn is_zero(score: &i64) -> bool {
    *score == 0
}

impl MapEntryJson {
    /// The change of a publication.
    pub fn new(publication: &Publication, score: i64, format: DataFormat) -> Self {
        let map =
            publication.extra.as_ref().and_then(|extra| extra.map.as_deref()).cloned().unwrap_or_default();
        let PublicationJson { data, offset, tags, info } = PublicationJson::new(publication, format);
        let data = Some(data).filter(|_| !map.removed);
        Self { key: map.key.into(), data, offset, score, removed: map.removed, tags, info }
    }
}
