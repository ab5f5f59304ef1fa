//! Names of channels, events and users.
//!
//! A name of a channel is the name that clients use. The server's name for the same channel has the prefix of the app before
//! it, which ends in a colon. No name that clients use contains a colon, except those of users' own channels
//! (`#server-to-user-…`, `#online-…`), so [`visible_name`] finds it without the app, and channels of different apps are always different.

use thiserror::Error;

/// Longest name of a channel in bytes.
pub const MAX_CHANNEL: usize = 164;
/// Longest name of an event in bytes.
pub const MAX_EVENT: usize = 200;
/// Longest id of a user in bytes.
pub const MAX_USER_ID: usize = 128;
/// The beginning of the channel of one user, to which a signed-in connection is subscribed.
pub const SERVER_TO_USER: &str = "#server-to-user-";

/// The beginning of the channel whose members are the connections of one user; users that watch it get joins and leaves.
pub const ONLINE: &str = "#online-";

/// Why a name is not valid.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NameError {
    /// The name of a channel.
    #[error("a channel name has 1 to {MAX_CHANNEL} letters, digits and characters of _-=@,.;")]
    Channel,
    /// The name of an event.
    #[error("an event name has 1 to {MAX_EVENT} bytes and does not begin with pusher: or pusher_internal:")]
    Event,
    /// The id of a user.
    #[error("a user id has 1 to {MAX_USER_ID} bytes without control characters")]
    User,
}

/// The kind of a channel, by the beginning of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelKind {
    /// Open to every client of the app.
    Public,
    /// `private-`: a subscription needs a signature.
    Private,
    /// `private-encrypted-`: as a private one; the server cannot read its events.
    Encrypted,
    /// `presence-`: as a private one; members see each other.
    Presence,
}

impl ChannelKind {
    /// The kind of the channel with this name.
    pub fn of(name: &str) -> Self {
        if name.starts_with("private-encrypted-") {
            Self::Encrypted
        } else if name.starts_with("private-") {
            Self::Private
        } else if name.starts_with("presence-") {
            Self::Presence
        } else {
            Self::Public
        }
    }

    /// Whether clients may send events to such channels.
    pub fn allows_client_events(self) -> bool {
        matches!(self, Self::Private | Self::Presence)
    }
}

/// Whether the last event of the channel is kept for new subscribers.
pub fn is_cache(name: &str) -> bool {
    ["cache-", "private-cache-", "private-encrypted-cache-", "presence-cache-"]
        .iter()
        .any(|start| name.starts_with(start))
}

/// Checks the name of a channel.
///
/// # Errors
/// [`NameError::Channel`].
pub fn check_channel(name: &str) -> Result<(), NameError> {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"_-=@,.;".contains(&b);
    let is_valid = (1..=MAX_CHANNEL).contains(&name.len()) && name.bytes().all(letter);
    if is_valid { Ok(()) } else { Err(NameError::Channel) }
}

/// Checks the name of an event that is not one of the protocol itself.
///
/// # Errors
/// [`NameError::Event`].
pub fn check_event(name: &str) -> Result<(), NameError> {
    let is_valid = (1..=MAX_EVENT).contains(&name.len()) && !crate::is_reserved_event(name);
    if is_valid { Ok(()) } else { Err(NameError::Event) }
}

/// Checks the id of a user.
///
/// # Errors
/// [`NameError::User`].
pub fn check_user_id(id: &str) -> Result<(), NameError> {
    let is_valid = (1..=MAX_USER_ID).contains(&id.len()) && !id.chars().any(char::is_control);
    if is_valid { Ok(()) } else { Err(NameError::User) }
}

/// The name that clients use for the channel with this name on the server.
pub fn visible_name(name: &str) -> &str {
    match (name.find('#'), name.rfind(':')) {
        (Some(start), _) => &name[start..],
        (None, Some(colon)) => &name[colon + 1..],
        (None, None) => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_name_determines_the_kind() {
        use ChannelKind::{Encrypted, Presence, Private, Public};
        let cases = [
            ("news", Public, false),
            ("cache-news", Public, true),
            ("private-news", Private, false),
            ("private-cache-news", Private, true),
            ("private-encrypted-news", Encrypted, false),
            ("private-encrypted-cache-news", Encrypted, true),
            ("presence-news", Presence, false),
            ("presence-cache-news", Presence, true),
            ("my-private-news", Public, false),
            ("privatecache-news", Public, false),
        ];
        for (name, kind, cache) in cases {
            assert_eq!((ChannelKind::of(name), is_cache(name)), (kind, cache), "{name}");
        }
    }

    #[test]
    fn names_have_their_limits() {
        let longest = "a".repeat(MAX_CHANNEL);
        for name in ["a", "A-z_0=9@,.;", &longest] {
            assert_eq!(check_channel(name), Ok(()), "{name}");
        }
        for name in ["", "a b", "a:b", "#a", "é", &format!("{longest}a")] {
            assert_eq!(check_channel(name), Err(NameError::Channel), "{name}");
        }
        assert_eq!(check_event(&"e".repeat(MAX_EVENT)), Ok(()));
        for name in ["", "pusher:ping", "pusher_internal:x", &"e".repeat(MAX_EVENT + 1)] {
            assert_eq!(check_event(name), Err(NameError::Event), "{name}");
        }
        assert_eq!(check_user_id("ann:1#2"), Ok(()));
        for id in ["", "a\n", &"u".repeat(MAX_USER_ID + 1)] {
            assert_eq!(check_user_id(id), Err(NameError::User), "{id}");
        }
    }

    #[test]
    fn the_prefix_of_an_app_is_not_visible() {
        let cases = [
            ("news", "news"),
            ("shop:news", "news"),
            ("shop:eu:news", "news"),
            ("#server-to-user-a:b", "#server-to-user-a:b"),
            ("shop:#server-to-user-a#b:c", "#server-to-user-a#b:c"),
        ];
        for (name, visible) in cases {
            assert_eq!(visible_name(name), visible, "{name}");
        }
    }
}
