//! The client protocol: commands of clients, replies to them, and pushes.
//!
//! It is version 2 of the Centrifugo client protocol (its public `client.proto`): a command has an `id` and one
//! method, its reply the same `id` and a result or an error; a push has no `id`; the empty command is a pong.
//! The types of this module are the protocol's; the codec in `json/` is one way to write them down, and another
//! stands beside it without touching them.
//!
//! Invariants:
//! - What an encoder appends is one object without a line break in it or behind it: the transport frames it.
//! - A command borrows from the bytes it was read from wherever these can be used as they are.

mod json;

use std::borrow::Cow;

use thiserror::Error;

pub use json::{
    PING, parse_json, push_disconnect, push_publication, push_unsubscribe, reply_connect, reply_error,
    reply_ping, reply_publish, reply_subscribe, reply_unsubscribe,
};

/// One command of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// What its reply will carry; 0 when it has none, as for [`Method::Pong`] and `send`.
    pub id: u32,
    /// What is asked for.
    pub method: Method<'a>,
}

/// What a command asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method<'a> {
    /// The first command of a connection.
    Connect(Connect<'a>),
    /// Subscribe to a channel.
    Subscribe(Subscribe<'a>),
    /// End a subscription.
    Unsubscribe {
        /// Of this channel.
        channel: Cow<'a, str>,
    },
    /// Publish into a channel.
    Publish {
        /// Into this one.
        channel: Cow<'a, str>,
        /// The body: in JSON the raw text of the value, which may hold line breaks between its tokens.
        data: Cow<'a, [u8]>,
    },
    /// Asks for an empty reply.
    Ping,
    /// The empty command: answers the server's ping.
    Pong,
    /// A method of the protocol that this server does not have; its name.
    Other(&'static str),
    /// None that the protocol knows.
    Unknown,
}

/// What a client says of itself when it connects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connect<'a> {
    /// Who it is; empty when it does not say.
    pub token: Cow<'a, str>,
    /// What it calls itself, for logs.
    pub name: Cow<'a, str>,
    /// In which version.
    pub version: Cow<'a, str>,
    /// What the application adds, raw as a publication's body.
    pub data: Option<Cow<'a, [u8]>>,
}

/// A subscription that a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// To this channel.
    pub channel: Cow<'a, str>,
    /// What allows it; empty when there is none.
    pub token: Cow<'a, str>,
    /// Whether to send what was published since the position below.
    pub recover: bool,
    /// In which life of the channel's history `offset` counts.
    pub epoch: Cow<'a, str>,
    /// The last publication that the client has seen.
    pub offset: u64,
}

/// What a client is told when it has connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectResult<'a> {
    /// The id of this connection.
    pub client: &'a str,
    /// Which server this is.
    pub version: &'a str,
    /// How often the server pings, in seconds; 0 when it does not.
    pub ping: u32,
    /// Whether pings are to be answered.
    pub pong: bool,
}

/// A command that cannot be understood. Its words tell what is wrong, in at most a few hundred bytes.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{reason}")]
pub struct Malformed {
    /// The command's id where it was read before what is wrong; otherwise 0.
    pub id: u32,
    /// What is wrong, and where.
    pub reason: String,
}
