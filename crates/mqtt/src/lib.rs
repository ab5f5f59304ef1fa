//! MQTT 3.1.1 and 5.0 (OASIS): the codec for both sides, topic names and filters, and an index of filters.
//!
//! The crate has the rules of `wire`: no socket, no clock, no session. It stands beside `wire` because of its size, and
//! below it, so that a wire form can use it. What depends on the state of a session (packet identifiers in use, topic
//! aliases, quotas, retained messages) belongs to the session. `docs/mqtt-conformance.md` lists the normative statements.
//!
//! Invariants, which the tests check:
//! - [`Decoder::decode`] never panics and reads one packet; the result does not depend on the split of the input. It
//!   allocates nothing: topics, payloads and properties are slices of the input.
//! - A packet above the limit is refused when its fixed header has arrived, before its body is stored.
//! - What a decoder accepts can be encoded, and decodes to the same packet.
//! - An encoder appends one packet, or returns an error and appends nothing.

mod decode;
mod error;
pub mod fanout;
mod header;
mod packet;
mod properties;
mod property;
mod property_id;
mod read;
mod reason;
mod statement;
pub mod topic;
mod types;
mod write;

pub use decode::{Decoded, Decoder};
pub use error::{EncodeError, Error, Violation};
pub use packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, Publish, QosAndId, ReasonCodes, RetainHandling, SubAck,
    Subscribe, Subscription, SubscriptionOptions, Subscriptions, SubscriptionsBuf, TopicFilters,
    TopicFiltersBuf, UnsubAck, Unsubscribe, Will,
};
pub use properties::{Properties, PropertiesBuf};
pub use property::Property;
pub use property_id::PropertyId;
pub use reason::ReasonCode;
pub use types::{PacketId, PacketType, Qos, Sensitive, Side, Version};

/// The largest packet of the protocol in bytes: a remaining length of four bytes, and the fixed header.
pub const MAX_PACKET: usize = types::MAX_REMAINING_LENGTH + 5;

/// The WebSocket sub-protocol (MQTT 5.0 §6).
pub const SUBPROTOCOL: &str = "mqtt";
