//! Who a session is, and what that lets it do.

use std::fmt;

use tidings_wire::code::{self, Code};

use crate::namespace::Namespaces;

/// Who stands behind a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// Nobody has said who they are.
    #[default]
    Anonymous,
    /// A token, or the application, has said which user it is.
    Client,
    /// The API key was given: a backend, which may subscribe and publish anywhere.
    Backend,
}

/// A key that is compared in constant time and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a key.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// Whether `given` is the key, in a time that tells nothing but the key's length.
    pub fn is(&self, given: &[u8]) -> bool {
        let key = self.0.as_bytes();
        if key.len() != given.len() {
            return false;
        }
        let difference = key.iter().zip(given).fold(0_u8, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(difference) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The rules by which sessions are let in.
#[derive(Debug, Default)]
pub struct Access {
    /// No key is configured (the workbench on one's own machine), or the operator said `client.insecure`:
    /// everybody may subscribe and publish everywhere.
    pub open: bool,
    /// What makes a session a backend.
    pub api_key: Option<Secret>,
    /// Whether a session of the client protocol may connect without a token.
    pub anonymous_connect: bool,
    /// Whether tokens can be verified here, or the application asked.
    pub tokens: bool,
    /// Channels whose names begin like this are the server's own: nobody may subscribe or publish there.
    pub reserved: Option<String>,
}

impl Access {
    /// Whether `identity`, who is subscribed to `channel` or not, may do `action` there.
    ///
    /// # Errors
    /// [`code::UNKNOWN_CHANNEL`] or [`code::PERMISSION_DENIED`].
    pub fn may(
        &self,
        action: Action,
        identity: Identity,
        subscribed: bool,
        namespaces: &Namespaces,
        channel: &str,
    ) -> Result<(), Code> {
        let options = namespaces.of(channel)?;
        let (client, subscriber, anonymous) = match action {
            Action::Subscribe => {
                (options.allow_subscribe_for_client, false, options.allow_subscribe_for_anonymous)
            }
            Action::Publish => (
                options.allow_publish_for_client,
                options.allow_publish_for_subscriber,
                options.allow_publish_for_anonymous,
            ),
            Action::History => (
                options.allow_history_for_client,
                options.allow_history_for_subscriber,
                options.allow_history_for_anonymous,
            ),
            Action::Presence => (
                options.allow_presence_for_client,
                options.allow_presence_for_subscriber,
                options.allow_presence_for_anonymous,
            ),
        };
        let allowed = self.is_free(identity)
            || anonymous
            || (client && identity == Identity::Client)
            || (subscriber && subscribed);
        if allowed && !self.is_reserved(channel) { Ok(()) } else { Err(code::PERMISSION_DENIED) }
    }

    /// Whether everything is allowed to `identity`: to everybody on an open server, and to a backend.
    pub fn is_free(&self, identity: Identity) -> bool {
        self.open || identity == Identity::Backend
    }

    /// Whether `given` is the API key.
    pub fn is_key(&self, given: &[u8]) -> bool {
        self.api_key.as_ref().is_some_and(|key| key.is(given))
    }

    /// Whether a channel is the server's own.
    pub fn is_reserved(&self, channel: &str) -> bool {
        self.reserved.as_ref().is_some_and(|prefix| channel.starts_with(prefix.as_str()))
    }

    /// Whether `identity` may subscribe to patterns, or ask about the whole node: both cut across namespaces.
    ///
    /// # Errors
    /// [`code::PERMISSION_DENIED`].
    pub fn may_see_all(&self, identity: Identity) -> Result<(), Code> {
        if self.is_free(identity) { Ok(()) } else { Err(code::PERMISSION_DENIED) }
    }
}

/// What may be allowed in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Subscribe to it.
    Subscribe,
    /// Publish into it.
    Publish,
    /// Read its history.
    History,
    /// Ask who is present.
    Presence,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::NamespaceOptions;

    #[test]
    fn a_secret_is_equal_only_to_itself_and_never_shown() {
        let key = Secret::new("s3cret");
        assert!(key.is(b"s3cret"));
        assert!(!key.is(b"s3creT") && !key.is(b"s3cre") && !key.is(b""));
        assert_eq!(format!("{key:?}"), "***");
    }

    #[test]
    fn with_a_key_configured_the_namespace_decides_and_a_backend_may_do_all() {
        let access = Access {
            open: false,
            api_key: Some(Secret::new("k")),
            anonymous_connect: false,
            tokens: false,
            reserved: None,
        };
        let closed = Namespaces::default();
        let open = Namespaces::new(
            NamespaceOptions {
                allow_subscribe_for_anonymous: true,
                allow_publish_for_subscriber: true,
                ..Default::default()
            },
            [],
        );
        let denied = Err(code::PERMISSION_DENIED);
        assert_eq!(access.may(Action::Subscribe, Identity::Anonymous, false, &closed, "a"), denied);
        assert_eq!(access.may(Action::Subscribe, Identity::Anonymous, false, &open, "a"), Ok(()));
        assert_eq!(access.may(Action::Publish, Identity::Anonymous, false, &open, "a"), denied);
        assert_eq!(access.may(Action::Publish, Identity::Anonymous, true, &open, "a"), Ok(()));
        assert_eq!(access.may(Action::Publish, Identity::Backend, false, &closed, "a"), Ok(()));
        assert_eq!(access.may_see_all(Identity::Anonymous), denied);
        assert_eq!(access.may_see_all(Identity::Backend), Ok(()));
    }
}
