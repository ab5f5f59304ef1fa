//! A session of MQTT that outlives its connection: its parts, the queue of its messages, and the values that shards and the
//! store of sessions exchange.
//!
//! A session belongs to one place at a time: to the connection of its client, or to the store. It moves in two steps, so that
//! no publication is missed and none arrives twice:
//!
//! - The connection ends ([`SessionChange::Parking`]): the store gets the publications from now on. The shard still has
//!   earlier ones in its mailbox; behind them it finds a message, and passes the state of the session to the store
//!   ([`SessionChange::Parked`]).
//! - The client connects ([`OpenSession`]): the shard gets the publications from now on, behind a message with the state.
//!
//! A session that the broker stores stays there: its connection reads the messages, and stores its steps. The broker assigns the
//! packet identifiers of messages with QoS 1 and 2.
//!
//! Invariants:
//! - A [`MessageQueue`] never has more bytes than its limit; it drops messages with QoS 0 first, then the oldest.
//! - A publication that several subscriptions match is one message ([`combine()`]).
//! - A message with QoS 1 or 2 that was sent keeps its packet identifier until it is acknowledged.

mod change;
mod combine;
mod message;
mod queue;
mod shared;
mod state;

pub use change::{
    CloseWill, Connection, JoinGroup, OpenSession, OpenWill, Parking, Request, Response, SessionChange,
    SessionKey, SharedDelivery, SharedFilter, Step, WillMessage,
};
pub use combine::{Combined, combine};
pub use message::{Acknowledgement, InFlight, Message};
pub use queue::MessageQueue;
pub use shared::{CloseSession, MessagePage, OpenedSession, QueuedMessage, ReadMessages, StoreSteps};
pub use state::{Options, SessionState, StoredSubscription};
