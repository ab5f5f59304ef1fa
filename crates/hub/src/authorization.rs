//! Decisions that require the verification of a token or a call of the application: the requests and their responses.
//! The control plane executes them.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use tidings_capabilities::{Allow, Capabilities};
use tidings_tags_filter::Filter;
use tidings_wire::client::Encoding;
pub use tidings_wire::grant::{ChannelOverrides, TokenId};
use tidings_wire::{Channel, Labels, MessageProperties};

use crate::effects::Failure;
use crate::stream_lease::StreamLease;

/// The transport and the HTTP headers of a connection, for hooks. Shared, and stored only if a hook is configured or a proxy has
/// authenticated the user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The name of the transport, such as `websocket`.
    pub transport: &'static str,
    /// The headers of the HTTP request of the connection, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The user that a trusted proxy has authenticated.
    pub user: Option<Box<str>>,
}

/// The client for which a decision is requested.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requester {
    /// The id of the connection.
    pub client: String,
    /// The user; empty for an anonymous client.
    pub user: String,
    /// Data that the application attached to the connection (JSON).
    pub meta: Option<Bytes>,
    /// The labels of the connection.
    pub labels: Option<Arc<Labels>>,
    /// The transport and headers.
    pub connection_info: Option<Arc<ConnectionInfo>>,
    /// The address; `None` if it is unknown. The control plane sets it: the hub knows no addresses.
    pub address: Option<IpAddr>,
    /// The encoding of its messages and their data.
    pub encoding: Encoding,
}

/// A request for the verification of a token, or for a call of the application.
#[derive(Debug, PartialEq, Eq)]
pub enum AuthorizationRequest {
    /// Accept a connection. The response is [`crate::Response::Connected`].
    Connect {
        /// The client, which has no user yet.
        requester: Requester,
        /// The connection token; may be empty.
        token: String,
        /// The data in `connect`.
        data: Option<Bytes>,
        /// The name of the client software.
        name: String,
        /// Its version.
        version: String,
        /// Headers that the client put into `connect` because it could not set them.
        headers: Vec<(String, String)>,
    },
    /// Reject a secret in `AUTH` that is neither the API key nor a possible token. The response is the error 101, after
    /// a delay that slows down guesses.
    Reject {
        /// The client.
        requester: Requester,
    },
    /// Allow a subscription. The response is [`crate::Response::Allowed`].
    Subscribe {
        /// The client.
        requester: Requester,
        /// The channel.
        channel: Channel,
        /// The subscription token; may be empty.
        token: String,
        /// The data in `subscribe`.
        data: Option<Bytes>,
    },
    /// Renew a connection. The response is [`crate::Response::Renewed`].
    Refresh {
        /// The client.
        requester: Requester,
        /// The new connection token.
        token: String,
    },
    /// Renew a subscription. The response is [`crate::Response::Renewed`].
    SubRefresh {
        /// The client.
        requester: Requester,
        /// The channel.
        channel: Channel,
        /// The new subscription token.
        token: String,
    },
    /// Ask the application whether a connection that expires may continue, or with a channel its subscription to that. The
    /// response is [`crate::Response::Renewed`].
    Renew {
        /// The client.
        requester: Requester,
        /// The channel of the subscription.
        channel: Option<Channel>,
    },
    /// Publish, if the application allows it, possibly with another body. The response is
    /// [`crate::Response::Published`].
    Publish {
        /// The client.
        requester: Requester,
        /// The channel.
        channel: Channel,
        /// The body from the client.
        body: Bytes,
        /// Information about the client, for subscribers.
        info: tidings_wire::ClientInfo,
        /// Tags for subscribers; those of the application's response replace them.
        tags: Vec<(String, String)>,
        /// The properties of a message of MQTT.
        message: Option<Box<MessageProperties>>,
    },
    /// Accept a user whose credentials the protocol has verified itself, unless the user is blocked. The response is
    /// [`crate::Response::Connected`].
    SignIn {
        /// The client.
        requester: Requester,
        /// The user.
        user: String,
    },
    /// Call the application. The response is [`crate::Response::Replied`].
    Rpc {
        /// The client.
        requester: Requester,
        /// The method; may be empty.
        method: String,
        /// The data of the call.
        data: Option<Bytes>,
    },
}

impl AuthorizationRequest {
    /// The client for which the decision is requested.
    pub fn requester_mut(&mut self) -> &mut Requester {
        match self {
            Self::Connect { requester, .. }
            | Self::Reject { requester }
            | Self::Subscribe { requester, .. }
            | Self::Refresh { requester, .. }
            | Self::SubRefresh { requester, .. }
            | Self::Renew { requester, .. }
            | Self::Publish { requester, .. }
            | Self::SignIn { requester, .. }
            | Self::Rpc { requester, .. } => requester,
        }
    }

    /// Whether to accept a connection whose protocol has no fields besides a token; empty without one.
    pub fn connect(requester: Requester, token: &str) -> Self {
        Self::Connect {
            requester,
            token: token.to_owned(),
            data: None,
            name: String::new(),
            version: String::new(),
            headers: Vec::new(),
        }
    }
}

/// An accepted connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connected {
    /// The user; empty for an anonymous client.
    pub user: String,
    /// When it expires unless it is renewed, in Unix seconds.
    pub expires: Option<u64>,
    /// Information about the client for other clients (JSON, or any bytes for Protobuf clients).
    pub info: Option<Bytes>,
    /// Data that the application attaches to the connection (JSON).
    pub meta: Option<Bytes>,
    /// Data for the client.
    pub data: Option<Bytes>,
    /// The channels that the server subscribes it to.
    pub subs: Vec<(Channel, Admission)>,
    /// The connection token, if there is one.
    pub token: Option<TokenId>,
    /// What it may do besides the options of channels.
    pub capabilities: Option<Arc<Capabilities>>,
    /// Names with values by which the application selects connections.
    pub labels: Option<Arc<Labels>>,
    /// When it was accepted, in Unix microseconds. Of two connections of a user, the later one is newer.
    pub since: u64,
}

/// An allowed subscription, and its differences from others of the channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// Information about the client for other subscribers of the channel.
    pub info: Option<Bytes>,
    /// Data for the client.
    pub data: Option<Bytes>,
    /// When it expires unless it is renewed, in Unix seconds.
    pub expires: Option<u64>,
    /// Options of the channel that are different for this subscription.
    pub overrides: ChannelOverrides,
    /// The subscription gets only the publications that pass this filter.
    pub filter: Option<Arc<Filter>>,
    /// What the client may do in the channel besides its options.
    pub allow: Allow,
    /// The subscription token, if there is one.
    pub token: Option<TokenId>,
    /// The stream of publications for this subscription alone, if there is one.
    pub stream: Option<StreamLease>,
}

/// A renewed connection or subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// When it expires, in Unix seconds; `None` is never.
    pub expires: Option<u64>,
    /// The new information about the client for other clients, if it changes.
    pub info: Option<Bytes>,
    /// The new data about the client for hooks, if it changes. Of a connection alone.
    pub meta: Option<Bytes>,
    /// The new token of the connection or of the subscription.
    pub token: Option<TokenId>,
    /// The new capabilities of a connection, or that it has none any more; `None` if they stay.
    pub capabilities: Option<Option<Arc<Capabilities>>>,
    /// What the client may do in the channel of a subscription; `None` if that stays.
    pub allow: Option<Allow>,
}

/// Why a request was rejected, by the application or by the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// A number of [`tidings_wire::code`], or of the application.
    pub code: u16,
    /// The reason.
    pub text: String,
    /// Whether a retry may succeed.
    pub temporary: bool,
}

impl From<tidings_wire::code::Code> for Rejection {
    fn from(code: tidings_wire::code::Code) -> Self {
        Self { code: code.number, text: code.text.to_owned(), temporary: code.temporary }
    }
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Error(rejection)
    }
}
