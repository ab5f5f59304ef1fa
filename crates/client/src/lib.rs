//! A client of tidings, used by the commands of the program and by tests.
//!
//! | module | purpose |
//! |---|---|
//! | [`client`] | the client protocol, over as many connections as it takes: subscriptions that recover |
//! | [`connection`] | the same over one connection: WebSocket (JSON, Protobuf), or JSON lines on the line port |
//! | [`ws`] | WebSocket itself |
//! | [`resp`] | RESP3 on the line port |
//! | [`mqtt`] | MQTT 5.0 |
//! | [`http`], [`api`] | HTTP requests; publishing over the server API |
//! | [`events`] | event streams |
//! | [`table`] | shared tables |
//!
//! [`tls`] configures the trusted certificates.
//!
//! The crate prints nothing and leaves policy to the commands. Everything runs on the caller's task, except for one
//! task per HTTP connection. All `async` functions documented as "cancel safe" may be dropped before
//! completion and called again.
//!
//! Invariants:
//! - Every wait has a timeout; all data buffered for the caller is bounded in bytes.
//! - Bytes that the kernel has accepted are never sent a second time, unless the server can detect the repetition (an
//!   idempotency key).
//! - A gap is never silent: a restored subscription reports whether publications are missing.

pub mod api;
pub mod backoff;
mod calls;
pub mod client;
pub mod connection;
pub mod error;
pub mod events;
pub mod http;
pub mod message;
pub mod mqtt;
mod pipe;
pub mod resp;
pub mod server;
pub mod stream;
pub mod table;
pub mod tls;
pub mod ws;

pub use api::Api;
pub use backoff::Backoff;
pub use client::{Client, Event, Options, Recovery};
pub use connection::{ConnectOptions, Connection};
pub use error::Error;
pub use events::Events;
pub use message::{
    Body, ClientInfo, ConnectResult, Message, Position, Publication, Push, Reply, ServerError,
    SubscribeResult,
};
pub use mqtt::MqttConnection;
pub use server::{DEFAULT, Server, Web};
pub use tidings_wire::client::Encoding;
pub use ws::WebSocket;

/// The name of the client in its requests.
pub(crate) const AGENT_NAME: &str = "tidings";
/// The name and version, in HTTP.
pub(crate) const AGENT: &str = concat!("tidings/", env!("CARGO_PKG_VERSION"));
