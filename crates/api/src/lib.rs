//! Requests and replies of the server API, and the OpenAPI document that describes them.
//!
//! Paths, JSON and codes are those of Centrifugo's HTTP API (its public documentation, "Server API walkthrough"), so that
//! its server libraries work unchanged. The crate parses requests ([`command`], [`batch`]) and encodes replies ([`reply`],
//! [`error`], [`response_budget`]); it has no socket and runs no command. `server` does both.
//!
//! Invariants:
//! - The document describes exactly the methods, fields and bounds of the types; tests compare them ([`openapi`]).
//! - The number of commands in a request and of channels in a broadcast is checked while they are parsed.
//! - A reply contains no secret.

pub mod batch;
pub mod body_budget;
pub mod command;
pub mod error;
mod fields;
pub mod map;
pub mod openapi;
pub mod reply;
pub mod response_budget;
pub mod shared_poll;

pub use batch::{Batch, BatchItem, Envelope};
pub use command::{Command, CommandMethod};
pub use error::ApiError;
pub use fields::RawJson;
pub use reply::{CommandReply, CommandResult};
