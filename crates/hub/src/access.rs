//! Identities of sessions, and the rules of access.

use tidings_capabilities::Allow;
use tidings_keys::{ApiKeys, KeyIndex, Scope};
use tidings_wire::code::{self, Code};

use crate::namespace::NamespaceOptions;

/// How the name of a channel contains the users that may subscribe to it, as in `dialog#17,42`. Neither text is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserBoundaries {
    /// Between the name and the users.
    pub boundary: String,
    /// Between two users.
    pub separator: String,
}

impl Default for UserBoundaries {
    fn default() -> Self {
        Self { boundary: "#".to_owned(), separator: ",".to_owned() }
    }
}

impl UserBoundaries {
    /// Whether the name of a channel can contain this user without ambiguity. A user with a part of a boundary is ambiguous too:
    /// with the boundary `##`, `a###b` could be meant for `b` and for `#b`.
    pub(crate) fn is_unambiguous(&self, user: &str) -> bool {
        !user.contains(|c: char| self.boundary.contains(c) || self.separator.contains(c))
    }
}

/// The identity of a session, in one byte: anonymous, a client with a user, or a backend with the number of its API key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity(u8);

impl Identity {
    /// Without credentials.
    pub const ANONYMOUS: Self = Self(0);
    /// With a user, set by a token or by the application.
    pub const CLIENT: Self = Self(1);
    /// A backend with every scope that the server itself has authorized: a stream of the admin page.
    pub const OPERATOR: Self = Self(2);
    /// The least number of a backend with a key.
    const FIRST_KEY: u8 = 3;

    /// With an API key: a backend. In every channel it has the permissions that the scopes of the key contain, and those of
    /// an anonymous client otherwise.
    pub const fn backend(key: KeyIndex) -> Self {
        Self(key.number() + Self::FIRST_KEY)
    }

    /// The API key of a backend that has one.
    pub(crate) const fn key(self) -> Option<KeyIndex> {
        match self.0.checked_sub(Self::FIRST_KEY) {
            Some(number) => Some(KeyIndex::new(number)),
            None => None,
        }
    }

    /// Whether the session is a backend.
    pub const fn is_backend(self) -> bool {
        self.0 >= Self::OPERATOR.0
    }
}

/// The rules of access.
#[derive(Debug, Default)]
pub struct Access {
    /// Every session may subscribe and publish everywhere: no key is configured (the workbench), or `client.insecure`
    /// is set.
    pub open: bool,
    /// The API keys. A session with one of them is a backend.
    pub keys: ApiKeys,
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
            Action::MapPublish => options.map.as_ref().map_or((false, false, false), |map| {
                (
                    map.allow_publish_for_client,
                    map.allow_publish_for_subscriber,
                    map.allow_publish_for_anonymous,
                )
            }),
            Action::MapRemove => options.map.as_ref().map_or((false, false, false), |map| {
                (map.allow_remove_for_client, map.allow_remove_for_subscriber, map.allow_remove_for_anonymous)
            }),
        };
        let is_known = identity == Identity::CLIENT;
        self.is_unrestricted(identity, action.scope())
            || ((client || subscriber && subscribed) && (is_known || anonymous))
    }

    /// Whether the operations of a scope are allowed in every channel: to every session of an open server, and to a backend
    /// with this scope.
    pub(crate) fn is_unrestricted(&self, identity: Identity, scope: Scope) -> bool {
        self.open || self.has_scope(identity, scope)
    }

    /// Whether a session is a backend with this scope.
    pub(crate) fn has_scope(&self, identity: Identity, scope: Scope) -> bool {
        let Some(key) = identity.key() else { return identity == Identity::OPERATOR };
        self.keys.get(key).is_some_and(|key| key.scopes.contains(scope))
    }

    /// Whether `given` is an API key.
    pub fn is_key(&self, given: &[u8]) -> bool {
        self.keys.find(given).is_some()
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
        if self.is_unrestricted(identity, Scope::Read) { Ok(()) } else { Err(code::PERMISSION_DENIED) }
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
    /// Set a key of a map.
    MapPublish,
    /// Remove a key of a map.
    MapRemove,
}

impl Action {
    /// The operation that a capability must permit; `None` if capabilities do not apply.
    pub(crate) fn operation(self) -> Option<Allow> {
        match self {
            Self::Subscribe => Some(Allow::SUBSCRIBE),
            Self::Publish => Some(Allow::PUBLISH),
            Self::History => Some(Allow::HISTORY),
            Self::Presence => Some(Allow::PRESENCE),
            Self::MapPublish | Self::MapRemove => None,
        }
    }

    /// The scope that a backend needs.
    pub(crate) fn scope(self) -> Scope {
        match self {
            Self::Publish | Self::MapPublish | Self::MapRemove => Scope::Publish,
            Self::Subscribe | Self::History | Self::Presence => Scope::Read,
        }
    }
}

#[cfg(test)]
mod tests {
    use tidings_keys::{ApiKey, Scopes};
    use tidings_wire::Secret;

    use super::*;

    fn key(scopes: Scopes) -> (ApiKeys, Identity) {
        let key = ApiKey { name: "backend".into(), secret: Secret::new("k"), scopes };
        let keys: ApiKeys = [key].into_iter().collect();
        let index = keys.find(b"k").expect("the key");
        (keys, Identity::backend(index))
    }

    #[test]
    fn with_a_key_configured_namespaces_limit_clients_and_a_backend_is_unrestricted() {
        let (keys, backend) = key(Scopes::ALL);
        let access = Access { open: false, keys, anonymous_connect: false, tokens: false, reserved: None };
        let closed = NamespaceOptions::default();
        let open = NamespaceOptions {
            allow_subscribe_for_client: true,
            allow_subscribe_for_anonymous: true,
            allow_publish_for_subscriber: true,
            allow_publish_for_anonymous: true,
            ..Default::default()
        };
        assert!(!access.permits(Action::Subscribe, Identity::ANONYMOUS, false, &closed));
        assert!(access.permits(Action::Subscribe, Identity::ANONYMOUS, false, &open));
        assert!(!access.permits(Action::Publish, Identity::ANONYMOUS, false, &open));
        assert!(access.permits(Action::Publish, Identity::ANONYMOUS, true, &open));
        assert!(access.permits(Action::Publish, backend, false, &closed));
        assert_eq!(access.authorize_global(Identity::ANONYMOUS), Err(code::PERMISSION_DENIED));
        assert_eq!(access.authorize_global(backend), Ok(()));
    }

    #[test]
    fn a_backend_without_a_scope_has_the_permissions_of_an_anonymous_client_for_its_operations() {
        let (keys, backend) = key(Scope::Publish.into());
        let access = Access { keys, ..Access::default() };
        let closed = NamespaceOptions::default();
        let open = NamespaceOptions {
            allow_history_for_client: true,
            allow_history_for_anonymous: true,
            allow_presence_for_client: true,
            ..NamespaceOptions::default()
        };
        assert!(access.permits(Action::Publish, backend, false, &closed));
        for action in [Action::Subscribe, Action::History, Action::Presence] {
            assert!(!access.permits(action, backend, true, &closed), "{action:?}");
        }
        assert!(access.permits(Action::History, backend, false, &open));
        assert!(!access.permits(Action::Presence, backend, false, &open));
        assert_eq!(access.authorize_global(backend), Err(code::PERMISSION_DENIED));
        let (keys, reader) = key(Scope::Read.into());
        let access = Access { keys, ..Access::default() };
        assert!(!access.permits(Action::Publish, reader, true, &closed));
        assert!(access.permits(Action::History, reader, false, &closed));
        assert_eq!(access.authorize_global(reader), Ok(()));
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
        let (keys, backend) = key(Scopes::ALL);
        let access = Access { keys, ..Access::default() };
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
                        access.permits(action, Identity::CLIENT, subscribed, &options),
                        right,
                        "{case}"
                    );
                    let anonymous_permitted =
                        access.permits(action, Identity::ANONYMOUS, subscribed, &options);
                    assert_eq!(anonymous_permitted, right && anonymous, "anonymous: {case}");
                    assert!(access.permits(action, backend, subscribed, &options), "{case}");
                }
            }
        }
    }
}
