//! The data plane: threads that own connections.
//!
//! A shard is one thread with an epoll loop. It owns its sockets outright, drives a [`tidings_hub::Hub`] with
//! what they send, and writes what the hub and the broker give it. Other threads reach it through its
//! [`Mailbox`] only.
//!
//! Invariants:
//! - Nothing on a shard's thread waits: sockets are non-blocking, and what the control plane does is a
//!   request through [`Control`] whose response is a message.
//! - A publication is encoded once per wire form, joined with the others of its channel that wait, and written
//!   straight to every socket. Only what a socket does not take at once is queued, and only then a queue exists.
//! - A queue is bounded in bytes; at the bound the channel's policy decides, and the peer is notified of what it missed.
//!   Control traffic is never dropped: a peer that does not take its answers is not read from.
//! - An idle connection owns no buffer and no timer; one with TLS owns what rustls keeps for it, in a box of its own.

mod accept;
mod address;
mod body;
mod conn;
mod control;
mod drain;
mod events;
mod fanout;
mod mailbox;
mod metrics;
mod queue;
mod rate;
mod reading;
mod reads;
mod shard;
mod socket;
mod stranded;
mod tls;
mod unread;
mod wheel;
mod writing;

pub use address::{AddressLimits, AddressRange, client_network};
pub use body::{Body, Opening};
pub use control::{Control, Reply, TlsHandoff};
pub use events::Events;
pub use mailbox::{Arrival, Change, Mailbox, ShardMessage};
pub use metrics::{FANOUT_BOUNDS, Metrics, Process};
pub use rate::{Clock, RateLimit};
pub use shard::{Limits, PreparedShards, prepare};
pub use socket::{Listener, Socket};
pub use tls::{Tls, Transport};
