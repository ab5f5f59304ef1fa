//! The client protocol: commands of clients, replies to them, and pushes.
//!
//! It is version 2 of the Centrifugo client protocol (its public `client.proto`): a command has an `id` and one
//! method, its reply the same `id` and a result or an error; a push has no `id`; the empty message is a ping of
//! the server and a client's answer to it.
//!
//! The types of [`request`], [`reply`] and [`push`] are the protocol's. `schema.rs` defines their fields once;
//! [`Encoding`] encodes and decodes them, in JSON or in Protobuf.
//!
//! ```
//! use tidings_wire::client::reply::{Outcome, Reply};
//! use tidings_wire::client::request::Request;
//! use tidings_wire::client::Encoding;
//!
//! let frame = b"{\"id\":1,\"ping\":{}}\n{}";
//! let mut answers = Vec::new();
//! for message in Encoding::Json.messages(frame) {
//!     let command = Encoding::Json.parse_command(message?)?;
//!     match command.request {
//!         Request::Ping => {
//!             let reply = Reply { id: command.id, outcome: Outcome::Pong };
//!             Encoding::Protobuf.write_reply(&reply, &mut answers);
//!         }
//!         Request::Pong => {}
//!         other => panic!("{}", other.name()),
//!     }
//! }
//! // Four bytes: field 1 is 1, field 12 is an empty message.
//! assert_eq!(answers, [4, 0x08, 1, 0x62, 0]);
//! # Ok::<(), tidings_wire::client::Malformed>(())
//! ```
//!
//! Invariants:
//! - An encoder appends one message: in JSON an object without a line break in it or behind it (the transport frames
//!   it), in Protobuf a message with its length before it.
//! - Decoded messages borrow from their bytes wherever these can be used unchanged.
//! - Both encodings have the same messages and fields.

mod encoding;
mod field;
mod json;
mod live;
mod opaque;
mod protobuf;
pub mod push;
pub mod reply;
pub mod request;
mod schema;
mod value;

pub use encoding::{Encoding, Malformed, Messages};
pub use opaque::{Opaque, RawMessage};
pub use value::{Data, List, Map};
