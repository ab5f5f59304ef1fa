//! Requests: one type for each method. Names and fields are those of Centrifugo's API.
//!
//! Unknown fields are ignored, because libraries of newer versions send more fields; `null` means that an optional field
//! is absent. [`super::methods`] rejects fields that would change the meaning of a request. A JSON array is rejected where
//! an object is expected ([`Object`]).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use tidings_keys::Scope;
use tidings_metrics::{Label as _, labels};
use tidings_wire::Object;
use tidings_wire::grant::ChannelOverrides;

/// Most commands in one request.
pub(super) const MAX_COMMANDS: usize = 10_000;
/// Most channels in one broadcast.
pub(super) const MAX_CHANNELS: usize = 10_000;

/// Any JSON value, as it is written.
pub(super) type RawJson = Box<RawValue>;

macro_rules! commands {
    ($($method:literal $Variant:ident $scope:ident)+) => {
        labels! {
            /// The method of a command, in the order of the documentation.
            pub(super) enum CommandMethod { $($Variant => $method,)+ }
        }

        impl CommandMethod {
            /// The name of its spans.
            pub(super) fn span(self) -> &'static str {
                match self { $(Self::$Variant => concat!("api ", $method),)+ }
            }
        }

        /// A command with its parameters.
        #[derive(Debug)]
        pub(super) enum Command {
            $(#[doc = concat!("`", $method, "`.")] $Variant($Variant),)+
        }

        impl CommandMethod {
            /// The scope that a key needs for this method.
            pub(super) fn scope(self) -> Scope {
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
            pub(super) fn parse(method: CommandMethod, json: &[u8]) -> Result<Self, serde_json::Error> {
                match method {
                    $(CommandMethod::$Variant => {
                        serde_json::from_slice(json).map(|Object(request)| Self::$Variant(request))
                    })+
                }
            }

            /// The method.
            pub(super) fn method(&self) -> CommandMethod {
                match self {
                    $(Self::$Variant(_) => CommandMethod::$Variant,)+
                }
            }

            /// Reads the parameters of `method` as the next value of a map; `None` for `null`.
            fn next_value<'de, A: MapAccess<'de>>(
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
    "channels" Channels Read
    "info" Info Read
    "connections" Connections Read
    "block_user" BlockUser Manage
    "unblock_user" UnblockUser Manage
    "revoke_token" RevokeToken Manage
    "invalidate_user_tokens" InvalidateUserTokens Manage
    "reload" Reload Manage
}

impl CommandMethod {
    /// The method with this name; `None` if there is none.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|method| method.label() == name)
    }
}

/// Reads an optional object; `null` means absent.
fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|Object(object)| object))
}

/// Reads an object; `null` means an empty one.
fn object_or_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(object(deserializer)?.unwrap_or_default())
}

/// An item of a batch: `{"METHOD":{…}}`.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all items are commands")]
pub(super) enum BatchItem {
    /// One command.
    Command(Command),
    /// An object without a known method.
    Unknown,
    /// More than one command in one object.
    Several,
}

impl<'de> Deserialize<'de> for BatchItem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = BatchItem;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a method")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<BatchItem, A::Error> {
                let mut item = BatchItem::Unknown;
                while let Some(key) = map.next_key::<Cow<'_, str>>()? {
                    let Some(method) = CommandMethod::from_name(&key) else {
                        map.next_value::<serde::de::IgnoredAny>()?;
                        continue;
                    };
                    if let Some(command) = Command::next_value(method, &mut map)? {
                        item = match item {
                            BatchItem::Unknown => BatchItem::Command(command),
                            _ => BatchItem::Several,
                        };
                    }
                }
                Ok(item)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// Reads an optional field; `null` means absent.
fn null_as_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads any JSON, including `null`.
fn any_json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RawJson>, D::Error> {
    RawJson::deserialize(deserializer).map(Some)
}

/// Reads any JSON; `null` means absent.
fn json_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RawJson>, D::Error> {
    Ok(any_json(deserializer)?.filter(|json| json.get() != "null"))
}

/// Reads a list of at most `MAX` items; `null` means an empty one.
pub(super) fn list<'de, D, T, const MAX: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Items<T, const MAX: usize>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Items<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX}")
        }

        fn visit_unit<E>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = seq.next_element()? {
                if items.len() == MAX {
                    return Err(A::Error::invalid_length(MAX + 1, &self));
                }
                items.push(item);
            }
            Ok(items)
        }
    }
    deserializer.deserialize_any(Items::<T, MAX>(PhantomData))
}

/// The fields of a publication that `publish` and `broadcast` have in common.
#[derive(Debug, Default)]
pub(super) struct PublishFields {
    pub(super) data: Option<RawJson>,
    /// Base64, takes precedence over `data`. Libraries send an empty string for none; without `data` an empty string is an
    /// empty body.
    pub(super) b64data: Option<String>,
    pub(super) skip_history: bool,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) idempotency_key: String,
    pub(super) version: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Publish {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) channel: String,
    #[serde(default, deserialize_with = "any_json")]
    data: Option<RawJson>,
    #[serde(default)]
    b64data: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    skip_history: bool,
    #[serde(default, deserialize_with = "null_as_default")]
    tags: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "null_as_default")]
    idempotency_key: String,
    #[serde(default, deserialize_with = "null_as_default")]
    version: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Broadcast {
    #[serde(default, deserialize_with = "list::<_, _, MAX_CHANNELS>")]
    pub(super) channels: Vec<String>,
    #[serde(default, deserialize_with = "any_json")]
    data: Option<RawJson>,
    #[serde(default)]
    b64data: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    skip_history: bool,
    #[serde(default, deserialize_with = "null_as_default")]
    tags: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "null_as_default")]
    idempotency_key: String,
    #[serde(default, deserialize_with = "null_as_default")]
    version: u64,
}

impl Publish {
    /// The channel and the publication.
    pub(super) fn split(self) -> (String, PublishFields) {
        let Self { channel, data, b64data, skip_history, tags, idempotency_key, version } = self;
        (channel, PublishFields { data, b64data, skip_history, tags, idempotency_key, version })
    }
}

impl Broadcast {
    /// The channels and the publication.
    pub(super) fn split(self) -> (Vec<String>, PublishFields) {
        let Self { channels, data, b64data, skip_history, tags, idempotency_key, version } = self;
        (channels, PublishFields { data, b64data, skip_history, tags, idempotency_key, version })
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Subscribe {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) user: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) channel: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) client: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) session: String,
    #[serde(default, deserialize_with = "json_or_null")]
    pub(super) info: Option<RawJson>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) b64info: String,
    #[serde(default, deserialize_with = "json_or_null")]
    pub(super) data: Option<RawJson>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) b64data: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) expire_at: i64,
    #[serde(default, deserialize_with = "object")]
    pub(super) recover_since: Option<StreamPosition>,
    #[serde(default, rename = "override", deserialize_with = "object_or_empty")]
    pub(super) overrides: ChannelOverrides,
}

#[derive(Debug, Deserialize)]
pub(super) struct StreamPosition {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) offset: u64,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) epoch: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct BlockUser {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) user: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) expire_at: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct UnblockUser {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) user: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct RevokeToken {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) jti: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) expire_at: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct InvalidateUserTokens {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) user: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) issued_before: i64,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) expire_at: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Unsubscribe {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) user: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) channel: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) client: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) session: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Disconnect {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) user: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) client: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) session: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) whitelist: Vec<String>,
    #[serde(default, deserialize_with = "object_or_empty")]
    pub(super) disconnect: DisconnectReason,
}

/// The code and the reason of a disconnect, for the client.
#[derive(Debug, Default, Deserialize)]
pub(super) struct DisconnectReason {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) code: u32,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) reason: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Refresh {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) user: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) client: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) session: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) expired: bool,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) expire_at: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Presence {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) channel: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct PresenceStats {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) channel: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct History {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) channel: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) limit: i64,
    #[serde(default, deserialize_with = "object")]
    pub(super) since: Option<StreamPosition>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) reverse: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct HistoryRemove {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) channel: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Channels {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) pattern: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Info {}

#[derive(Debug, Deserialize)]
pub(super) struct Connections {
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) user: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) client: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) channel: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) limit: usize,
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) cursor: String,
    /// Not available: a filter of Centrifugo PRO.
    #[serde(default, deserialize_with = "null_as_default")]
    pub(super) expression: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Reload {}
