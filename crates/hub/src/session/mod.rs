//! A session: one client, whatever it speaks and however it is connected.
//!
//! The state is small on purpose. What only some sessions have, or only for a moment, is behind one pointer that
//! is empty while a session is idle.

mod awaiting;
mod client;
mod feed;
mod inbox;
mod plain;
mod resp;
mod resp_commands;
mod subscriptions;

use tidings_wire::Form;

pub(crate) use awaiting::{Awaiting, Outcome};
pub(crate) use inbox::Inbox;
use subscriptions::{Only, Subscription};

use crate::access::Identity;

/// Names a session: its slot, and which of the slot's tenants it is. An answer for an earlier tenant is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId {
    /// The place in the shard's tables; reused.
    pub slot: u32,
    /// Different for every session of a shard until 2³² have come and gone.
    pub generation: u32,
}

/// What a peer speaks, told by its first byte.
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
}

impl Dialect {
    /// All of them, in the order of [`crate::Stats::sessions`].
    pub const ALL: [Self; 5] = [Self::Unknown, Self::Plain, Self::Resp2, Self::Resp3, Self::JsonLines];

    /// What it is called in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Plain => "plain",
            Self::Resp2 => "resp2",
            Self::Resp3 => "resp3",
            Self::JsonLines => "json",
        }
    }

    /// The form in which it takes publications.
    pub fn form(self) -> Form {
        match self {
            Self::Unknown | Self::Plain => Form::Plain,
            Self::Resp2 => Form::Resp2,
            Self::Resp3 => Form::Resp3,
            Self::JsonLines => Form::JsonLine,
        }
    }
}

/// A small fact about a session.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum Flag {
    /// Automatic subscriptions wait for the first byte.
    Held = 1,
    /// The session was ended; nothing it sends counts any more.
    Closing = 1 << 1,
    /// Its peer sends no more; to be closed once everything is answered.
    Finishing = 1 << 2,
    /// It must not be read from until a [`crate::Effect::Resume`].
    Stopped = 1 << 3,
    /// The client protocol's `connect` was accepted.
    Connected = 1 << 4,
    /// A ping was sent and not answered yet.
    PongDue = 1 << 5,
    /// At least one plain line came.
    Spoke = 1 << 6,
}

/// All of them, in one byte.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flags(u8);

impl Flags {
    pub(crate) fn has(self, flag: Flag) -> bool {
        self.0 & flag as u8 != 0
    }

    /// Gives what it was.
    pub(crate) fn set(&mut self, flag: Flag, on: bool) -> bool {
        let before = self.has(flag);
        self.0 = if on { self.0 | flag as u8 } else { self.0 & !(flag as u8) };
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
}

impl Session {
    pub(crate) fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
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

    pub(crate) fn name(&self) -> Option<&str> {
        self.more.as_ref()?.name.as_deref()
    }

    pub(crate) fn is_awaiting(&self) -> bool {
        self.more.as_ref().is_some_and(|m| !m.awaiting.is_empty())
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
            && more.name.is_none()
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
