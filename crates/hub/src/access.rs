//! Identities of sessions, and the rules of access.

use tidings_wire::Secret;
use tidings_wire::code::{self, Code};

use crate::namespace::NamespaceOptions;

/// Separates the name of a channel from the users that may subscribe to it.
pub(crate) const USERS_SEPARATOR: char = '#';
/// Separates these users.
pub(crate) const USER_SEPARATOR: char = ',';

/// Whether the name of a channel can contain this user without ambiguity.
pub(crate) fn is_unambiguous_user(user: &str) -> bool {
    !user.contains([USERS_SEPARATOR, USER_SEPARATOR])
}

/// The identity of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// Without credentials.
    #[default]
    Anonymous,
    /// With a user, set by a token or by the application.
    Client,
    /// With the API key: a backend, which may subscribe and publish everywhere.
    Backend,
}

/// The rules of access.
#[derive(Debug, Default)]
pub struct Access {
    /// Every session may subscribe and publish everywhere: no key is configured (the workbench), or `client.insecure`
    /// is set.
    pub open: bool,
    /// The API key. A session with this key is a backend.
    pub api_key: Option<Secret>,
    /// Whether a session of the client protocol may connect without a token.
    pub anonymous_connect: bool,
    /// Whether tokens can be verified, or a connect hook is set.
    pub tokens: bool,
    /// Prefix of the server's internal channels. No session can access them.
    pub reserved: Option<String>,
}

impl Access {
    /// Whether the options of a channel allow `action`. As in Centrifugo: `allow_…_for_client`, or
    /// `allow_…_for_subscriber` and a subscription. An anonymous user needs `allow_…_for_anonymous` in addition, which
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
        self.is_unrestricted(identity) || ((client || subscriber && subscribed) && (is_known || anonymous))
    }

    /// Whether everything is allowed: to every session of an open server, and to a backend.
    pub(crate) fn is_unrestricted(&self, identity: Identity) -> bool {
        self.open || identity == Identity::Backend
    }

    /// Whether `given` is the API key.
    pub fn is_key(&self, given: &[u8]) -> bool {
        self.api_key.as_ref().is_some_and(|key| key.equals(given))
    }

    /// Whether a channel is internal.
    pub(crate) fn is_reserved(&self, channel: &str) -> bool {
        self.reserved.as_ref().is_some_and(|prefix| channel.starts_with(prefix.as_str()))
    }

    /// Whether `identity` may subscribe to patterns and query the whole node, which affects all namespaces.
    ///
    /// # Errors
    /// [`code::PERMISSION_DENIED`].
    pub fn authorize_global(&self, identity: Identity) -> Result<(), Code> {
        if self.is_unrestricted(identity) { Ok(()) } else { Err(code::PERMISSION_DENIED) }
    }
}

/// An action in a channel that requires a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Subscribe.
    Subscribe,
    /// Publish.
    Publish,
    /// Read the history.
    History,
    /// Read the presence.
    Presence,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_a_key_configured_namespaces_limit_clients_and_a_backend_is_unrestricted() {
        let access = Access {
            open: false,
            api_key: Some(Secret::new("k")),
            anonymous_connect: false,
            tokens: false,
            reserved: None,
        };
        let closed = NamespaceOptions::default();
        let open = NamespaceOptions {
            allow_subscribe_for_client: true,
            allow_subscribe_for_anonymous: true,
            allow_publish_for_subscriber: true,
            allow_publish_for_anonymous: true,
            ..Default::default()
        };
        assert!(!access.permits(Action::Subscribe, Identity::Anonymous, false, &closed));
        assert!(access.permits(Action::Subscribe, Identity::Anonymous, false, &open));
        assert!(!access.permits(Action::Publish, Identity::Anonymous, false, &open));
        assert!(access.permits(Action::Publish, Identity::Anonymous, true, &open));
        assert!(access.permits(Action::Publish, Identity::Backend, false, &closed));
        assert_eq!(access.authorize_global(Identity::Anonymous), Err(code::PERMISSION_DENIED));
        assert_eq!(access.authorize_global(Identity::Backend), Ok(()));
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
    fn an_anonymous_user_needs_its_own_option_and_that_of_clients_or_subscribers() {
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
                    let anonymous_permitted =
                        access.permits(action, Identity::Anonymous, subscribed, &options);
                    assert_eq!(anonymous_permitted, right && anonymous, "anonymous: {case}");
                    assert!(access.permits(action, Identity::Backend, subscribed, &options), "{case}");
                }
            }
        }
    }
}
