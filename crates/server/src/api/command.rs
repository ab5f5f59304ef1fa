//! Requests as they are written: one type for each method, named and spelled as in Centrifugo's API.
//!
//! Fields that are not known here are passed over, as `null` is where a field may be left out: libraries of newer
//! versions send more than this server knows. What would change the meaning of a request is refused instead, see
//! [`super::methods`]. Nothing is known by its place: a list in place of an object is refused ([`Object`]).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// Most commands in one request.
pub(super) const MAX_COMMANDS: usize = 10_000;
/// Most channels in one broadcast.
pub(super) const MAX_CHANNELS: usize = 10_000;

/// Any JSON, as it was written.
pub(super) type Json = Box<RawValue>;

macro_rules! commands {
    ($($method:literal $Variant:ident)+) => {
        /// One thing to do.
        #[derive(Debug)]
        pub(super) enum Command {
            $(#[doc = concat!("`", $method, "`.")] $Variant($Variant),)+
        }

        impl Command {
            /// The methods, in the order in which they are counted.
            pub(super) const METHODS: [&'static str; [$($method),+].len()] = [$($method),+];

            /// Reads a request of `method`; `None` when there is no such method.
            pub(super) fn read(method: &str, json: &[u8]) -> Option<Result<Self, serde_json::Error>> {
                match method {
                    $($method => Some(serde_json::from_slice(json).map(|Object(request)| Self::$Variant(request))),)+
                    _ => None,
                }
            }

            /// The name of its method.
            pub(super) fn method(&self) -> &'static str {
                match self {
                    $(Self::$Variant(_) => $method,)+
                }
            }

            /// Reads the value behind a key of a batch's command; `None` when the key is no method, or null.
            fn next<'de, A: MapAccess<'de>>(method: &str, map: &mut A) -> Result<Option<Self>, A::Error> {
                match method {
                    $($method => Ok(map.next_value::<Option<Object<$Variant>>>()?.map(|Object(request)| Self::$Variant(request))),)+
                    _ => map.next_value::<serde::de::IgnoredAny>().map(|_| None),
                }
            }
        }
    };
}

commands! {
    "publish" Publish
    "broadcast" Broadcast
    "subscribe" Subscribe
    "unsubscribe" Unsubscribe
    "disconnect" Disconnect
    "refresh" Refresh
    "presence" Presence
    "presence_stats" PresenceStats
    "history" History
    "history_remove" HistoryRemove
    "channels" Channels
    "info" Info
    "block_user" BlockUser
    "unblock_user" UnblockUser
    "revoke_token" RevokeToken
    "invalidate_user_tokens" InvalidateUserTokens
}

/// What is written as an object and as nothing else. The readers that serde makes take a list as well, as the values of
/// the fields in their order, which nobody means.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// Takes an object, and `null` for its absence.
fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|Object(object)| object))
}

/// Takes an object, and `null` for an empty one.
fn object_or_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(object(deserializer)?.unwrap_or_default())
}

/// A command of a batch: `{"METHOD":{…}}`.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are commands")]
pub(super) enum Entry {
    /// One command.
    Command(Command),
    /// No method that is known here.
    Unknown,
    /// More than one.
    Several,
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a method")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
                let mut entry = Entry::Unknown;
                while let Some(method) = map.next_key::<Cow<'_, str>>()? {
                    if let Some(command) = Command::next(&method, &mut map)? {
                        entry = match entry {
                            Entry::Unknown => Entry::Command(command),
                            _ => Entry::Several,
                        };
                    }
                }
                Ok(entry)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// Takes `null` for the absence of a field.
fn null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Takes `null` for JSON like any other.
fn some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

/// Takes JSON, and `null` for its absence.
fn json<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Ok(some(deserializer)?.filter(|json| json.get() != "null"))
}

/// Takes a list of at most `MOST`, and `null` for an empty one.
pub(super) fn list<'de, D, T, const MOST: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Items<T, const MOST: usize>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Items<T, MOST> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MOST}")
        }

        fn visit_unit<E>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = seq.next_element()? {
                if items.len() == MOST {
                    return Err(A::Error::invalid_length(MOST + 1, &self));
                }
                items.push(item);
            }
            Ok(items)
        }
    }
    deserializer.deserialize_any(Items::<T, MOST>(PhantomData))
}

/// What a publication carries, in `publish` and in `broadcast`.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) data: Option<Json>,
    /// Instead of `data`. An empty one is what libraries send for none, unless there is no `data`: then it is a body
    /// without bytes.
    pub(super) b64data: Option<String>,
    pub(super) skip_history: bool,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) idempotency_key: String,
    pub(super) version: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Publish {
    #[serde(default, deserialize_with = "null")]
    pub(super) channel: String,
    #[serde(default, deserialize_with = "some")]
    data: Option<Json>,
    #[serde(default)]
    b64data: Option<String>,
    #[serde(default, deserialize_with = "null")]
    skip_history: bool,
    #[serde(default, deserialize_with = "null")]
    tags: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "null")]
    idempotency_key: String,
    #[serde(default, deserialize_with = "null")]
    version: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Broadcast {
    #[serde(default, deserialize_with = "list::<_, _, MAX_CHANNELS>")]
    pub(super) channels: Vec<String>,
    #[serde(default, deserialize_with = "some")]
    data: Option<Json>,
    #[serde(default)]
    b64data: Option<String>,
    #[serde(default, deserialize_with = "null")]
    skip_history: bool,
    #[serde(default, deserialize_with = "null")]
    tags: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "null")]
    idempotency_key: String,
    #[serde(default, deserialize_with = "null")]
    version: u64,
}

impl Publish {
    /// Taken apart: where, and what.
    pub(super) fn split(self) -> (String, Content) {
        let Self { channel, data, b64data, skip_history, tags, idempotency_key, version } = self;
        (channel, Content { data, b64data, skip_history, tags, idempotency_key, version })
    }
}

impl Broadcast {
    /// Taken apart: where, and what.
    pub(super) fn split(self) -> (Vec<String>, Content) {
        let Self { channels, data, b64data, skip_history, tags, idempotency_key, version } = self;
        (channels, Content { data, b64data, skip_history, tags, idempotency_key, version })
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Subscribe {
    #[serde(default, deserialize_with = "null")]
    pub(super) user: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) channel: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) client: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) session: String,
    #[serde(default, deserialize_with = "json")]
    pub(super) info: Option<Json>,
    #[serde(default, deserialize_with = "null")]
    pub(super) b64info: String,
    #[serde(default, deserialize_with = "json")]
    pub(super) data: Option<Json>,
    #[serde(default, deserialize_with = "null")]
    pub(super) b64data: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) expire_at: i64,
    #[serde(default, deserialize_with = "object")]
    pub(super) recover_since: Option<StreamPosition>,
    #[serde(default, rename = "override", deserialize_with = "object_or_empty")]
    pub(super) overrides: Override,
}

#[derive(Debug, Deserialize)]
pub(super) struct StreamPosition {
    #[serde(default, deserialize_with = "null")]
    pub(super) offset: u64,
    #[serde(default, deserialize_with = "null")]
    pub(super) epoch: String,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Override {
    #[serde(default, deserialize_with = "object")]
    pub(super) presence: Option<BoolValue>,
    #[serde(default, deserialize_with = "object")]
    pub(super) join_leave: Option<BoolValue>,
    #[serde(default, deserialize_with = "object")]
    pub(super) force_push_join_leave: Option<BoolValue>,
    #[serde(default, deserialize_with = "object")]
    pub(super) force_positioning: Option<BoolValue>,
    #[serde(default, deserialize_with = "object")]
    pub(super) force_recovery: Option<BoolValue>,
}

#[derive(Debug, Deserialize)]
pub(super) struct BoolValue {
    #[serde(default)]
    pub(super) value: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct BlockUser {
    #[serde(default, deserialize_with = "null")]
    pub(super) user: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) expire_at: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct UnblockUser {
    #[serde(default, deserialize_with = "null")]
    pub(super) user: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct RevokeToken {
    #[serde(default, deserialize_with = "null")]
    pub(super) jti: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) expire_at: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct InvalidateUserTokens {
    #[serde(default, deserialize_with = "null")]
    pub(super) user: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) issued_before: i64,
    #[serde(default, deserialize_with = "null")]
    pub(super) expire_at: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Unsubscribe {
    #[serde(default, deserialize_with = "null")]
    pub(super) user: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) channel: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) client: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) session: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Disconnect {
    #[serde(default, deserialize_with = "null")]
    pub(super) user: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) client: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) session: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) whitelist: Vec<String>,
    #[serde(default, deserialize_with = "object_or_empty")]
    pub(super) disconnect: Farewell,
}

/// What a client is told when it is disconnected.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Farewell {
    #[serde(default, deserialize_with = "null")]
    pub(super) code: u32,
    #[serde(default, deserialize_with = "null")]
    pub(super) reason: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Refresh {
    #[serde(default, deserialize_with = "null")]
    pub(super) user: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) client: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) session: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) expired: bool,
    #[serde(default, deserialize_with = "null")]
    pub(super) expire_at: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Presence {
    #[serde(default, deserialize_with = "null")]
    pub(super) channel: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct PresenceStats {
    #[serde(default, deserialize_with = "null")]
    pub(super) channel: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct History {
    #[serde(default, deserialize_with = "null")]
    pub(super) channel: String,
    #[serde(default, deserialize_with = "null")]
    pub(super) limit: i64,
    #[serde(default, deserialize_with = "object")]
    pub(super) since: Option<StreamPosition>,
    #[serde(default, deserialize_with = "null")]
    pub(super) reverse: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct HistoryRemove {
    #[serde(default, deserialize_with = "null")]
    pub(super) channel: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Channels {
    #[serde(default, deserialize_with = "null")]
    pub(super) pattern: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Info {}
