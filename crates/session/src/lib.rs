//! Sessions: one module per protocol, which translates bytes to operations of the hub, and events of the hub to bytes.
//!
//! [`input()`] and [`commands()`] pass the input of a connection to its session. The output is appended to
//! [`Effects`](tidings_hub::Effects). So all behaviour of sessions is tested in this crate without a network.
//!
//! Invariants:
//! - A protocol module uses the codec of `tidings-wire`, the operations of the hub, and the helpers of the session's
//!   context. No protocol module refers to another one.
//! - The protocol of a session is determined in two places: [`Link`], with a table row for each way to connect, and
//!   `protocols`, which calls the module of the protocol.
//! - Of a session's input, only unused bytes are kept, within the limit of the protocol.

mod client;
mod consumed;
mod context;
mod events;
mod frame_state;
mod frames;
mod input;
mod input_buffer;
mod lines;
mod link;
mod messages;
mod module;
mod mqtt;
mod notices;
mod peer;
mod plain;
mod protocols;
mod pusher;
mod resp;
mod settings;
mod shared;
mod state;
mod stomp;

pub use frames::{awaits_close, closing_input};
pub use input::{commands, finish, input};
pub use link::{Direction, Link, Protocol};
pub use messages::{Effect, Effects, Event, Messages, Notification, Request, Response};
pub use module::Addressed;
pub use mqtt::{deliver_shared, messages_waiting, parked};
pub use notices::{gap_notice, overload_notice, refusal_notice};
pub use peer::Peer;
pub use protocols::address;
pub use pusher::{Opening as PusherOpening, end_removed_apps, subscription_counts};
pub use settings::{MqttSettings, ProtocolSettings};
pub use shared::{MqttStats, Protocols, Stats};

/// A hub with the protocols of this crate.
pub type Hub = tidings_hub::Hub<Protocols>;
