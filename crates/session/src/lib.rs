//! Sessions: one module per protocol, which translates bytes to operations of the hub and events of the hub to bytes.
//!
//! A [`Hub`] of this crate is given what a connection reads ([`input()`], [`commands()`]) and appends what the connection is to
//! write to [`Effects`](tidings_hub::Effects). So everything that a client can do is tested here without a network.
//!
//! Invariants:
//! - A module of a protocol uses the codec of `tidings-wire`, the hub's operations and the helpers of the session's
//!   context. No module of a protocol refers to another one.
//! - Which protocol a session speaks is decided in two places: [`Link`], whose table has a row for each way to connect, and
//!   `protocols`, which calls the module of the protocol.
//! - The only bytes kept of a session's input are those that were read and not used yet, within the limit of its protocol.

mod client;
mod context;
mod events;
mod frames;
mod inbox;
mod input;
mod lines;
mod link;
mod notices;
mod plain;
mod protocols;
mod resp;
mod state;
mod stomp;

pub use frames::{awaits_close, closing_input};
pub use input::{commands, finish, input};
pub use link::{Direction, Link, Protocol};
pub use notices::{gap_notice, overload_notice, refusal_notice};
pub use protocols::{Protocols, Stats, address};
pub use state::Peer;

/// A hub whose sessions speak the protocols of this crate.
pub type Hub = tidings_hub::Hub<Protocols>;
