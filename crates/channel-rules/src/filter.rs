//! Topic filters of MQTT as rules for names of channels.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;
use tidings_mqtt::topic::{Filter, TopicError};

use crate::level::{Level, SEPARATOR};
use crate::{MAX_LEN, MAX_LEVELS};

/// A topic filter (MQTT 5.0 §4.7) of a namespace. Clones share the text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChannelFilter(Arc<str>);

/// Why a text is no [`ChannelFilter`].
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FilterError {
    /// It breaks a rule of MQTT.
    #[error("{0}")]
    Topic(#[from] TopicError),
    /// It is longer than [`MAX_LEN`].
    #[error("it has {0} bytes, and {MAX_LEN} is the limit")]
    TooLong(usize),
    /// It has more levels than [`MAX_LEVELS`].
    #[error("it has {0} levels, and {MAX_LEVELS} is the limit")]
    TooDeep(usize),
    /// It is the filter of a shared subscription.
    #[error("a filter of a shared subscription does not describe channels; leave $share/… out")]
    Shared,
    /// It has a control character, which no name of a channel has.
    #[error("it has a control character, which no channel has in its name")]
    Control,
}

impl ChannelFilter {
    /// Checks a filter.
    ///
    /// # Errors
    /// [`FilterError`] with the rule that the text breaks.
    pub fn new(text: &str) -> Result<Self, FilterError> {
        if text.len() > MAX_LEN {
            return Err(FilterError::TooLong(text.len()));
        }
        if Filter::new(text)?.share().is_some() {
            return Err(FilterError::Shared);
        }
        if text.contains(char::is_control) {
            return Err(FilterError::Control);
        }
        match text.split(SEPARATOR).count() {
            levels if levels > MAX_LEVELS => Err(FilterError::TooDeep(levels)),
            _ => Ok(Self(text.into())),
        }
    }

    /// The text of the filter.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn levels(&self) -> impl Iterator<Item = Level<'_>> {
        levels(&self.0)
    }
}

/// The levels of a valid filter.
pub(crate) fn levels(filter: &str) -> impl Iterator<Item = Level<'_>> {
    filter.split(SEPARATOR).map(|level| match level {
        "+" => Level::Single,
        "#" => Level::Multi,
        text => Level::Text(text),
    })
}

impl fmt::Display for ChannelFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_one_of_mqtt_within_the_limits_of_names() {
        for valid in ["home/+/temp", "home/#", "#", "+", "a", "/a", "a b/☕", "$SYS/#"] {
            assert_eq!(ChannelFilter::new(valid).expect(valid).as_str(), valid);
        }
        let error = |text: &str| ChannelFilter::new(text).expect_err(text);
        assert_eq!(error(""), FilterError::Topic(TopicError::Empty));
        assert_eq!(error("a/b#"), FilterError::Topic(TopicError::MultiLevel));
        assert_eq!(error("$share/g/a/+"), FilterError::Shared);
        assert_eq!(error("a\n"), FilterError::Control);
        assert_eq!(error(&"a".repeat(256)), FilterError::TooLong(256));
        assert_eq!(error(&"/".repeat(32)), FilterError::TooDeep(33));
        assert!(ChannelFilter::new(&"/".repeat(31)).is_ok());
    }
}
