//! The apps of a server, from its configuration, which a reload replaces.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tidings_config::{AllowedOrigin, Config};
use tidings_hub::{NamespaceOptions, Namespaces};
use tidings_pusher::{App, Key, Limits};
use tidings_wire::RecoveryMode;

/// How long the last event of a cache channel is kept for new subscribers.
const CACHE_TTL: Duration = Duration::from_secs(30 * 60);

/// Numbers of apps. Four times as many as apps, so that a number that has become free is not given to another app at once.
const NUMBERS: u8 = 250;

/// The apps in use. Each reader takes the present table for one operation.
#[derive(Debug)]
pub struct PusherApps(ArcSwap<AppTable>);

impl PusherApps {
    /// The apps of a configuration.
    pub fn from_config(config: &Config) -> Self {
        Self(ArcSwap::from_pointee(AppTable::default().renewed(config)))
    }

    /// The present table.
    pub fn load(&self) -> Arc<AppTable> {
        self.0.load_full()
    }

    /// Replaces the table. The shards must have its apps ([`AppTable::by_number`]) before, because clients connect by it.
    pub fn store(&self, table: AppTable) {
        self.0.store(Arc::new(table));
    }
}

/// The apps of a configuration.
///
/// Invariant: an app with another id, key or prefix of channels has another number, so that a session of the earlier app is
/// never taken for one of it.
#[derive(Clone, Debug, Default)]
pub struct AppTable {
    apps: BTreeMap<u8, (Arc<App>, Vec<AllowedOrigin>)>,
    /// The last number that was given.
    last: u8,
    /// Whether the apps exist only while no key is configured.
    is_workbench: bool,
}

impl AppTable {
    /// The table of a configuration after this one. Apps keep their counters by their ids.
    #[must_use]
    pub fn renewed(&self, config: &Config) -> Self {
        let mut renewed =
            Self { apps: BTreeMap::new(), last: self.last, is_workbench: config.pusher.apps.is_empty() };
        let mut others = Vec::new();
        for app in config.pusher_apps() {
            let options = &app.options;
            let limits = Limits {
                connections: options.limits.connections,
                presence_members: options.limits.presence_members,
                event_size: options.limits.event_size,
                client_event_rate: options.limits.client_event_rate,
            };
            let before = self.apps.iter().find(|(_, (before, _))| before.id == app.id);
            let new = Arc::new(App {
                id: app.id.clone(),
                key: options.key.clone(),
                secret: Key::new(options.secret.expose()),
                prefix: options.channel_prefix.clone(),
                client_events: options.client_events,
                subscription_count: options.subscription_count,
                watchlist_events: options.watchlist_events,
                connect_hook: options.connect_proxy_enabled,
                activity_timeout: config.pusher_activity_timeout().as_secs(),
                limits,
                counters: before.map(|(_, (before, _))| Arc::clone(&before.counters)).unwrap_or_default(),
            });
            let new = (new, options.allowed_origins.clone());
            match before {
                Some((number, (before, _))) if before.key == new.0.key && before.prefix == new.0.prefix => {
                    renewed.apps.insert(*number, new);
                }
                _ => others.push(new),
            }
        }
        for new in others {
            let number = renewed.free_number(self);
            renewed.last = number;
            renewed.apps.insert(number, new);
        }
        renewed
    }

    /// The next number that neither table uses. There are more numbers than apps of two tables.
    fn free_number(&self, before: &Self) -> u8 {
        let is_free = |number: &u8| !self.apps.contains_key(number) && !before.apps.contains_key(number);
        let following =
            (1..=NUMBERS).map(|step| ((u16::from(self.last) + u16::from(step)) % u16::from(NUMBERS)) as u8);
        following.into_iter().find(is_free).expect("a free number")
    }

    /// Whether there is no app.
    pub fn is_empty(&self) -> bool {
        self.apps.is_empty()
    }

    /// The apps in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<App>> {
        self.apps.values().map(|(app, _)| app)
    }

    /// The apps by their numbers, which sessions refer to.
    pub fn by_number(&self) -> BTreeMap<u8, Arc<App>> {
        self.apps.iter().map(|(number, (app, _))| (*number, Arc::clone(app))).collect()
    }

    /// Whether the apps may be used: those of a workbench only until a key is configured.
    pub fn is_open(&self, config: &Config) -> bool {
        !self.is_workbench || !config.has_key()
    }

    /// The number of the app with this key, and the origins of pages that may connect to it.
    pub fn find(&self, key: &str) -> Option<(u8, &[AllowedOrigin])> {
        let (number, (_, origins)) = self.apps.iter().find(|(_, (app, _))| app.key == key)?;
        Some((*number, origins))
    }

    /// The app with this id.
    pub(crate) fn by_id(&self, id: &str) -> Option<&Arc<App>> {
        self.iter().find(|app| app.id == id)
    }
}

/// The options of cache channels: their last event is kept.
pub fn with_cache_channels(config: &Config, namespaces: Namespaces) -> Namespaces {
    let keep_last = |options: &mut NamespaceOptions| {
        if !options.has_history() {
            (options.history_size, options.history_ttl) = (1, CACHE_TTL);
        }
        options.force_recovery_mode = RecoveryMode::Cache;
    };
    let kinds = ["cache-", "private-cache-", "private-encrypted-cache-", "presence-cache-"];
    config.pusher_apps().iter().fold(namespaces, |namespaces, app| {
        kinds.iter().fold(namespaces, |namespaces, kind| {
            let beginning = format!("{}{kind}", app.options.channel_prefix);
            namespaces.with_beginning(&beginning, &beginning, keep_last)
        })
    })
}

#[cfg(test)]
mod tests {
    use tidings_config::Overrides;

    use super::*;

    /// The configuration with these apps: id, key, secret and prefix.
    fn config(apps: &[[&str; 4]]) -> Config {
        let mut overrides = Overrides::default();
        let ids: Vec<&str> = apps.iter().map(|[id, ..]| *id).collect();
        overrides.set(&format!("pusher.apps={}", ids.join(","))).expect("ids");
        for [id, key, secret, prefix] in apps {
            for (option, value) in [("key", key), ("secret", secret), ("channel_prefix", prefix)] {
                overrides.set(&format!("pusher.apps.{id}.{option}={value}")).expect("an option");
            }
        }
        tidings_config::load(None, [], &overrides).expect("a configuration")
    }

    fn number(table: &AppTable, key: &str) -> Option<u8> {
        table.find(key).map(|(number, _)| number)
    }

    #[test]
    fn an_app_keeps_its_number_with_another_secret_and_gets_another_with_another_key_or_prefix() {
        let first = AppTable::default().renewed(&config(&[["a", "ka", "s", ""], ["b", "kb", "s", "b:"]]));
        let second = first.renewed(&config(&[["b", "kb", "other", "b:"], ["a", "new", "s", ""]]));
        assert_eq!(number(&first, "kb"), number(&second, "kb"));
        assert_eq!(number(&second, "ka"), None);
        assert!(!first.by_number().contains_key(&number(&second, "new").expect("an app")));
        let third = second.renewed(&config(&[["b", "kb", "other", "c:"], ["a", "new", "s", ""]]));
        assert_ne!(number(&second, "kb"), number(&third, "kb"));
        assert_eq!(number(&second, "new"), number(&third, "new"));
        let counters = |table: &AppTable| Arc::as_ptr(&table.by_id("a").expect("an app").counters);
        assert_eq!(counters(&first), counters(&third));
    }

    #[test]
    fn a_number_is_not_given_again_soon() {
        let mut table = AppTable::default();
        let mut last = Vec::new();
        for round in 0..600 {
            table = table.renewed(&config(&[["a", &format!("k{round}"), "s", ""]]));
            let number = number(&table, &format!("k{round}")).expect("an app");
            assert!(
                !last.iter().rev().take(200).any(|before| *before == number),
                "{number} in round {round}"
            );
            last.push(number);
        }
    }
}
