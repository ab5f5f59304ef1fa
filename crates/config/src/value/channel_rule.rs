//! Rules by which namespaces claim channels.

use tidings_channel_rules::{ChannelFilter, ChannelPattern, MAX_LEN, MAX_LEVELS};

use crate::raw::Raw;
use crate::setting::{Setting, expected, quoted};

impl Setting for ChannelFilter {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        let text = raw.as_text().ok_or_else(|| expected("a topic filter of MQTT", raw))?;
        Self::new(text).map_err(|error| format!("expected a topic filter of MQTT, got {raw}: {error}"))
    }

    fn kind((): &()) -> String {
        "MQTT topic filter".into()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(self.as_str()))
    }
}

/// Empty text is no pattern.
impl Setting for Option<ChannelPattern> {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        let text = raw.as_text().ok_or_else(|| expected("a pattern such as /users/:id", raw))?;
        if text.is_empty() {
            return Ok(None);
        }
        let pattern = ChannelPattern::new(text).map(Some);
        pattern.map_err(|error| format!("expected a pattern such as /users/:id, got {raw}: {error}"))
    }

    fn kind((): &()) -> String {
        format!("pattern, at most {MAX_LEN} bytes and {MAX_LEVELS} levels, or empty")
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(self.as_ref().map_or("", ChannelPattern::as_str)))
    }
}
