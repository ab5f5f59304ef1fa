//! Paths of handlers.

use crate::raw::Raw;
use crate::setting::{Setting, expected, quoted};

/// The longest path in bytes.
const MAX: usize = 128;

/// First parts of paths that belong to other handlers.
const TAKEN: [&str; 12] = [
    "admin", "app", "apps", "assets", "events", "health", "metrics", "mqtt", "parser", "ready", "stomp",
    "tables",
];

/// The path of a handler: parts of letters, digits and `-`, `_`, `.` or `~`, each after a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerPath(String);

impl HandlerPath {
    /// The path, which begins with a slash and does not end with one.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Setting for HandlerPath {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        let wrong = || expected("a path such as \"/realtime/websocket\"", raw);
        let text = raw.as_text().ok_or_else(wrong)?;
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        let is_part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(letter);
        let parts = text.strip_prefix('/').filter(|_| text.len() <= MAX).ok_or_else(wrong)?;
        if !parts.split('/').all(is_part) {
            return Err(wrong());
        }
        if let Some(first) = parts.split('/').next().filter(|first| TAKEN.contains(first)) {
            return Err(format!("{}: paths that begin with /{first} have another handler", wrong()));
        }
        Ok(Self(text.to_owned()))
    }

    fn kind((): &()) -> String {
        "path".into()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_absolute_and_has_no_pattern_of_the_router() {
        let read = |text: &str| HandlerPath::read(&Raw::Text(text.into()), &()).map(|path| path.0);
        for valid in ["/ws", "/connection/websocket", "/a/b_c/d-e.f~g/1"] {
            assert_eq!(read(valid).as_deref(), Ok(valid));
        }
        for invalid in
            ["", "/", "ws", "/ws/", "//ws", "/{name}", "/a*", "/a b", "/../a", "/a/./b", "/é", "/a?b"]
        {
            assert!(read(invalid).is_err(), "{invalid}");
        }
        assert!(read("/tables/ws").expect_err("another handler").contains("/tables"));
        assert!(read(&format!("/{}", "a".repeat(MAX))).is_err());
    }
}
