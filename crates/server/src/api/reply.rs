//! Results and errors of commands, as they are encoded in JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use tidings_broker::{BrokerError, Published};
use tidings_hub::Failure;
use tidings_keys::{ApiIdentity, Scope};
use tidings_reload::{ReloadError, ReloadReport};
use tidings_wire::ClientInfo;
use tidings_wire::body::{self, DataFormat};
use tidings_wire::code::{self, Code};

use super::command::RawJson;
use crate::blocklist_sync::BlockError;
use tidings_cluster::{ClusterError, NodeInfo};

/// The reply to a command.
pub(super) type CommandReply = Result<CommandResult, ApiError>;

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ApiError {
    /// A number of [`tidings_wire::code`].
    pub(super) code: u16,
    /// The reason, for the backend.
    pub(super) message: Cow<'static, str>,
}

impl ApiError {
    /// The error of an invalid request, with the reason.
    pub(super) fn bad_request(reason: impl std::fmt::Display) -> Self {
        Self {
            code: code::BAD_REQUEST.number,
            message: format!("{}: {reason}", code::BAD_REQUEST.text).into(),
        }
    }

    /// The error of a key without a scope.
    pub(super) fn missing_scope(identity: &ApiIdentity, scope: Scope) -> Self {
        let text = code::PERMISSION_DENIED.text;
        let message = format!("{text}: the key \"{}\" does not have the scope {scope}", identity.name);
        Self { code: code::PERMISSION_DENIED.number, message: message.into() }
    }

    /// Encodes it as JSON.
    pub(super) fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a number and a text")
    }

    /// The HTTP status of the error, as in Centrifugo's documentation ("Transport error mode"). Two statuses are added:
    /// those of too many requests and of permission denied.
    pub(super) fn status(&self) -> StatusCode {
        const NUMBERS: [(Code, StatusCode); 7] = [
            (code::UNKNOWN_CHANNEL, StatusCode::NOT_FOUND),
            (code::METHOD_NOT_FOUND, StatusCode::NOT_FOUND),
            (code::BAD_REQUEST, StatusCode::BAD_REQUEST),
            (code::NOT_AVAILABLE, StatusCode::BAD_REQUEST),
            (code::UNRECOVERABLE_POSITION, StatusCode::RANGE_NOT_SATISFIABLE),
            (code::TOO_MANY_REQUESTS, StatusCode::TOO_MANY_REQUESTS),
            (code::PERMISSION_DENIED, StatusCode::FORBIDDEN),
        ];
        let known = NUMBERS.iter().find(|(code, _)| code.number == self.code);
        known.map_or(StatusCode::INTERNAL_SERVER_ERROR, |(_, status)| *status)
    }
}

impl From<Code> for ApiError {
    fn from(code: Code) -> Self {
        Self { code: code.number, message: code.text.into() }
    }
}

impl From<BrokerError> for ApiError {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::Overloaded => code::TOO_MANY_REQUESTS.into(),
            BrokerError::NotPermitted => code::PERMISSION_DENIED.into(),
            BrokerError::Invalid(why) => Self::bad_request(why),
            other => Self { code: code::INTERNAL.number, message: other.to_string().into() },
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable => BrokerError::Unavailable.into(),
            Failure::Overloaded => BrokerError::Overloaded.into(),
            Failure::Error(rejection) => Self { code: rejection.code, message: rejection.text.into() },
            Failure::Disconnect(code, reason) => Self { code, message: reason.into() },
        }
    }
}

impl From<ClusterError> for ApiError {
    fn from(error: ClusterError) -> Self {
        let code = match error {
            ClusterError::Broker(error) => return error.into(),
            ClusterError::TooLong | ClusterError::TooMany(_) | ClusterError::TooLarge => code::LIMIT_EXCEEDED,
            ClusterError::NoReceiver | ClusterError::NoSuchNode | ClusterError::Timeout(_) => code::INTERNAL,
        };
        Self { code: code.number, message: error.to_string().into() }
    }
}

impl From<ReloadError> for ApiError {
    fn from(error: ReloadError) -> Self {
        let code = match error {
            ReloadError::NoSources => code::NOT_AVAILABLE,
            ReloadError::Invalid(_) => code::BAD_REQUEST,
            ReloadError::TooMany => code::TOO_MANY_REQUESTS,
            ReloadError::Timeout | ReloadError::Stopped => code::INTERNAL,
        };
        Self { code: code.number, message: format!("{}: {error}", code.text).into() }
    }
}

impl From<BlockError> for ApiError {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::Cluster(error) => error.into(),
            BlockError::Full => Self { code: code::LIMIT_EXCEEDED.number, message: error.to_string().into() },
        }
    }
}

/// The result of a command.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum CommandResult {
    /// The result of `publish`.
    Published(PublishResult),
    /// The result of `broadcast`: one response for each channel, in the order of the request.
    Broadcast { responses: Vec<BroadcastResponse> },
    /// The result of `presence`, by client id.
    Presence { presence: BTreeMap<String, ClientJson> },
    /// The result of `presence_stats`.
    PresenceStats { num_clients: u64, num_users: u64 },
    /// The result of `history`.
    History { publications: Vec<PublicationJson>, offset: u64, epoch: String },
    /// The result of `channels`.
    Channels { channels: BTreeMap<String, ChannelJson> },
    /// The result of `info`.
    Info { nodes: Vec<NodeInfo> },
    /// The result of `connections`, by client id.
    Connections {
        connections: BTreeMap<String, ConnectionJson>,
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
    pub(super) fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text keys and valid JSON")
    }
}

/// The position of a publication in the history; empty if it was not added to one.
#[derive(Debug, Default, Serialize)]
pub(super) struct PublishResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) epoch: Option<String>,
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
pub(super) enum BroadcastResponse {
    Result(PublishResult),
    Error(ApiError),
}

/// A connection.
#[derive(Debug, Serialize)]
pub(super) struct ConnectionJson {
    pub(super) user: String,
    pub(super) transport: String,
    pub(super) protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<String>,
    /// In Unix seconds.
    pub(super) since: u64,
    pub(super) queued_bytes: u64,
    pub(super) num_subs: u64,
    /// The uid of the node.
    pub(super) node: String,
}

/// A client in presence or as the publisher.
#[derive(Debug, Serialize)]
pub(super) struct ClientJson {
    pub(super) client: String,
    pub(super) user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) conn_info: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) chan_info: Option<RawJson>,
}

impl From<&ClientInfo> for ClientJson {
    fn from(info: &ClientInfo) -> Self {
        let json = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map(|b| to_json(b, DataFormat::Auto));
        Self {
            client: info.client.clone(),
            user: info.user.clone(),
            conn_info: json(&info.conn_info),
            chan_info: json(&info.chan_info),
        }
    }
}

/// A publication of a history.
#[derive(Debug, Serialize)]
pub(super) struct PublicationJson {
    pub(super) data: RawJson,
    pub(super) offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tags: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) info: Option<ClientJson>,
}

impl PublicationJson {
    /// The publication as JSON clients of its channel get it.
    pub(super) fn new(publication: &tidings_wire::Publication, format: DataFormat) -> Self {
        let extra = publication.extra.as_deref();
        let tags = extra.map(|extra| &extra.tags).filter(|tags| !tags.is_empty());
        Self {
            data: to_json(&publication.body, format),
            offset: publication.offset().unwrap_or_default(),
            tags: tags.map(|tags| tags.iter().cloned().collect()),
            info: extra.and_then(|extra| extra.info.as_ref()).map(ClientJson::from),
        }
    }
}

/// A channel with subscribers.
#[derive(Debug, Serialize)]
pub(super) struct ChannelJson {
    pub(super) num_clients: u64,
}

/// Encodes bytes as JSON clients get them.
fn to_json(bytes: &[u8], format: DataFormat) -> RawJson {
    let mut json = Vec::with_capacity(bytes.len() + 2);
    body::write_json(bytes, format, &mut json);
    let json = String::from_utf8(json).ok().and_then(|json| RawValue::from_string(json).ok());
    json.unwrap_or_else(|| RawValue::NULL.to_owned())
}

/// Encodes a reply: `{"result":{…}}`, or `{"error":{…}}`.
pub(super) fn encode(reply: &CommandReply) -> Vec<u8> {
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
