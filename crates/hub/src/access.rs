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
    /// Channels whose names begin like this are the server's own: nobody may subscribe or publish there.
    pub reserved: Option<String>,
}

impl Access {
    /// Whether `identity` may subscribe to `channel`.
    ///
    /// # Errors
    /// [`code::UNKNOWN_CHANNEL`] or [`code::PERMISSION_DENIED`].
    pub fn may_subscribe(
        &self,
        identity: Identity,
        namespaces: &Namespaces,
        channel: &str,
    ) -> Result<(), Code> {
        let options = namespaces.of(channel)?;
        self.allow(identity, channel, options.allow_subscribe_for_anonymous)
    }

    /// Lets everybody do it on an open server, else a backend, and others where `otherwise` says so; but nobody
    /// in the server's own channels.
    fn allow(&self, identity: Identity, channel: &str, otherwise: bool) -> Result<(), Code> {
        let reserved = self.reserved.as_ref().is_some_and(|prefix| channel.starts_with(prefix.as_str()));
        let allowed = self.open || identity == Identity::Backend || otherwise;
        if allowed && !reserved { Ok(()) } else { Err(code::PERMISSION_DENIED) }
    }

    /// Whether `identity` may subscribe to patterns, or ask about the whole node: both cut across namespaces.
    ///
    /// # Errors
    /// [`code::PERMISSION_DENIED`].
    pub fn may_see_all(&self, identity: Identity) -> Result<(), Code> {
        if self.open || identity == Identity::Backend { Ok(()) } else { Err(code::PERMISSION_DENIED) }
    }

    /// Whether `identity` may publish to `channel`, to which it is `subscribed` or not.
    ///
    /// # Errors
    /// [`code::UNKNOWN_CHANNEL`] or [`code::PERMISSION_DENIED`].
    pub fn may_publish(
        &self,
        identity: Identity,
        subscribed: bool,
        namespaces: &Namespaces,
        channel: &str,
    ) -> Result<(), Code> {
        let options = namespaces.of(channel)?;
        let for_subscriber = subscribed && options.allow_publish_for_subscriber;
        self.allow(identity, channel, for_subscriber || options.allow_publish_for_anonymous)
    }
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
        let access =
            Access { open: false, api_key: Some(Secret::new("k")), anonymous_connect: false, reserved: None };
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
        assert_eq!(access.may_subscribe(Identity::Anonymous, &closed, "a"), denied);
        assert_eq!(access.may_subscribe(Identity::Anonymous, &open, "a"), Ok(()));
        assert_eq!(access.may_publish(Identity::Anonymous, false, &open, "a"), denied);
        assert_eq!(access.may_publish(Identity::Anonymous, true, &open, "a"), Ok(()));
        assert_eq!(access.may_publish(Identity::Backend, false, &closed, "a"), Ok(()));
        assert_eq!(access.may_see_all(Identity::Anonymous), denied);
        assert_eq!(access.may_see_all(Identity::Backend), Ok(()));
    }
}
