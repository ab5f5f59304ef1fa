//! Requests: one type for each method. Names and fields are those of Centrifugo's API.
//!
//! Unknown fields are ignored, because libraries of newer versions send more fields; `null` means that an optional field
//! is absent, so that a text is empty and a number 0. The server rejects fields that would change the meaning of a request
//! and that it does not support. A JSON array is rejected where an object is expected ([`Object`]).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::MapAccess;
use serde_json::{Map, Value};
use tidings_keys::Scope;
use tidings_metrics::{Label as _, labels};
use tidings_wire::Object;
use tidings_wire::grant::ChannelOverrides;

use crate::fields::{
    RawJson, any_json, is_given, json_or_null, list, null_as_default, object, object_or_empty,
};
use crate::map::{MapClear, MapPublish, MapReadState, MapReadStream, MapRemove, MapStats};
use crate::shared_poll::SharedPollPublish;

/// Most commands in one request.
pub const MAX_COMMANDS: usize = 10_000;
/// Most channels in one broadcast.
pub const MAX_CHANNELS: usize = 10_000;

macro_rules! commands {
    ($($method:literal $Variant:ident $scope:ident)+) => {
        labels! {
            /// The method of a command, in the order of the documentation.
            pub enum CommandMethod {
                $(#[doc = concat!("`", $method, "`.")] $Variant => $method,)+
            }
        }

        impl CommandMethod {
            /// The name of its spans.
            pub fn span(self) -> &'static str {
                match self { $(Self::$Variant => concat!("api ", $method),)+ }
            }
        }

        /// A command with its parameters.
        #[derive(Debug)]
        pub enum Command {
            $(#[doc = concat!("`", $method, "`.")] $Variant($Variant),)+
        }

        impl CommandMethod {
            /// The scope that a key needs for this method.
            pub fn scope(self) -> Scope {
                match self {
                    $(Self::$Variant => Scope::$scope,)+
                }
            }
        }

        impl Command {
            /// Parses the parameters of a command.
            ///
            /// # Errors
            /// If they are not an object with the fields of this method.
            pub fn parse(method: CommandMethod, json: &[u8]) -> Result<Self, serde_json::Error> {
                match method {
                    $(CommandMethod::$Variant => {
                        serde_json::from_slice(json).map(|Object(request)| Self::$Variant(request))
                    })+
                }
            }

            /// The method.
            pub fn method(&self) -> CommandMethod {
                match self {
                    $(Self::$Variant(_) => CommandMethod::$Variant,)+
                }
            }

            /// Reads the parameters of `method` as the next value of a map; `None` for `null`.
            pub(crate) fn next_value<'de, A: MapAccess<'de>>(
                method: CommandMethod,
                map: &mut A,
            ) -> Result<Option<Self>, A::Error> {
                match method {
                    $(CommandMethod::$Variant => {
                        let request = map.next_value::<Option<Object<$Variant>>>()?;
                        Ok(request.map(|Object(request)| Self::$Variant(request)))
                    })+
                }
            }
        }
    };
}

commands! {
    "publish" Publish Publish
    "broadcast" Broadcast Publish
    "subscribe" Subscribe Manage
    "unsubscribe" Unsubscribe Manage
    "disconnect" Disconnect Manage
    "refresh" Refresh Manage
    "presence" Presence Read
    "presence_stats" PresenceStats Read
    "history" History Read
    "history_remove" HistoryRemove Manage
    "map_publish" MapPublish Publish
    "map_remove" MapRemove Publish
    "map_read_state" MapReadState Read
    "map_read_stream" MapReadStream Read
    "map_stats" MapStats Read
    "map_clear" MapClear Manage
    "shared_poll_publish" SharedPollPublish Publish
    "channels" Channels Read
    "info" Info Read
    "connections" Connections Read
    "block_user" BlockUser Manage
    "unblock_user" UnblockUser Manage
    "revoke_token" RevokeToken Manage
    "invalidate_user_tokens" InvalidateUserTokens Manage
    "reload" Reload Manage
}

impl Command {
    /// Sets the idempotency key of a publication, or of a change of a map, that has none. Other commands stay as they are.
    pub fn set_idempotency_key(&mut self, new: String) {
        let (Self::Publish(Publish { idempotency_key: key, .. })
        | Self::Broadcast(Broadcast { idempotency_key: key, .. })
        | Self::MapPublish(MapPublish { idempotency_key: key, .. })
        | Self::MapRemove(MapRemove { idempotency_key: key, .. })) = self
        else {
            return;
        };
        if key.is_empty() {
            *key = new;
        }
    }
}

impl CommandMethod {
    /// The method with this name; `None` if there is none.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|method| method.label() == name)
    }
}

/// The fields of a publication that `publish` and `broadcast` have in common.
#[derive(Debug, Default)]
pub struct PublishFields {
    /// The body.
    pub data: Option<RawJson>,
    /// Base64, takes precedence over `data`. Libraries send an empty string for none; without `data` an empty string is an
    /// empty body.
    pub b64data: Option<String>,
    /// Whether the publication is not added to the history.
    pub skip_history: bool,
    /// Tags of the publication.
    pub tags: BTreeMap<String, String>,
    /// Whether subscribers with deltas get it as a delta to the publication before it.
    pub delta: bool,
    /// A publication with the key of an earlier one is not published again; empty for none.
    pub idempotency_key: String,
    /// A publication with a version that is not higher than the last one is discarded; 0 for none.
    pub version: u64,
}

/// The request of `publish`.
#[derive(Debug, Deserialize)]
pub struct Publish {
    /// The channel.
    #[serde(default, deserialize_with = "null_as_default")]
    pub channel: String,
    #[serde(default, deserialize_with = "any_json")]
    data: Option<RawJson>,
    #[serde(default)]
    b64data: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    skip_history: bool,
    #[serde(default, deserialize_with = "null_as_default")]
    tags: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "null_as_default")]
    delta: bool,
    #[serde(default, deserialize_with = "null_as_default")]
    idempotency_key: String,
    #[serde(default, deserialize_with = "null_as_default")]
    version: u64,
}

/// The request of `broadcast`.
#[derive(Debug, Deserialize)]
pub struct Broadcast {
    /// The channels, at most [`MAX_CHANNELS`].
    #[serde(default, deserialize_with = "list::<_, _, MAX_CHANNELS>")]
    pub channels: Vec<String>,
    #[serde(default, deserialize_with = "any_json")]
    data: Option<RawJson>,
    #[serde(default)]
    b64data: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    skip_history: bool,
    #[serde(default, deserialize_with = "null_as_default")]
    tags: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "null_as_default")]
    delta: bool,
    #[serde(default, deserialize_with = "null_as_default")]
    idempotency_key: String,
    #[serde(default, deserialize_with = "null_as_default")]
    version: u64,
}

impl Publish {
    /// A request to publish to this channel.
    pub fn new(channel: String, fields: PublishFields) -> Self {
        let PublishFields { data, b64data, skip_history, tags, delta, idempotency_key, version } = fields;
        Self { channel, data, b64data, skip_history, tags, delta, idempotency_key, version }
    }

    /// The channel and the publication.
    pub fn split(self) -> (String, PublishFields) {
        let Self { channel, data, b64data, skip_history, tags, delta, idempotency_key, version } = self;
        (channel, PublishFields { data, b64data, skip_history, tags, delta, idempotency_key, version })
    }
}

impl Broadcast {
    /// A request to publish to these channels, at most [`MAX_CHANNELS`].
    pub fn new(channels: Vec<String>, fields: PublishFields) -> Self {
        let PublishFields { data, b64data, skip_history, tags, delta, idempotency_key, version } = fields;
        Self { channels, data, b64data, skip_history, tags, delta, idempotency_key, version }
    }

    /// The channels and the publication.
    pub fn split(self) -> (Vec<String>, PublishFields) {
        let Self { channels, data, b64data, skip_history, tags, delta, idempotency_key, version } = self;
        (channels, PublishFields { data, b64data, skip_history, tags, delta, idempotency_key, version })
    }
}

/// The request of `subscribe`.
#[derive(Debug, Deserialize)]
pub struct Subscribe {
    /// The user to subscribe.
    #[serde(default, deserialize_with = "null_as_default")]
    pub user: String,
    /// The channel.
    #[serde(default, deserialize_with = "null_as_default")]
    pub channel: String,
    /// One client of the user; empty for all.
    #[serde(default, deserialize_with = "null_as_default")]
    pub client: String,
    /// One session, by its secret; empty for all.
    #[serde(default, deserialize_with = "null_as_default")]
    pub session: String,
    /// Information on the subscriber for presence.
    #[serde(default, deserialize_with = "json_or_null")]
    pub info: Option<RawJson>,
    /// As `info`, in base64; takes precedence.
    #[serde(default, deserialize_with = "null_as_default")]
    pub b64info: String,
    /// Data for the client.
    #[serde(default, deserialize_with = "json_or_null")]
    pub data: Option<RawJson>,
    /// As `data`, in base64; takes precedence.
    #[serde(default, deserialize_with = "null_as_default")]
    pub b64data: String,
    /// End of the subscription in Unix seconds; 0 for none.
    #[serde(default, deserialize_with = "null_as_default")]
    pub expire_at: i64,
    /// The position after which publications are recovered.
    #[serde(default, deserialize_with = "object")]
    pub recover_since: Option<StreamPosition>,
    /// Options of the channel that differ for this subscription.
    #[serde(default, rename = "override", deserialize_with = "object_or_empty")]
    pub overrides: ChannelOverrides,
}

/// A position in a history.
#[derive(Debug, Deserialize)]
pub struct StreamPosition {
    /// The offset.
    #[serde(default, deserialize_with = "null_as_default")]
    pub offset: u64,
    /// The epoch of the history.
    #[serde(default, deserialize_with = "null_as_default")]
    pub epoch: String,
}

/// The request of `block_user`.
#[derive(Debug, Deserialize)]
pub struct BlockUser {
    /// The user.
    #[serde(default, deserialize_with = "null_as_default")]
    pub user: String,
    /// End of the block in Unix seconds; 0 for none.
    #[serde(default, deserialize_with = "null_as_default")]
    pub expire_at: i64,
}

/// The request of `unblock_user`.
#[derive(Debug, Deserialize)]
pub struct UnblockUser {
    /// The user.
    #[serde(default, deserialize_with = "null_as_default")]
    pub user: String,
}

/// The request of `revoke_token`.
#[derive(Debug, Deserialize)]
pub struct RevokeToken {
    /// The id of the token.
    #[serde(default, deserialize_with = "null_as_default")]
    pub jti: String,
    /// End of the block in Unix seconds; 0 for none.
    #[serde(default, deserialize_with = "null_as_default")]
    pub expire_at: i64,
}

/// The request of `invalidate_user_tokens`.
#[derive(Debug, Deserialize)]
pub struct InvalidateUserTokens {
    /// The user.
    #[serde(default, deserialize_with = "null_as_default")]
    pub user: String,
    /// Tokens issued earlier are invalid, in Unix seconds; 0 for now.
    #[serde(default, deserialize_with = "null_as_default")]
    pub issued_before: i64,
    /// End of the block in Unix seconds; 0 for none.
    #[serde(default, deserialize_with = "null_as_default")]
    pub expire_at: i64,
    /// A channel, whose tokens alone would be invalid. Not available: a request with one is error 108.
    #[serde(default, deserialize_with = "null_as_default")]
    pub channel: String,
}

/// The request of `unsubscribe`.
#[derive(Debug, Deserialize)]
pub struct Unsubscribe {
    /// The user.
    #[serde(default, deserialize_with = "null_as_default")]
    pub user: String,
    /// The channel; empty for all.
    #[serde(default, deserialize_with = "null_as_default")]
    pub channel: String,
    /// One client of the user; empty for all.
    #[serde(default, deserialize_with = "null_as_default")]
    pub client: String,
    /// One session, by its secret; empty for all.
    #[serde(default, deserialize_with = "null_as_default")]
    pub session: String,
}

/// The request of `disconnect`.
#[derive(Debug, Deserialize)]
pub struct Disconnect {
    /// The user.
    #[serde(default, deserialize_with = "null_as_default")]
    pub user: String,
    /// One client of the user; empty for all.
    #[serde(default, deserialize_with = "null_as_default")]
    pub client: String,
    /// One session, by its secret; empty for all.
    #[serde(default, deserialize_with = "null_as_default")]
    pub session: String,
    /// Clients that stay connected.
    #[serde(default, deserialize_with = "null_as_default")]
    pub whitelist: Vec<String>,
    /// The code and the reason for the client.
    #[serde(default, deserialize_with = "object_or_empty")]
    pub disconnect: DisconnectReason,
}

/// The code and the reason of a disconnect, for the client.
#[derive(Debug, Default, Deserialize)]
pub struct DisconnectReason {
    /// The code; 0 for the default.
    #[serde(default, deserialize_with = "null_as_default")]
    pub code: u32,
    /// The reason.
    #[serde(default, deserialize_with = "null_as_default")]
    pub reason: String,
}

/// The request of `refresh`.
#[derive(Debug, Deserialize)]
pub struct Refresh {
    /// The user.
    #[serde(default, deserialize_with = "null_as_default")]
    pub user: String,
    /// One client of the user; empty for all.
    #[serde(default, deserialize_with = "null_as_default")]
    pub client: String,
    /// One session, by its secret; empty for all.
    #[serde(default, deserialize_with = "null_as_default")]
    pub session: String,
    /// Whether the connections end now.
    #[serde(default, deserialize_with = "null_as_default")]
    pub expired: bool,
    /// New end of the connections in Unix seconds; 0 for none.
    #[serde(default, deserialize_with = "null_as_default")]
    pub expire_at: i64,
    /// Whether there is new information about the connections. Not available: such a request is error 108.
    #[serde(default, rename = "info", deserialize_with = "is_given")]
    pub has_info: bool,
}

/// The request of `presence`.
#[derive(Debug, Deserialize)]
pub struct Presence {
    /// The channel.
    #[serde(default, deserialize_with = "null_as_default")]
    pub channel: String,
}

/// The request of `presence_stats`.
#[derive(Debug, Deserialize)]
pub struct PresenceStats {
    /// The channel.
    #[serde(default, deserialize_with = "null_as_default")]
    pub channel: String,
}

/// The request of `history`.
#[derive(Debug, Deserialize)]
pub struct History {
    /// The channel.
    #[serde(default, deserialize_with = "null_as_default")]
    pub channel: String,
    /// Most publications; 0 for the position alone, negative for no limit.
    #[serde(default, deserialize_with = "null_as_default")]
    pub limit: i64,
    /// The position after which (in reverse: before which) publications are read.
    #[serde(default, deserialize_with = "object")]
    pub since: Option<StreamPosition>,
    /// Whether the newest publication comes first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub reverse: bool,
}

/// The request of `history_remove`.
#[derive(Debug, Deserialize)]
pub struct HistoryRemove {
    /// The channel.
    #[serde(default, deserialize_with = "null_as_default")]
    pub channel: String,
}

/// The request of `channels`.
#[derive(Debug, Deserialize)]
pub struct Channels {
    /// A glob pattern; empty for all channels.
    #[serde(default, deserialize_with = "null_as_default")]
    pub pattern: String,
}

/// The request of `info`, without fields.
#[derive(Debug, Deserialize)]
pub struct Info {}

/// The request of `connections`.
#[derive(Debug, Deserialize)]
pub struct Connections {
    /// Connections of this user; empty for all.
    #[serde(default, deserialize_with = "null_as_default")]
    pub user: String,
    /// The connection of this client; empty for all.
    #[serde(default, deserialize_with = "null_as_default")]
    pub client: String,
    /// Connections with a subscription to this channel; empty for all.
    #[serde(default, deserialize_with = "null_as_default")]
    pub channel: String,
    /// A filter that the labels pass, in the form of filters by tags.
    #[serde(default, deserialize_with = "object")]
    pub label_filter: Option<Map<String, Value>>,
    /// Most connections of a page; 0 for the default.
    #[serde(default, deserialize_with = "null_as_default")]
    pub limit: usize,
    /// The cursor of the page before; empty for the first page.
    #[serde(default, deserialize_with = "null_as_default")]
    pub cursor: String,
    /// Not available: a filter of Centrifugo PRO.
    #[serde(default, deserialize_with = "null_as_default")]
    pub expression: String,
}

/// The request of `reload`, without fields.
#[derive(Debug, Deserialize)]
pub struct Reload {}
