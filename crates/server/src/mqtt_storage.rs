//! The state of MQTT: sessions, and retained messages unless the broker stores them; with files if the data directory has them.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tidings_broker::Stateful;
use tidings_config::{BrokerUrl, Config};
use tidings_hub::{SessionId, Slot};
use tidings_metrics::MetricsRegistry;
use tidings_mqtt_session::Connection;
use tidings_mqtt_state::{
    Limits, Retained, RetainedReads, RetainedStore, SharedRetained, SharedSessions, SharedWills, Storage,
    WakeSession,
};
use tidings_shard::ShardMessage;
use tidings_wire::{Channel, Topic};

use crate::internal::InternalChannels;
use crate::mqtt_sessions::{SessionStore, unix_seconds};
use crate::router::Router;
use crate::server::StartError;
use crate::shards::Shards;
use tidings_settings as settings;

/// The name of the retained messages at the broker.
const RETAINED: &str = "tidings.node.retained";
/// The name of the wills there.
const WILLS: &str = "tidings.node.wills";
/// The name of the sessions there.
const SESSIONS: &str = "tidings.node.sessions";

/// The parts of the state.
pub(crate) struct MqttState {
    pub(crate) sessions: Arc<SessionStore>,
    /// `None` where this server stores no retained messages.
    retained: Option<Arc<Retained>>,
    /// The reads of retained messages that the broker stores.
    pub(crate) reads: Arc<RetainedReads>,
    /// The topics of the sessions of an earlier start.
    pub(crate) topics: Vec<Topic>,
    pub(crate) storage: Storage,
}

impl MqttState {
    /// Reads the files, if the configuration has them.
    ///
    /// # Errors
    /// The files cannot be read or written.
    pub(crate) fn open(config: &Config) -> Result<Self, StartError> {
        match settings::mqtt_folder(config) {
            Some(path) => {
                Self::open_files(config, &path).map_err(|source| StartError::MqttFiles { path, source })
            }
            None => Ok(Self {
                sessions: Arc::new(SessionStore::new(settings::session_limits(config))),
                retained: retains_here(config).then(|| Arc::new(Retained::new(retained_limits(config)))),
                reads: Arc::default(),
                topics: Vec::new(),
                storage: Storage::default(),
            }),
        }
    }

    fn open_files(config: &Config, folder: &Path) -> io::Result<Self> {
        let limits = settings::session_limits(config);
        let (sessions, topics) = SessionStore::open_files(limits, folder, unix_seconds())?;
        let sessions = Arc::new(sessions);
        let mut storage = Storage::default().with_sessions(&sessions);
        let mut retained = None;
        if retains_here(config) {
            let opened = Arc::new(Retained::open(retained_limits(config), folder)?);
            storage = storage.with_retained(&opened);
            retained = Some(opened);
        }
        Ok(Self { sessions, retained, reads: Arc::default(), topics, storage })
    }

    /// The retained messages; those of a deployment are at the broker. `None` where messages are not retained.
    pub(crate) fn retained(&self, config: &Config, broker: &Arc<dyn Stateful>) -> Option<RetainedStore> {
        if let Some(retained) = &self.retained {
            return Some(RetainedStore::Local(Arc::clone(retained)));
        }
        let store = Channel::new(RETAINED).ok().filter(|_| settings::retains(config))?;
        let (broker, reads) = (Arc::clone(broker), Arc::clone(&self.reads));
        let shared = SharedRetained::new(broker, store, retained_limits(config), reads);
        Some(RetainedStore::Shared(Arc::new(shared)))
    }

    /// Registers the metrics of the parts.
    pub(crate) fn register(&self, retained: Option<&RetainedStore>, metrics: &mut MetricsRegistry) {
        metrics.register(Arc::clone(&self.sessions));
        if let Some(retained) = retained {
            metrics.register(retained.clone());
        }
        metrics.register(self.storage.clone());
    }
}

/// The wills of the deployment, if its broker stores them.
pub(crate) fn shared_wills(config: &Config, router: &Arc<Router>) -> Option<Arc<SharedWills>> {
    let store = Channel::new(WILLS).ok().filter(|_| settings::shares_state(config))?;
    let max_bytes = settings::session_limits(config).total_bytes;
    let (broker, publisher) = (Arc::clone(router.broker()), Arc::clone(router) as _);
    Some(Arc::new(SharedWills::new(broker, store, publisher, max_bytes)))
}

/// The sessions of the deployment, if its broker stores them; woken in a channel of this node.
pub(crate) fn shared_sessions(
    config: &Config,
    router: &Router,
    node: &str,
    internal: &InternalChannels,
) -> Option<Arc<SharedSessions>> {
    let store = Channel::new(SESSIONS).ok().filter(|_| settings::shares_state(config))?;
    let (broker, shards) = (Arc::clone(router.broker()), Arc::clone(router.shards()) as _);
    let limits = settings::session_limits(config);
    let sessions = Arc::new(SharedSessions::new(broker, store, node.to_owned(), shards, limits));
    let (topic, woken) = (Topic::Channel(sessions.wakes()), Arc::clone(&sessions));
    internal.subscribe(topic.clone(), Box::new(move |body| woken.on_wake(body)));
    router.broker().subscribe(&topic);
    Some(sessions)
}

impl WakeSession for Shards {
    fn wake(&self, Connection { shard, slot, generation }: Connection) {
        if let Some(mailbox) = self.mailbox(shard as usize) {
            mailbox.post(ShardMessage::MessagesWaiting(SessionId { slot: Slot::new(slot), generation }));
        }
    }
}

/// Whether this server stores retained messages itself.
fn retains_here(config: &Config) -> bool {
    settings::retains(config) && config.broker == BrokerUrl::Memory
}

fn retained_limits(config: &Config) -> Limits {
    Limits { messages: config.mqtt.retain_limit, bytes: config.mqtt.retain_max_bytes }
}

/// Synchronises the files with the disk every `interval`, and writes their snapshots.
pub(crate) async fn maintain(storage: Storage, interval: Duration) {
    while !storage.is_empty() {
        tokio::time::sleep(interval).await;
        blocking(&storage, Storage::maintain).await;
    }
}

/// Synchronises the files with the disk, and leaves them to the next process.
pub(crate) async fn close(storage: &Storage) {
    blocking(storage, Storage::close).await;
}

async fn blocking(storage: &Storage, work: fn(&Storage)) {
    let storage = storage.clone();
    // The only error is a panic, which is logged.
    let _ = tokio::task::spawn_blocking(move || work(&storage)).await;
}
