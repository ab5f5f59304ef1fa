//! Wire formats: the codecs of tidings, one module for each. The long ones are crates of their own, which do not know
//! publications: `tidings_mqtt`, `tidings_pusher`, `tidings_stomp`, and `tidings_websocket`, which is [`ws`] here.
//!
//! No codec uses a socket, a clock or a session: decoders take bytes and return values, encoders take values and append
//! bytes.
//!
//! Invariants, which the property tests of each module check:
//! - A decoder gives the same result however its input was split.
//! - A decoder never panics, and never requires its caller to keep more than its limit.
//! - An encoder only appends, and appends exactly one unit of its protocol (a line, a reply, a push).

pub mod body;
pub mod channel;
pub mod client;
pub mod code;
pub mod form;
pub mod framing;
pub mod grant;
mod hash;
pub mod history;
mod json;
pub mod labels;
pub mod line;
pub mod mqtt;
mod object;
pub mod plain;
pub mod proxy_protocol;
pub mod publication;
pub mod resp;
mod secret;
pub mod sse;
pub mod stomp;
mod varint;

pub use tidings_websocket as ws;

pub use channel::{Channel, Pattern, Topic};
pub use form::Form;
pub use framing::Framing;
pub use hash::{NameHash, NameMap, NameSet};
pub use history::{History, HistoryPage, HistoryQuery, RecoveryMode};
pub use labels::Labels;
pub use object::Object;
pub use publication::{ClientInfo, Delivery, Epoch, Extra, MapKey, MessageProperties, Position, Publication};
pub use secret::Secret;
