//! The apps of a server, from its configuration.

use std::sync::Arc;
use std::time::Duration;

use axum::Router as Routes;
use tidings_config::{AllowedOrigin, Config};
use tidings_hub::{NamespaceOptions, Namespaces};
use tidings_pusher::{App, AppCounters, Key, Limits};
use tidings_wire::RecoveryMode;

use crate::Backend;

/// How long the last event of a cache channel is kept for new subscribers.
const CACHE_TTL: Duration = Duration::from_secs(30 * 60);

/// The apps of this server.
#[derive(Debug, Default)]
pub struct PusherApps {
    /// The apps, by their numbers.
    pub apps: Vec<Arc<App>>,
    /// The origins of pages that may connect to each.
    origins: Vec<Vec<AllowedOrigin>>,
    /// Whether they exist only while no key is configured.
    is_workbench: bool,
}

impl PusherApps {
    /// The apps of a configuration.
    pub fn from_config(config: &Config) -> Self {
        let configured = config.pusher_apps();
        let app = |app: &tidings_config::PusherApp| {
            let options = &app.options;
            let limits = Limits {
                connections: options.limits.connections,
                presence_members: options.limits.presence_members,
                event_size: options.limits.event_size,
                client_event_rate: options.limits.client_event_rate,
            };
            Arc::new(App {
                id: app.id.clone(),
                key: options.key.clone(),
                secret: Key::new(options.secret.expose()),
                prefix: options.channel_prefix.clone(),
                client_events: options.client_events,
                subscription_count: options.subscription_count,
                watchlist_events: options.watchlist_events,
                activity_timeout: config.pusher_activity_timeout().as_secs(),
                limits,
                counters: AppCounters::default(),
            })
        };
        Self {
            apps: configured.iter().map(app).collect(),
            origins: configured.iter().map(|app| app.options.allowed_origins.clone()).collect(),
            is_workbench: config.pusher.apps.is_empty(),
        }
    }

    /// Whether the apps may be used: those of a workbench only until a key is configured.
    pub fn is_open(&self, config: &Config) -> bool {
        !self.is_workbench || !config.has_key()
    }

    /// The number of the app with this key, and the origins of pages that may connect to it.
    pub fn find(&self, key: &str) -> Option<(usize, &[AllowedOrigin])> {
        let at = self.apps.iter().position(|app| app.key == key)?;
        Some((at, &self.origins[at]))
    }

    /// The routes of the HTTP API; none without apps.
    pub fn routes(&self, backend: Arc<dyn Backend>) -> Routes {
        if self.apps.is_empty() {
            return Routes::new();
        }
        crate::routes(&self.apps, backend)
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
