//! The list of apps of the Pusher protocol.

use std::time::Duration;

use tidings_auth::Secret;

use super::error::ConfigError;
use super::given::GivenOptions;
use super::group::{Group, Visitor};
use super::keys::{PUSHER_APPS, set_names};
use super::options::{Channels, Config, PusherAppOptions};
use super::origin::AllowedOrigin;
use super::raw::{Raw, shown};
use super::setting::Setting as _;

/// Most apps.
const MAX_APPS: usize = 64;
/// The longest id in bytes.
const MAX_ID: usize = 64;
/// The origins of pages that may use the app of a workbench: pages of the same machine, and of the domains for tests
/// (RFC 6761 §6.2).
const LOCAL_ORIGINS: [&str; 8] = [
    "http://localhost",
    "http://localhost:*",
    "https://localhost",
    "https://localhost:*",
    "http://127.0.0.1",
    "http://127.0.0.1:*",
    "http://*.test",
    "https://*.test",
];

/// An app.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PusherApp {
    /// The id: 1 to 64 letters, digits, `-` and `_`.
    pub id: String,
    /// Its options.
    pub options: PusherAppOptions,
}

/// The list of apps; ids, keys and prefixes are unique.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PusherApps(pub(super) Vec<PusherApp>);

impl PusherApps {
    /// The apps, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &PusherApp> {
        self.0.iter()
    }

    /// The app with this id.
    pub fn get(&self, id: &str) -> Option<&PusherApp> {
        self.iter().find(|app| app.id == id)
    }

    /// Whether there is any app.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets the list of apps to `ids`, in order. An existing app keeps its options.
    ///
    /// # Errors
    /// The first invalid id. The list is set nevertheless, so that the options are checked in the same run.
    pub(super) fn rename(&mut self, ids: &[String]) -> Result<(), String> {
        if ids.len() > MAX_APPS {
            return Err(format!("more than {MAX_APPS} apps"));
        }
        let create = |id: &String| PusherApp { id: id.clone(), ..PusherApp::default() };
        set_names(&mut self.0, ids, |app| &app.id, create);
        for (i, id) in ids.iter().enumerate() {
            let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            if !(1..=MAX_ID).contains(&id.len()) || !id.bytes().all(letter) {
                let id = shown(id);
                return Err(format!(
                    "\"{id}\" is not a valid id of an app: expected 1 to {MAX_ID} letters, digits, `-` or `_`"
                ));
            }
            if ids[..i].contains(id) {
                return Err(format!("two apps have the id \"{}\"", shown(id)));
            }
        }
        Ok(())
    }
}

impl Group for PusherApps {
    /// Visits nothing: each app is walked separately.
    fn walk(&mut self, _: &str, _: &mut dyn Visitor) {}
}

impl Config {
    /// The apps of the Pusher protocol: those that are configured, or on a workbench one for the first steps.
    pub fn pusher_apps(&self) -> Vec<PusherApp> {
        if !self.pusher.apps.is_empty() {
            return self.pusher.apps.0.clone();
        }
        if !self.is_workbench() {
            return Vec::new();
        }
        let origin = |text: &&str| AllowedOrigin::read(&Raw::Word((*text).into()), &()).ok();
        let options = PusherAppOptions {
            key: "key".to_owned(),
            secret: Secret::new("secret"),
            client_events: true,
            watchlist_events: true,
            allowed_origins: LOCAL_ORIGINS.iter().filter_map(origin).collect(),
            ..PusherAppOptions::default()
        };
        vec![PusherApp { id: "app".to_owned(), options }]
    }

    /// [`PusherOptions::activity_timeout`](super::options::PusherOptions) in whole seconds.
    pub fn pusher_activity_timeout(&self) -> Duration {
        Duration::from_secs(self.pusher.activity_timeout.as_secs())
    }
}

/// Rejects an app without a key or a secret, and apps with the same key or prefix.
pub(super) fn check(config: &Config, given: &GivenOptions, errors: &mut Vec<ConfigError>) {
    let apps = &config.pusher.apps.0;
    for (i, PusherApp { id, options }) in apps.iter().enumerate() {
        let path = format!("{PUSHER_APPS}.{id}");
        let mut reject =
            |option: &str, what: String| errors.push(given.item_error(PUSHER_APPS, id, option, what));
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if options.key.is_empty() || !options.key.bytes().all(letter) {
            reject("key", format!("{path}.key must have letters, digits, `-`, `_` or `.`, and not be empty"));
        }
        if !options.secret.is_set() && !given.contains(&format!("{path}.secret_file")) {
            reject("secret", format!("the secret is empty; give {path}.secret or {path}.secret_file"));
        }
        if options.connect_proxy_enabled && !config.client.proxy.connect.enabled {
            let what = format!("{path}.connect_proxy_enabled needs client.proxy.connect.enabled = true");
            reject("connect_proxy_enabled", what);
        }
        let prefix = options.channel_prefix.as_str();
        let Channels { namespace_boundary, user_boundary, .. } = &config.channel;
        let name = prefix.strip_suffix(&**namespace_boundary);
        let is_valid = name.is_some_and(|name| !name.is_empty() && !name.contains(&**user_boundary));
        if !prefix.is_empty() && !is_valid {
            let what = format!(
                "{path}.channel_prefix must end in `{namespace_boundary}` (channel.namespace_boundary) and contain no \
                 `{user_boundary}` (channel.user_boundary)"
            );
            reject("channel_prefix", what);
        } else if !prefix.is_empty() && namespace_boundary.bytes().all(is_in_names) {
            let what = format!(
                "{path}.channel_prefix would not separate the app from others: channel.namespace_boundary \
                 (`{namespace_boundary}`) needs a character that names of Pusher channels cannot contain, such as `:`"
            );
            reject("channel_prefix", what);
        }
        let namespaces = &config.channel.namespaces;
        let namespace = prefix.split_once(&**namespace_boundary).map(|(name, _)| name);
        if let Some(name) = namespace.filter(|name| namespaces.iter().all(|known| known.name != **name))
            && !namespaces.is_empty()
        {
            reject(
                "channel_prefix",
                format!(
                    "{path}.channel_prefix names the namespace \"{name}\", which channel.namespaces lacks"
                ),
            );
        }
        if let Some(other) = apps[..i].iter().find(|other| other.options.key == options.key) {
            reject("key", format!("the apps \"{}\" and \"{id}\" have the same key", other.id));
        }
        if let Some(other) = apps[..i].iter().find(|other| other.options.channel_prefix == prefix) {
            let what = format!("the apps \"{}\" and \"{id}\" have the same channel_prefix", other.id);
            reject("channel_prefix", format!("{what}, so that they would have the same channels"));
        }
    }
}

/// Whether the name of a Pusher channel may contain this character.
fn is_in_names(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-=@,.;".contains(&byte)
}
