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
mod link;
mod member;
mod plain;
mod resp;
mod resp_commands;
mod resp_table;
mod subscriptions;
mod transaction;

use std::sync::Arc;

use tidings_wire::Channel;
use tidings_wire::plain::telnet::Telnet;

pub(crate) use awaiting::{Awaiting, Outcome};
pub use client::{SessionKey, locate};
pub(crate) use client::{seconds_left, send_push};
pub(crate) use frames::Frames;
pub(crate) use inbox::Inbox;
pub(crate) use join::{Admitting, Join, Owner, Rights, Since, Stage, Wish};
pub use link::{Direction, Link, Protocol};
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
    pub(crate) link: Link,
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
