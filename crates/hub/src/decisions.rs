//! Decisions that need a token's verification or a call of the application: the requests and their responses.
//! The control plane carries them out.

use std::sync::Arc;

use bytes::Bytes;
use tidings_wire::client::Encoding;
pub use tidings_wire::grant::{ChannelOverrides, TokenId};
use tidings_wire::{Channel, Position};

use crate::effects::Failure;

/// The transport and the HTTP headers of a connection, for hooks. Shared, and kept only where a hook may need it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The name of the transport: `websocket`, `sse`, …
    pub transport: &'static str,
    /// The headers of the HTTP request that the connection began with, names in lower case.
    pub headers: Vec<(String, String)>,
}

/// The client on whose behalf a decision is requested.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requester {
    /// The connection's id.
    pub client: String,
    /// Its user; empty for an anonymous one.
    pub user: String,
    /// Data that the application attached to the connection, for itself (JSON).
    pub meta: Option<Bytes>,
    /// Its transport and headers.
    pub about: Option<Arc<ConnectionInfo>>,
    /// How its messages and their data are encoded.
    pub encoding: Encoding,
}

/// A request whose response takes a token's verification or a call of the application.
#[derive(Debug, PartialEq, Eq)]
pub enum Decide {
    /// May this connection be accepted? Answered with [`crate::Response::Connected`].
    Connect {
        /// Its id; the user is not known yet.
        who: Requester,
        /// The connection token; empty when there is none.
        token: String,
        /// What the application put into `connect`.
        data: Option<Bytes>,
        /// What the client's software calls itself.
        name: String,
        /// In which version.
        version: String,
        /// Headers that the client could not send and put into `connect` instead.
        headers: Vec<(String, String)>,
    },
    /// It gave a secret in `AUTH` that is neither the API key nor can be a token. Answered with the error 101, late enough to
    /// slow down guesses.
    Reject {
        /// The connection.
        who: Requester,
    },
    /// May it subscribe? Answered with [`crate::Response::Allowed`].
    Subscribe {
        /// The client.
        who: Requester,
        /// To this channel.
        channel: Channel,
        /// The subscription token; empty when there is none.
        token: String,
        /// What the application put into `subscribe`.
        data: Option<Bytes>,
    },
    /// May it stay? Answered with [`crate::Response::Renewed`].
    Refresh {
        /// The client.
        who: Requester,
        /// The new connection token.
        token: String,
    },
    /// May it stay subscribed? Answered with [`crate::Response::Renewed`].
    SubRefresh {
        /// The client.
        who: Requester,
        /// To this channel.
        channel: Channel,
        /// The new subscription token.
        token: String,
    },
    /// May it publish, and what? Answered with [`crate::Response::Published`], once that is done.
    Publish {
        /// The client.
        who: Requester,
        /// Into this channel.
        channel: Channel,
        /// The body as the client sent it.
        body: Bytes,
        /// The publishing client, as subscribers see it.
        info: tidings_wire::ClientInfo,
        /// Tags for subscribers; those of the application's response replace them.
        tags: Vec<(String, String)>,
    },
    /// What does the application answer? Answered with [`crate::Response::Replied`].
    Rpc {
        /// The client.
        who: Requester,
        /// Which method; may be empty.
        method: String,
        /// The data of the call.
        data: Option<Bytes>,
    },
}

/// An accepted connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connected {
    /// Its user; empty for an anonymous one.
    pub user: String,
    /// When it ends unless it is refreshed, in Unix seconds.
    pub expires: Option<u64>,
    /// What other clients see of it (JSON, or any bytes for Protobuf clients).
    pub info: Option<Bytes>,
    /// Data that the application attaches to the connection, for itself (JSON).
    pub meta: Option<Bytes>,
    /// Data for the client.
    pub data: Option<Bytes>,
    /// The channels that the server subscribes it to.
    pub subs: Vec<(Channel, Admission)>,
    /// Its token, where it has one.
    pub token: Option<TokenId>,
    /// The time, in Unix microseconds: of two connections of a user, the later one is the newer.
    pub since: u64,
}

/// A subscription that is allowed, and how it differs from others of its channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admission {
    /// What other subscribers see of the client in this channel.
    pub info: Option<Bytes>,
    /// Data for the client.
    pub data: Option<Bytes>,
    /// When it ends unless it is refreshed, in Unix seconds.
    pub expires: Option<u64>,
    /// Options of the channel that are different here.
    pub overrides: ChannelOverrides,
    /// The subscription token that allows it, if one does.
    pub token: Option<TokenId>,
}

/// An order of the application to sessions, wherever they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// To all sessions of this user. Empty with a `client` or a `session` named: whoever that is; empty alone: to the
    /// sessions of anonymous clients.
    pub user: String,
    /// To this connection alone.
    pub client: Option<String>,
    /// To this session alone, by the secret that its client was given.
    pub session: Option<String>,
    /// What they are to do.
    pub order: Order,
}

/// What sessions are to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Be subscribed to a channel.
    Subscribe {
        /// The channel.
        channel: Channel,
        /// How.
        admission: Box<Admission>,
        /// Send what was published since.
        since: Option<Position>,
    },
    /// Be subscribed no longer.
    Unsubscribe {
        /// To this channel; `None`: to any.
        channel: Option<Channel>,
        /// The code for the client; from 2500 on it subscribes again.
        code: u16,
        /// In words.
        reason: String,
    },
    /// End.
    Disconnect {
        /// The code for the client; below 3500 it connects again.
        code: u16,
        /// In words.
        reason: String,
        /// Connections that stay.
        except: Vec<String>,
    },
    /// End in favour of a newer connection of the same user.
    Replace {
        /// The newer one.
        client: String,
        /// When it was accepted, in Unix microseconds; connections of the same time are ordered by their ids.
        since: u64,
    },
    /// End if the connection's token is one of these, also without a user named in the directive.
    EndTokens {
        /// The one with this id.
        id: Option<String>,
        /// Those that were issued before this time, in Unix seconds, or contain no time.
        issued_before: Option<u64>,
        /// The code for the client; from 3500 on it does not connect again.
        code: u16,
        /// In words.
        reason: String,
    },
    /// Stay until another time, or end as expired.
    Refresh {
        /// Whether the time is over.
        expired: bool,
        /// Until when, in Unix seconds; `None` is for ever.
        expires: Option<u64>,
    },
}

/// Why something was not done, in the application's or the protocol's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// A number of [`tidings_wire::code`], or the application's own.
    pub code: u16,
    /// In words.
    pub text: String,
    /// Whether the same may succeed later.
    pub temporary: bool,
}

impl From<tidings_wire::code::Code> for Rejection {
    fn from(code: tidings_wire::code::Code) -> Self {
        Self { code: code.number, text: code.text.to_owned(), temporary: code.temporary }
    }
}

impl From<Rejection> for Failure {
    fn from(verdict: Rejection) -> Self {
        Self::Error(verdict)
    }
}
