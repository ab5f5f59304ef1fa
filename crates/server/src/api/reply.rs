//! Answers as they are written, and their errors.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use tidings_broker::{BrokerError, Published};
use tidings_hub::Failure;
use tidings_wire::ClientInfo;
use tidings_wire::body::{self, DataFormat};
use tidings_wire::code::{self, Code};

use super::command::Json;
use crate::blocking::BlockError;
use tidings_cluster::{ClusterError, NodeInfo};

/// What came of a command.
pub(super) type Reply = Result<Outcome, ApiError>;

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct ApiError {
    /// A number of [`tidings_wire::code`].
    pub(super) code: u16,
    /// In words.
    pub(super) message: Cow<'static, str>,
}

impl ApiError {
    /// A request that cannot be carried out as it is, with what is wrong with it.
    pub(super) fn bad(why: impl std::fmt::Display) -> Self {
        Self { code: code::BAD_REQUEST.number, message: format!("{}: {why}", code::BAD_REQUEST.text).into() }
    }

    /// As JSON.
    pub(super) fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a number and a text")
    }

    /// The HTTP status that says the same, as Centrifugo's documentation maps them ("Transport error mode"). Two
    /// that it has not are mapped here: too many requests, and permission denied.
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
            BrokerError::Invalid(why) => Self::bad(why),
            other => Self { code: code::INTERNAL.number, message: other.to_string().into() },
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable => BrokerError::Unavailable.into(),
            Failure::Overloaded => BrokerError::Overloaded.into(),
            Failure::Error(verdict) => Self { code: verdict.code, message: verdict.text.into() },
            Failure::Disconnect(code, reason) => Self { code, message: reason.into() },
        }
    }
}

impl From<ClusterError> for ApiError {
    fn from(error: ClusterError) -> Self {
        let code = match error {
            ClusterError::Broker(error) => return error.into(),
            ClusterError::TooLong | ClusterError::TooMany(_) | ClusterError::TooLarge => code::LIMIT_EXCEEDED,
            ClusterError::NoReceiver | ClusterError::NoSuchNode | ClusterError::Silent(_) => code::INTERNAL,
        };
        Self { code: code.number, message: error.to_string().into() }
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

/// What a command gave.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Outcome {
    /// Of `publish`.
    Published(PublishResult),
    /// Of `broadcast`: for each channel, in their order.
    Broadcast { responses: Vec<Response> },
    /// Of `presence`, by the ids of clients.
    Presence { presence: BTreeMap<String, Client> },
    /// Of `presence_stats`.
    PresenceStats { num_clients: u64, num_users: u64 },
    /// Of `history`.
    History { publications: Vec<Publication>, offset: u64, epoch: String },
    /// Of `channels`.
    Channels { channels: BTreeMap<String, Channel> },
    /// Of `info`.
    Info { nodes: Vec<NodeInfo> },
    /// Of all others: nothing to say.
    Done {},
}

impl Outcome {
    /// As JSON.
    pub(super) fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text keys and valid JSON")
    }
}

/// Where a publication stands, if it was kept.
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

/// One of several answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Response {
    Result(PublishResult),
    Error(ApiError),
}

/// Who a client is.
#[derive(Debug, Serialize)]
pub(super) struct Client {
    pub(super) client: String,
    pub(super) user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) conn_info: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) chan_info: Option<Json>,
}

impl From<&ClientInfo> for Client {
    fn from(info: &ClientInfo) -> Self {
        let shown = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map(|b| shown(b, DataFormat::Auto));
        Self {
            client: info.client.clone(),
            user: info.user.clone(),
            conn_info: shown(&info.conn_info),
            chan_info: shown(&info.chan_info),
        }
    }
}

/// A publication of a history.
#[derive(Debug, Serialize)]
pub(super) struct Publication {
    pub(super) data: Json,
    pub(super) offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tags: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) info: Option<Client>,
}

impl Publication {
    /// As JSON clients of its channel see it.
    pub(super) fn new(publication: &tidings_wire::Publication, format: DataFormat) -> Self {
        let extra = publication.extra.as_deref();
        let tags = extra.map(|extra| &extra.tags).filter(|tags| !tags.is_empty());
        Self {
            data: shown(&publication.body, format),
            offset: publication.offset().unwrap_or_default(),
            tags: tags.map(|tags| tags.iter().cloned().collect()),
            info: extra.and_then(|extra| extra.info.as_ref()).map(Client::from),
        }
    }
}

/// A channel with subscribers.
#[derive(Debug, Serialize)]
pub(super) struct Channel {
    pub(super) num_clients: u64,
}

/// Bytes as JSON, as clients see them.
fn shown(bytes: &[u8], format: DataFormat) -> Json {
    let mut json = Vec::with_capacity(bytes.len() + 2);
    body::write_json(bytes, format, &mut json);
    let json = String::from_utf8(json).ok().and_then(|json| RawValue::from_string(json).ok());
    json.unwrap_or_else(|| RawValue::NULL.to_owned())
}

/// Writes a reply: `{"result":{…}}`, or `{"error":{…}}`.
pub(super) fn write(reply: &Reply) -> Vec<u8> {
    let (key, value) = match reply {
        Ok(outcome) => ("result", outcome.json()),
        Err(error) => ("error", error.json()),
    };
    let mut out = Vec::with_capacity(value.len() + key.len() + 5);
    for part in [b"{\"", key.as_bytes(), b"\":", &value, b"}"] {
        out.extend_from_slice(part);
    }
    out
}
