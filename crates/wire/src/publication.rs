//! A publication, as it passes from the broker to every subscriber, and its position in its channel's history.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tidings_mqtt::Qos;

use crate::body::{self, DataFormat};
use crate::channel::{Channel, Topic};
use crate::json;

/// One message of one channel. Shared by all shards and never copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Its channel.
    pub channel: Channel,
    /// The body: any bytes (see [`crate::body`] for its form in each protocol).
    pub body: Bytes,
    /// Its position in the channel's history; `None` if it was only delivered live.
    pub position: Option<Position>,
    /// Rare contents, boxed to keep publications small.
    pub extra: Option<Box<Extra>>,
}

impl Publication {
    /// A publication with a body alone, without a position.
    pub fn new(channel: Channel, body: impl Into<Bytes>) -> Self {
        Self { channel, body: body.into(), position: None, extra: None }
    }

    /// Its offset, if it has a position.
    pub fn offset(&self) -> Option<u64> {
        self.position.as_ref().map(|position| position.offset)
    }

    /// The client id of the session that published it, or the id that a backend passed in its place.
    pub fn origin(&self) -> Option<&str> {
        let extra = self.extra.as_deref()?;
        extra.origin.as_deref().or_else(|| Some(extra.info.as_ref()?.client.as_str()))
    }

    /// Bytes of its contents in a JSON message, without the names of fields; at most six times [`Self::size`].
    pub fn json_len(&self, format: DataFormat) -> usize {
        let extra = self.extra.as_ref().map_or(0, |extra| extra.json_len());
        body::json_len(&self.body, format) + extra
    }

    /// Bytes of its body, tags and information.
    pub fn size(&self) -> usize {
        self.body.len() + self.extra.as_ref().map_or(0, |extra| extra.size())
    }
}

/// Contents of a publication besides its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// The publishing client, if a client published it.
    pub info: Option<ClientInfo>,
    /// Tags for subscribers, in the publisher's order; names are unique.
    pub tags: Vec<(String, String)>,
    /// The client id that counts as the publisher's, where it differs from that of `info`: subscriptions of that client without
    /// its own publications do not get this one. Subscribers do not see it.
    pub origin: Option<Box<str>>,
    /// The properties of a message of MQTT.
    pub message: Option<Box<MessageProperties>>,
    /// Whether subscribers with deltas get it as a delta to the publication before it.
    pub delta: bool,
    /// The key of a map or a shared poll that the publication sets or removes.
    pub map: Option<Box<MapKey>>,
}

/// The key that a publication in a channel with a map or a shared poll changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapKey {
    /// The key.
    pub key: Box<str>,
    /// Whether the key is removed; the body is empty then.
    pub removed: bool,
    /// The version of a key of a shared poll; 0 in a map.
    pub version: u64,
}

/// What a publisher of MQTT sent with a message besides its payload. User properties are tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageProperties {
    /// The quality of service with which it was published.
    pub qos: Qos,
    /// Whether it was published as a retained message.
    pub retain: bool,
    /// Its lifetime in seconds.
    pub expiry: Option<u32>,
    /// Payload format indicator, content type, response topic, correlation data, and user properties if a name occurs twice;
    /// encoded as in a `PUBLISH` of 5.0, without their length.
    pub properties: Bytes,
}

impl Extra {
    /// Whether there are no contents.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn json_len(&self) -> usize {
        let tag = |(name, value): &(String, String)| json::string_len(name) + json::string_len(value);
        let info = self.info.as_ref().map_or(0, ClientInfo::json_len);
        let key = self.map.as_ref().map_or(0, |map| json::string_len(&map.key));
        info + self.tags.iter().map(tag).sum::<usize>() + key
    }

    /// Bytes of all its texts.
    pub fn size(&self) -> usize {
        let tags: usize = self.tags.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.info.as_ref().map_or(0, ClientInfo::size)
            + tags
            + self.origin.as_ref().map_or(0, |origin| origin.len())
            + self.message.as_ref().map_or(0, |message| message.properties.len())
            + self.map.as_ref().map_or(0, |map| map.key.len())
    }
}

/// The public information about a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientInfo {
    /// Its user; empty for an anonymous one.
    pub user: String,
    /// The connection's own id, unique over all nodes.
    pub client: String,
    /// Information on the connection, from its token or hook (JSON); never empty.
    pub conn_info: Option<Bytes>,
    /// Information on the subscription, from its token or hook (JSON); never empty.
    pub chan_info: Option<Bytes>,
}

impl ClientInfo {
    fn json_len(&self) -> usize {
        let texts = json::string_len(&self.user) + json::string_len(&self.client);
        // Infos are JSON already.
        texts + self.size() - self.user.len() - self.client.len()
    }

    /// Bytes of all its texts.
    pub fn size(&self) -> usize {
        let info = |info: &Option<Bytes>| info.as_ref().map_or(0, Bytes::len);
        self.user.len() + self.client.len() + info(&self.conn_info) + info(&self.chan_info)
    }
}

/// Identifies one life of a channel's history: offsets are comparable within one epoch only. A short text; cloning is a
/// reference count.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Epoch(Arc<str>);

impl Epoch {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Epoch {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

/// A position in a channel's history: the number of the last received publication, counted from 1 within its epoch; 0
/// is
/// before the first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The number of publications up to and including this one.
    pub offset: u64,
    /// The epoch of the history.
    pub epoch: Epoch,
}

impl Position {
    /// Whether it is a position in this epoch of the history. A position without an epoch is in every one.
    pub fn is_in(&self, epoch: &Epoch) -> bool {
        self.epoch.as_str().is_empty() || self.epoch == *epoch
    }
}

/// A publication and its topic: the channel itself, or a pattern that matched it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The topic of the subscription.
    pub topic: Topic,
    /// The publication.
    pub publication: Arc<Publication>,
}
