//! The apps of the Pusher protocol, and the operations of their HTTP API.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router as Routes;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tidings_broker::{BrokerError, PublishOptions};
use tidings_cluster::{ListBudget, Nodes};
use tidings_config::{AllowedOrigin, Config};
use tidings_hub::{NamespaceOptions, Namespaces, SessionAction, SessionCommand};
use tidings_pusher::{App, AppCounters, ChannelKind, Key, Limits, check_channel};
use tidings_pusher_api::{Backend, ChannelCounts, Failure, MAX_MEMBERS, escaped};
use tidings_reload::LiveConfig;
use tidings_shard::ShardMessage;
use tidings_wire::code::{self, http_status};
use tidings_wire::{Channel, ClientInfo, HistoryQuery, Pattern, RecoveryMode};
use tokio::sync::oneshot;

use crate::router::{Router, failure};
use crate::shards::Shards;

/// How long the last event of a cache channel is kept for new subscribers.
const CACHE_TTL: Duration = Duration::from_secs(30 * 60);
/// Most bytes of a list of channels, and bytes of a channel in it besides its name.
const MAX_LIST: usize = 4 << 20;
const LIST_OVERHEAD: usize = 64;

/// The apps of this server.
#[derive(Debug, Default)]
pub(crate) struct PusherApps {
    /// The apps, by their numbers.
    pub(crate) apps: Vec<Arc<App>>,
    /// The origins of pages that may connect to each.
    origins: Vec<Vec<AllowedOrigin>>,
    /// Whether they exist only while no key is configured.
    is_workbench: bool,
}

impl PusherApps {
    /// The apps of a configuration.
    pub(crate) fn from_config(config: &Config) -> Self {
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
    pub(crate) fn is_open(&self, config: &Config) -> bool {
        !self.is_workbench || !config.has_key()
    }

    /// The number of the app with this key, and the origins of pages that may connect to it.
    pub(crate) fn find(&self, key: &str) -> Option<(usize, &[AllowedOrigin])> {
        let at = self.apps.iter().position(|app| app.key == key)?;
        Some((at, &self.origins[at]))
    }

    /// The routes of the HTTP API; none without apps.
    pub(crate) fn routes(&self, backend: PusherBackend) -> Routes {
        if self.apps.is_empty() {
            return Routes::new();
        }
        tidings_pusher_api::routes(&self.apps, Arc::new(backend))
    }
}

/// The options of cache channels: their last event is kept.
pub(crate) fn with_cache_channels(config: &Config, namespaces: Namespaces) -> Namespaces {
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

/// How often the numbers of subscriptions are compared.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);
/// Comparisons until all numbers are sent again, also to clients whose subscription has not changed a number.
const COUNT_ROUNDS: u32 = 12;

/// Sends the numbers of subscriptions that have changed to the subscribers on this node, until the task is cancelled. Returns at
/// once if no app requests it.
pub(crate) async fn report_counts(apps: Arc<PusherApps>, nodes: Arc<Nodes>, shards: Arc<Shards>) {
    let apps: Vec<_> = apps.apps.iter().filter(|app| app.subscription_count).cloned().collect();
    let mut sent: Vec<ChannelCounts> = vec![ChannelCounts::new(); apps.len()];
    let mut rounds = 0;
    while !apps.is_empty() {
        tokio::time::sleep(COUNT_INTERVAL).await;
        rounds = (rounds + 1) % COUNT_ROUNDS;
        for (app, sent) in apps.iter().zip(&mut sent) {
            if app.counters.connections.load(Ordering::Relaxed) == 0 {
                sent.clear();
                continue;
            }
            let all = Pattern::new(escaped(&app.prefix) + "*").ok();
            let budget = ListBudget::new(MAX_LIST, LIST_OVERHEAD);
            let counts = match nodes.channels(all.as_ref(), budget).await {
                Ok(counts) => counts,
                Err(error) => {
                    tracing::debug!(app = app.id, %error, "the numbers of subscriptions are not known");
                    continue;
                }
            };
            let is_changed = |(name, count): &(&String, &u64)| {
                let visible = name.strip_prefix(&app.prefix).unwrap_or_default();
                check_channel(visible).is_ok()
                    && ChannelKind::of(visible) != ChannelKind::Presence
                    && (rounds == 0 || sent.get(*name) != Some(count))
            };
            let channel = |(name, count): (&String, &u64)| Some((Channel::new(name).ok()?, *count));
            let changed: Vec<_> = counts.iter().filter(is_changed).filter_map(channel).collect();
            if !changed.is_empty() {
                let changed = Arc::new(changed);
                shards.post_to_all(|| ShardMessage::SubscriptionCounts(Arc::clone(&changed)));
            }
            *sent = counts;
        }
    }
}

/// The operations of the HTTP API.
pub(crate) struct PusherBackend {
    pub(crate) apps: Arc<PusherApps>,
    pub(crate) config: LiveConfig,
    pub(crate) router: Arc<Router>,
    pub(crate) nodes: Arc<Nodes>,
}

impl Backend for PusherBackend {
    fn is_open(&self) -> bool {
        self.apps.is_open(&self.config.load())
    }

    fn publish(
        &self,
        channel: Channel,
        event: String,
        data: Bytes,
        except: Option<String>,
    ) -> BoxFuture<'_, Result<(), Failure>> {
        let options = PublishOptions {
            tags: vec![("event".to_owned(), event)],
            origin: except.map(Into::into),
            ..PublishOptions::default()
        };
        async move {
            let (done, outcome) = oneshot::channel();
            self.router.publish(&channel, data, options, Box::new(|outcome| drop(done.send(outcome))));
            outcome.await.map_err(|_| unavailable())?.map(|_| ()).map_err(|failure| convert(&failure))
        }
        .boxed()
    }

    fn channels(&self, pattern: Pattern) -> BoxFuture<'_, Result<ChannelCounts, Failure>> {
        async move {
            let budget = ListBudget::new(MAX_LIST, LIST_OVERHEAD);
            let counts = self.nodes.channels(Some(&pattern), budget).await;
            counts.map_err(|error| Failure { status: 503, text: error.to_string() })
        }
        .boxed()
    }

    fn members(&self, channel: Channel) -> BoxFuture<'_, Result<Vec<ClientInfo>, Failure>> {
        async move {
            self.router.evict_ended(&channel);
            let (done, members) = oneshot::channel();
            let broker = self.router.broker();
            broker.presence(&channel, MAX_MEMBERS, Box::new(|outcome| drop(done.send(outcome))));
            let members = members.await.unwrap_or(Err(BrokerError::Unavailable));
            members.map_err(|error| convert(&failure(error)))
        }
        .boxed()
    }

    fn cached(&self, channel: Channel) -> BoxFuture<'_, Result<Option<Bytes>, Failure>> {
        async move {
            let query = HistoryQuery {
                limit: Some(1),
                reverse: true,
                max_bytes: MAX_MEMBERS,
                ..HistoryQuery::default()
            };
            let (done, history) = oneshot::channel();
            self.router.history(&channel, query, |outcome| drop(done.send(outcome)));
            let history = history.await.map_err(|_| unavailable())?.map_err(|failure| convert(&failure))?;
            Ok(history.publications().and_then(|all| all.first()).map(|last| last.body.clone()))
        }
        .boxed()
    }

    fn disconnect(&self, user: String) -> BoxFuture<'_, Result<(), Failure>> {
        let action = SessionAction::Disconnect {
            code: code::FORCE_DISCONNECT.number,
            reason: "the application has ended the connections of this user".to_owned(),
            except: Vec::new(),
        };
        let command = SessionCommand { user, client: None, session: None, action };
        async move {
            let sent = self.nodes.bus.send_session_command(&command).await;
            sent.map_err(|error| Failure { status: 503, text: error.to_string() })
        }
        .boxed()
    }
}

fn unavailable() -> Failure {
    Failure { status: 503, text: "the broker is unavailable".to_owned() }
}

fn convert(failure: &tidings_hub::Failure) -> Failure {
    match failure {
        tidings_hub::Failure::Unavailable => unavailable(),
        tidings_hub::Failure::Overloaded => {
            Failure { status: 503, text: "the broker is overloaded".to_owned() }
        }
        tidings_hub::Failure::Error(rejection) => {
            Failure { status: http_status(rejection.code).number, text: rejection.text.clone() }
        }
        tidings_hub::Failure::Disconnect(number, text) => {
            Failure { status: http_status(*number).number, text: text.clone() }
        }
    }
}
