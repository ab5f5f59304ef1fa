//! Settings that are text: strings, paths, secrets, channel names.

use std::path::PathBuf;

use tidings_auth::Secret;
use tidings_wire::Channel;

use super::{Setting, expected, quoted};
use crate::raw::Raw;

/// The longest length of a text in bytes.
pub(crate) struct MaxLength(pub(crate) usize);

impl Setting for String {
    type Rule = MaxLength;

    fn read(raw: &Raw, rule: &MaxLength) -> Result<Self, String> {
        let text = raw.as_text().ok_or_else(|| expected("text", raw))?;
        if text.len() > rule.0 || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(expected(
                &format!("at most {} bytes of printable ASCII without spaces", rule.0),
                raw,
            ));
        }
        Ok(text.to_owned())
    }

    fn kind(rule: &MaxLength) -> String {
        format!("text, at most {} bytes of printable ASCII without spaces", rule.0)
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Setting for Option<PathBuf> {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        let text = raw.as_text().ok_or_else(|| expected("a path", raw))?;
        if text.contains('\0') {
            return Err("a path cannot contain a NUL byte".into());
        }
        Ok((!text.is_empty()).then(|| text.into()))
    }

    fn kind((): &()) -> String {
        "path".into()
    }

    fn toml(&self) -> Option<String> {
        self.as_ref().map(|path| quoted(&path.to_string_lossy()))
    }
}

impl Setting for Secret {
    const IS_SECRET: bool = true;

    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        raw.as_text().map(Self::new).ok_or_else(|| format!("expected text in quotes, got {}", raw.sort()))
    }

    fn kind((): &()) -> String {
        "secret text".into()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(self.expose()))
    }
}

impl Setting for Channel {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        let text = raw.as_text().ok_or_else(|| expected("a channel name", raw))?;
        Self::new(text).map_err(|e| if text.is_empty() { e.to_string() } else { format!("{raw}: {e}") })
    }

    fn kind((): &()) -> String {
        "channel name".into()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(self.as_str()))
    }
}
