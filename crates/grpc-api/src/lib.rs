//! The server API over gRPC. Messages become the commands of [`tidings_api`], which the server runs as those of its HTTP API,
//! and their replies become messages. Health (`grpc.health.v1.Health`) and reflection are answered here.
//!
//! Names and field numbers are those of Centrifugo's public definition; `proto/api.proto` has them. A command that fails is
//! answered with the field `error`, as there; a request that is rejected before its command runs has a gRPC status.
//!
//! Invariants:
//! - This crate runs no command and has no socket.
//! - The length of a message and the numbers of its commands and channels are checked before memory for them is used.
//! - Every method of the HTTP API has exactly one method here, with the same scope (a test compares them).

mod counters;
mod health;
mod receive;
mod reflection;
mod reply;
mod request;
mod response;
mod rpc;

pub use counters::CallCounters;
pub use health::routes as health_routes;
pub use receive::IncomingMessage;
pub use reflection::routes as reflection_routes;
pub use reply::{BatchWriter, encode_reply, encode_response};
pub use request::{batch, command};
pub use response::{check_request, compress, from_rejection, message, refuse};
pub use rpc::{Rpc, SERVICES};
