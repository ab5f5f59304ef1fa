//! Identities of sessions, and their rights.

use tidings_wire::Secret;
use tidings_wire::code::{self, Code};

use crate::namespace::{NamespaceOptions, Namespaces};

/// Separator before the users in the name of a channel for certain users.
pub(crate) const USERS: char = '#';
/// Separator between them.
pub(crate) const USER: char = ',';

/// Whether the name of a channel can name this user without ambiguity.
pub(crate) fn has_own_channel(user: &str) -> bool {
    !user.contains([USERS, USER])
}

/// The identity of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// No credentials were given.
    #[default]
    Anonymous,
    /// A token or the application has set its user.
    Client,
    /// The API key was given: a backend, which may subscribe and publish anywhere.
    Backend,
}

/// The rules of access.
#[derive(Debug, Default)]
pub struct Access {
    /// No key is configured (the workbench on one's own machine), or `client.insecure` is set:
    /// every session may subscribe and publish everywhere.
    pub open: bool,
    /// What makes a session a backend.
    pub api_key: Option<Secret>,
    /// Whether a session of the client protocol may connect without a token.
    pub anonymous_connect: bool,
    /// Whether tokens can be verified, or a connect hook is set.
    pub tokens: bool,
    /// Prefix of the server's internal channels, which are closed on every path.
    pub reserved: Option<String>,
}

impl Access {
    /// Whether a session of this identity, which is subscribed to `channel` or not, may do `action` there.
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
        let options = namespaces.options(channel)?;
        if self.is_reserved(channel) || !self.permits(action, identity, subscribed, options) {
            return Err(code::PERMISSION_DENIED);
        }
        Ok(())
    }

    /// Whether the options of a channel allow `action`, as Centrifugo defines it: `allow_…_for_client`, or
    /// `allow_…_for_subscriber` and a subscription; for an anonymous user, `allow_…_for_anonymous` in addition, which
    /// allows nothing alone.
    pub(crate) fn permits(
        &self,
        action: Action,
        identity: Identity,
        subscribed: bool,
        options: &NamespaceOptions,
    ) -> bool {
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
        let is_known = identity == Identity::Client;
        self.is_free(identity) || ((client || subscriber && subscribed) && (is_known || anonymous))
    }

    /// Whether everything is allowed: to every session on an open server, and to a backend.
    pub(crate) fn is_free(&self, identity: Identity) -> bool {
        self.open || identity == Identity::Backend
    }

    /// Whether `given` is the API key.
    pub fn is_key(&self, given: &[u8]) -> bool {
        self.api_key.as_ref().is_some_and(|key| key.is(given))
    }

    /// Whether a channel is the server's own.
    pub(crate) fn is_reserved(&self, channel: &str) -> bool {
        self.reserved.as_ref().is_some_and(|prefix| channel.starts_with(prefix.as_str()))
    }

    /// Whether `identity` may subscribe to patterns and read about the whole node: both cut across namespaces.
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
    /// Read its presence.
    Presence,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::NamespaceOptions;

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
                allow_subscribe_for_client: true,
                allow_subscribe_for_anonymous: true,
                allow_publish_for_subscriber: true,
                allow_publish_for_anonymous: true,
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

    /// Sets the three options of an action.
    type Switches = fn(&mut NamespaceOptions, bool, bool, bool);

    const ACTIONS: [(Action, Switches); 4] = [
        (Action::Subscribe, |options, client, _, anonymous| {
            options.allow_subscribe_for_client = client;
            options.allow_subscribe_for_anonymous = anonymous;
        }),
        (Action::Publish, |options, client, subscriber, anonymous| {
            options.allow_publish_for_client = client;
            options.allow_publish_for_subscriber = subscriber;
            options.allow_publish_for_anonymous = anonymous;
        }),
        (Action::History, |options, client, subscriber, anonymous| {
            options.allow_history_for_client = client;
            options.allow_history_for_subscriber = subscriber;
            options.allow_history_for_anonymous = anonymous;
        }),
        (Action::Presence, |options, client, subscriber, anonymous| {
            options.allow_presence_for_client = client;
            options.allow_presence_for_subscriber = subscriber;
            options.allow_presence_for_anonymous = anonymous;
        }),
    ];

    #[test]
    fn an_anonymous_user_needs_its_own_option_beside_that_of_clients_or_subscribers() {
        let access = Access::default();
        let both = [false, true];
        for (action, set) in ACTIONS {
            for (client, subscriber, anonymous) in
                both.iter().flat_map(|c| both.iter().flat_map(move |s| both.map(|a| (*c, *s, a))))
            {
                let mut options = NamespaceOptions::default();
                set(&mut options, client, subscriber, anonymous);
                for subscribed in both {
                    let right = client || subscriber && subscribed && action != Action::Subscribe;
                    let case = format!("{action:?} {client} {subscriber} {anonymous} {subscribed}");
                    assert_eq!(
                        access.permits(action, Identity::Client, subscribed, &options),
                        right,
                        "{case}"
                    );
                    let nobody = access.permits(action, Identity::Anonymous, subscribed, &options);
                    assert_eq!(nobody, right && anonymous, "anonymous: {case}");
                    assert!(access.permits(action, Identity::Backend, subscribed, &options), "{case}");
                }
            }
        }
    }
}
