//! A session: one client, whatever it speaks and however it is connected.
//!
//! The state is small on purpose. What only some sessions have, or only for a moment, is behind one pointer that
//! is empty while a session is idle.

mod awaiting;
mod client;
mod feed;
mod frames;
mod inbox;
mod join;
mod lines;
mod member;
mod plain;
mod resp;
mod resp_commands;
mod resp_table;
mod subscriptions;
mod transaction;

use std::sync::Arc;

use tidings_wire::client::Encoding;
use tidings_wire::plain::telnet::Telnet;
use tidings_wire::{Channel, Form};

pub(crate) use awaiting::{Awaiting, Outcome};
pub use client::{SessionKey, locate};
pub(crate) use client::{seconds_left, send_error_event, send_push};
pub(crate) use frames::Frames;
pub(crate) use inbox::Inbox;
pub(crate) use join::{Admitting, Join, Owner, Rights, Since, Stage, Wish};
pub(crate) use member::{Mark, Marks, Member, Sub};
use resp_commands::Greeting;
use subscriptions::{Only, Subscription};
use transaction::Transaction;

use crate::access::Identity;
use crate::deciding::{About, Admission};

/// Names a session: its slot, and which of the slot's tenants it is. An answer for an earlier tenant is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId {
    /// The place in the shard's tables; reused.
    pub slot: u32,
    /// Different for every session of a shard until 2³² have come and gone.
    pub generation: u32,
}

/// What a peer speaks: told by its first byte on the line port, and by the path on the HTTP port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Nothing was received yet; treated as plain when something must be sent.
    #[default]
    Unknown,
    /// Plain lines.
    Plain,
    /// RESP, version 2 until `HELLO 3`.
    Resp2,
    /// RESP, version 3.
    Resp3,
    /// The client protocol, one JSON object a line.
    JsonLines,
    /// The client protocol in JSON, in text frames of a WebSocket.
    WsJson,
    /// The client protocol in Protobuf, in binary frames of a WebSocket.
    WsProtobuf,
    /// As [`Self::WsJson`], where compression was agreed on: messages may be compressed, each on its own.
    WsJsonDeflate,
    /// As [`Self::WsProtobuf`], likewise.
    WsProtobufDeflate,
    /// The client protocol in JSON, one object a line, over an HTTP body; commands come in other requests.
    StreamJson,
    /// The client protocol in Protobuf, each message behind its length, over an HTTP body.
    StreamProtobuf,
    /// The client protocol in JSON, in server-sent events.
    Sse,
    /// Pushes alone, in text frames of a WebSocket.
    UniWs,
    /// Pushes alone, one JSON object a line, over an HTTP body.
    UniStream,
    /// Pushes alone, in server-sent events.
    UniSse,
    /// Server-sent events that are the publications' data.
    Events,
}

/// What its commands and answers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Plain,
    Resp,
    Client,
}

impl Dialect {
    /// All of them, in the order of [`crate::Stats::sessions`].
    pub const ALL: [Self; 16] = [
        Self::Unknown,
        Self::Plain,
        Self::Resp2,
        Self::Resp3,
        Self::JsonLines,
        Self::WsJson,
        Self::WsProtobuf,
        Self::WsJsonDeflate,
        Self::WsProtobufDeflate,
        Self::StreamJson,
        Self::StreamProtobuf,
        Self::Sse,
        Self::UniWs,
        Self::UniStream,
        Self::UniSse,
        Self::Events,
    ];

    /// What it is called in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Plain => "plain",
            Self::Resp2 => "resp2",
            Self::Resp3 => "resp3",
            Self::JsonLines => "json",
            Self::WsJson => "websocket_json",
            Self::WsProtobuf => "websocket_protobuf",
            Self::WsJsonDeflate => "websocket_json_deflate",
            Self::WsProtobufDeflate => "websocket_protobuf_deflate",
            Self::StreamJson => "http_stream_json",
            Self::StreamProtobuf => "http_stream_protobuf",
            Self::Sse => "sse",
            Self::UniWs => "uni_websocket",
            Self::UniStream => "uni_http_stream",
            Self::UniSse => "uni_sse",
            Self::Events => "events",
        }
    }

    /// The form in which it takes publications.
    pub fn form(self) -> Form {
        match self {
            Self::Unknown | Self::Plain => Form::Plain,
            Self::Resp2 => Form::Resp2,
            Self::Resp3 => Form::Resp3,
            Self::JsonLines | Self::StreamJson => Form::JsonLine,
            Self::WsJson => Form::WsJson,
            Self::WsProtobuf => Form::WsProtobuf,
            Self::WsJsonDeflate => Form::WsJsonDeflate,
            Self::WsProtobufDeflate => Form::WsProtobufDeflate,
            Self::StreamProtobuf => Form::ProtobufStream,
            Self::Sse => Form::Sse,
            Self::UniWs => Form::UniWs,
            Self::UniStream => Form::UniLine,
            Self::UniSse => Form::UniSse,
            Self::Events => Form::Event,
        }
    }

    pub(crate) fn protocol(self) -> Protocol {
        match self {
            Self::Unknown | Self::Plain => Protocol::Plain,
            Self::Resp2 | Self::Resp3 => Protocol::Resp,
            _ => Protocol::Client,
        }
    }

    /// Whether it is the client protocol, or a one-way form of it.
    pub(crate) fn is_client(self) -> bool {
        self.protocol() == Protocol::Client
    }

    /// How it writes the client protocol's messages; JSON where it does not speak it.
    pub fn encoding(self) -> Encoding {
        match self {
            Self::WsProtobuf | Self::WsProtobufDeflate | Self::StreamProtobuf => Encoding::Protobuf,
            _ => Encoding::Json,
        }
    }

    /// Whether its peer only listens: it gets pushes and no replies.
    pub fn is_one_way(self) -> bool {
        matches!(self, Self::UniWs | Self::UniStream | Self::UniSse | Self::Events)
    }

    /// Whether its commands come by other requests than the one that its answers go to.
    pub fn is_emulated(self) -> bool {
        matches!(self, Self::StreamJson | Self::StreamProtobuf | Self::Sse)
    }

    /// Whether its bytes are those of a WebSocket.
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::WsJson | Self::WsProtobuf | Self::UniWs) || self.is_deflated()
    }

    /// Whether those may be compressed.
    pub fn is_deflated(self) -> bool {
        matches!(self, Self::WsJsonDeflate | Self::WsProtobufDeflate)
    }
}

/// A small fact about a session.
#[derive(Clone, Copy, Debug)]
#[repr(u16)]
pub(crate) enum Flag {
    /// Automatic subscriptions wait for the first byte.
    Held = 1,
    /// The session was ended; nothing it sends counts any more.
    Closing = 1 << 1,
    /// Its peer sends no more; to be closed once everything is answered.
    Finishing = 1 << 2,
    /// It must not be read from until a [`crate::Effect::Resume`].
    Stopped = 1 << 3,
    /// The client protocol's `connect` was accepted, or `AUTH` on the other dialects.
    Connected = 1 << 4,
    /// A ping was sent and not answered yet.
    PongDue = 1 << 5,
    /// At least one plain line came.
    Spoke = 1 << 6,
    /// The last plain line ended in `\r`: a `\n` that comes next belongs to it.
    Returned = 1 << 7,
    /// The next command was charged before it had to wait for its turn.
    Charged = 1 << 8,
}

/// All of them, in two bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags(u16);

impl Flags {
    pub(crate) fn has(self, flag: Flag) -> bool {
        self.0 & flag as u16 != 0
    }

    /// Gives what it was.
    pub(crate) fn set(&mut self, flag: Flag, on: bool) -> bool {
        let before = self.has(flag);
        self.0 = if on { self.0 | flag as u16 } else { self.0 & !(flag as u16) };
        before
    }
}

/// One client.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) generation: u32,
    pub(crate) dialect: Dialect,
    pub(crate) identity: Identity,
    pub(crate) flags: Flags,
    only: Only,
    more: Option<Box<More>>,
}

/// What an idle session does not have.
#[derive(Debug, Default)]
pub(crate) struct More {
    pub(crate) inbox: Inbox,
    pub(crate) awaiting: Awaiting,
    pub(crate) decoder: tidings_wire::resp::Decoder,
    /// All subscriptions, once there are two.
    subscriptions: Vec<Subscription>,
    /// `CLIENT SETNAME`.
    pub(crate) name: Option<Box<str>>,
    /// What RESP's `MULTI` has begun.
    pub(crate) transaction: Option<Box<Transaction>>,
    /// Where in a sequence of telnet its input has ended.
    pub(crate) telnet: Telnet,
    /// `HELLO` whose token is being looked at.
    pub(crate) greeting: Option<Box<Greeting>>,
    /// What the transport knows of the connection.
    pub(crate) about: Option<Arc<About>>,
    /// A message of a WebSocket that has begun, or whose commands are not all done.
    pub(crate) frames: Option<Box<Frames>>,
    /// The subscriptions that the client requested in its `connect`.
    pub(crate) requested: Vec<(Channel, Wish)>,
    /// Channels that it may ask for by its token, where they do not come by themselves: event sources, and the
    /// dialects without a `connect`.
    pub(crate) granted: Vec<(Channel, Admission)>,
    /// Who it is and how it is subscribed, where there is something to be said.
    pub(crate) member: Option<Box<Member>>,
}

impl Session {
    pub(crate) fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    pub(crate) fn peek_more(&self) -> Option<&More> {
        self.more.as_deref()
    }

    pub(crate) fn existing_more(&mut self) -> Option<&mut More> {
        self.more.as_deref_mut()
    }

    /// Keeps a copy of input that was not used; `searched` bytes of it hold no line break.
    pub(crate) fn keep(&mut self, bytes: &[u8], searched: usize) {
        if !bytes.is_empty() {
            self.more().inbox.keep_copy(bytes, searched);
        }
    }

    pub(crate) fn has_more(&self) -> bool {
        self.more.is_some()
    }

    pub(crate) fn member(&self) -> Option<&Member> {
        self.more.as_ref()?.member.as_deref()
    }

    /// Its subscriptions of the client protocol that are under way.
    pub(crate) fn joins(&self) -> impl Iterator<Item = &Join> {
        self.more.iter().flat_map(|more| more.awaiting.joins())
    }

    pub(crate) fn existing_member(&mut self) -> Option<&mut Member> {
        self.more.as_mut()?.member.as_deref_mut()
    }

    /// Whether its token lets it subscribe to this channel.
    pub(crate) fn is_granted(&self, channel: &Channel) -> bool {
        self.more.as_ref().is_some_and(|more| more.granted.iter().any(|(granted, _)| granted == channel))
    }

    pub(crate) fn about(&self) -> Option<&Arc<About>> {
        self.more.as_ref()?.about.as_ref()
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.more.as_ref()?.name.as_deref()
    }

    pub(crate) fn is_awaiting(&self) -> bool {
        self.more.as_ref().is_some_and(|m| !m.awaiting.is_empty())
    }

    /// Whether commands stand in line that must be answered before others are carried out.
    pub(crate) fn is_queued(&self) -> bool {
        self.more.as_ref().is_some_and(|m| !m.awaiting.is_clear())
    }

    /// Whether a subscription is under way.
    pub(crate) fn is_awaiting_subscription(&self) -> bool {
        self.more.as_ref().is_some_and(|m| m.awaiting.subscribes() > 0)
    }

    /// Gives back what an idle session does not need.
    pub(crate) fn settle(&mut self) {
        if let Some(more) = &self.more
            && more.inbox.is_empty()
            && more.awaiting.is_empty()
            && more.subscriptions.is_empty()
            && more.transaction.is_none()
            && more.telnet == Telnet::Text
            && more.name.is_none()
            && more.about.is_none()
            && more.frames.is_none()
            && more.requested.is_empty()
            && more.granted.is_empty()
            && more.member.is_none()
        {
            self.more = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_small() {
        assert!(size_of::<Session>() <= 24, "{}", size_of::<Session>());
    }
}
