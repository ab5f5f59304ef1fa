//! Topic names, topic filters (MQTT 3.1.1 and 5.0 §4.7), shared subscriptions (5.0 §4.8.2), and an index of filters.

mod filter;
mod index;
mod levels;
mod names;

pub use filter::{Filter, check_name};
pub use index::{FilterIndex, IndexFull, Scratch};

use thiserror::Error;

use crate::reason::ReasonCode;

/// The longest topic name or filter in bytes.
pub const MAX_TOPIC: usize = 65_535;
/// The prefix of the filter of a shared subscription. It is read in both versions.
pub(crate) const SHARE_PREFIX: &str = "$share/";

/// The reason why a text is not a topic name or a topic filter.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TopicError {
    /// No characters.
    #[error("a topic has at least one character [MQTT-4.7.3-1]")]
    Empty,
    /// More than [`MAX_TOPIC`] bytes.
    #[error("a topic has at most {MAX_TOPIC} bytes [MQTT-4.7.3-3]")]
    TooLong,
    /// A character that no topic contains: U+0000.
    #[error("a topic does not contain U+0000 [MQTT-4.7.3-2]")]
    Nul,
    /// A wildcard in a topic name.
    #[error("a topic name does not contain wildcards [MQTT-4.7.0-1]")]
    WildcardInName,
    /// `#` that is not the whole last level.
    #[error("# is the whole last level of a filter [MQTT-4.7.1-1]")]
    MultiLevel,
    /// `+` that is not a whole level.
    #[error("+ is a whole level of a filter [MQTT-4.7.1-2]")]
    SingleLevel,
    /// A shared subscription without a name.
    #[error("a shared subscription has a name: $share/name/filter [MQTT-4.8.2-1]")]
    NoShareName,
    /// A shared subscription whose name contains a wildcard, or is not followed by a filter.
    #[error(
        "the name of a shared subscription has no wildcard and is followed by a filter: $share/name/filter [MQTT-4.8.2-2]"
    )]
    ShareName,
}

impl TopicError {
    /// The reason code of 5.0 for a subscription with such a filter, or for a message with such a topic name.
    pub const fn reason(self) -> ReasonCode {
        match self {
            Self::WildcardInName => ReasonCode::TopicNameInvalid,
            _ => ReasonCode::TopicFilterInvalid,
        }
    }
}
