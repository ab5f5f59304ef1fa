//! Results of commands, as they are encoded in JSON.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use tidings_broker::Published;
use tidings_cluster::NodeInfo;
use tidings_reload::ReloadReport;
use tidings_wire::ClientInfo;
use tidings_wire::body::{self, DataFormat};

use crate::error::ApiError;
use crate::map::{MapChanged, MapEntryJson};

/// The reply to a command.
pub type CommandReply = Result<CommandResult, ApiError>;

/// The result of a command.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum CommandResult {
    /// The result of `publish`.
    Published(PublishResult),
    /// The result of `broadcast`: one response for each channel, in the order of the request.
    Broadcast {
        /// The responses.
        responses: Vec<BroadcastResponse>,
    },
    /// The result of `presence`, by client id.
    Presence {
        /// The clients.
        presence: BTreeMap<String, ClientJson>,
    },
    /// The result of `presence_stats`.
    PresenceStats {
        /// The number of clients.
        num_clients: u64,
        /// The number of different users.
        num_users: u64,
    },
    /// The result of `history`.
    History {
        /// A page of publications.
        publications: Vec<PublicationJson>,
        /// The offset of the last publication of the history.
        offset: u64,
        /// The epoch of the history.
        epoch: String,
    },
    /// The result of `map_publish` and `map_remove`.
    MapChanged(MapChanged),
    /// The result of `map_read_state` and `map_read_stream`.
    MapEntries {
        /// Keys with their values, or changes.
        entries: Vec<MapEntryJson>,
        /// The offset of the newest change.
        offset: u64,
        /// The epoch of the map.
        epoch: String,
        /// The cursor of the next page of the state; empty on the last one.
        #[serde(skip_serializing_if = "String::is_empty")]
        cursor: String,
    },
    /// The result of `map_stats`.
    MapStats {
        /// The number of keys.
        num_keys: usize,
    },
    /// The result of `channels`.
    Channels {
        /// The channels with subscribers, by name.
        channels: BTreeMap<String, ChannelJson>,
    },
    /// The result of `info`.
    Info {
        /// The nodes.
        nodes: Vec<NodeInfo>,
    },
    /// The result of `connections`, by client id.
    Connections {
        /// The connections of a page.
        connections: BTreeMap<String, ConnectionJson>,
        /// The cursor of the next page; empty on the last one.
        #[serde(skip_serializing_if = "String::is_empty")]
        cursor: String,
    },
    /// The result of `reload`.
    Reloaded(ReloadReport),
    /// The empty result of all other commands.
    Done {},
}

impl CommandResult {
    /// Encodes it as JSON.
    pub fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text keys and valid JSON")
    }
}

/// The position of a publication in the history; empty if it was not added to one.
#[derive(Debug, Default, Serialize)]
pub struct PublishResult {
    /// The offset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The epoch of the history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
}

impl From<Published> for PublishResult {
    fn from(published: Published) -> Self {
        let Some(position) = published.position else { return Self::default() };
        Self { offset: Some(position.offset), epoch: Some(position.epoch.as_str().to_owned()) }
    }
}

/// The response for one channel of a broadcast.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BroadcastResponse {
    /// The position of the publication.
    Result(PublishResult),
    /// Why it was not published.
    Error(ApiError),
}

/// A connection.
#[derive(Debug, Serialize)]
pub struct ConnectionJson {
    /// The user; empty if anonymous.
    pub user: String,
    /// The transport.
    pub transport: String,
    /// The protocol.
    pub protocol: String,
    /// The address of the client, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// When it was opened, in Unix seconds.
    pub since: u64,
    /// Unsent bytes in its queue.
    pub queued_bytes: u64,
    /// The number of its subscriptions.
    pub num_subs: u64,
    /// The labels, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The uid of the node.
    pub node: String,
}

/// Bytes of an application. In JSON they are as JSON clients get them.
#[derive(Debug)]
pub struct Body {
    /// The bytes.
    pub bytes: Bytes,
    /// Their form in JSON.
    pub format: DataFormat,
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut json = Vec::with_capacity(self.bytes.len() + 2);
        body::write_json(&self.bytes, self.format, &mut json);
        let json = String::from_utf8(json).ok().and_then(|json| RawValue::from_string(json).ok());
        json.unwrap_or_else(|| RawValue::NULL.to_owned()).serialize(serializer)
    }
}

/// A client in presence or as the publisher.
#[derive(Debug, Serialize)]
pub struct ClientJson {
    /// The client id.
    pub client: String,
    /// The user.
    pub user: String,
    /// Information on the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conn_info: Option<Body>,
    /// Information on the subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chan_info: Option<Body>,
}

impl From<&ClientInfo> for ClientJson {
    fn from(info: &ClientInfo) -> Self {
        let body =
            |bytes: &Option<Bytes>| bytes.clone().map(|bytes| Body { bytes, format: DataFormat::Auto });
        Self {
            client: info.client.clone(),
            user: info.user.clone(),
            conn_info: body(&info.conn_info),
            chan_info: body(&info.chan_info),
        }
    }
}

/// A publication of a history.
#[derive(Debug, Serialize)]
pub struct PublicationJson {
    /// The body.
    pub data: Body,
    /// The offset.
    pub offset: u64,
    /// The tags, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// The publisher, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<ClientJson>,
}

impl PublicationJson {
    /// The publication as JSON clients of its channel get it.
    pub fn new(publication: &tidings_wire::Publication, format: DataFormat) -> Self {
        let extra = publication.extra.as_deref();
        let tags = extra.map(|extra| &extra.tags).filter(|tags| !tags.is_empty());
        Self {
            data: Body { bytes: publication.body.clone(), format },
            offset: publication.offset().unwrap_or_default(),
            tags: tags.map(|tags| tags.iter().cloned().collect()),
            info: extra.and_then(|extra| extra.info.as_ref()).map(ClientJson::from),
        }
    }
}

/// A channel with subscribers.
#[derive(Debug, Serialize)]
pub struct ChannelJson {
    /// The number of subscribers.
    pub num_clients: u64,
}

/// Encodes a reply: `{"result":{…}}`, or `{"error":{…}}`.
pub fn encode(reply: &CommandReply) -> Vec<u8> {
    let (key, value) = match reply {
        Ok(result) => ("result", result.json()),
        Err(error) => ("error", error.json()),
    };
    let mut out = Vec::with_capacity(value.len() + key.len() + 5);
    for part in [b"{\"", key.as_bytes(), b"\":", &value, b"}"] {
        out.extend_from_slice(part);
    }
    out
}
