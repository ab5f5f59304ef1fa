//! The construction of the parts of a server, each complete, in the order of their dependencies: mailboxes of the shards, the
//! sink of the broker, the broker, the parts that publish through it, the decisions about clients, and the HTTP services.
//! [`super::Server::start`] then starts the threads of the shards.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tidings_audit::Audit;
use tidings_auth::SetupError;
use tidings_broker::memory::{self, Memory};
use tidings_broker::redis::{Options, OptionsError, Redis};
use tidings_broker::{SharedSink, Stateful};
use tidings_broker_metrics::{MemoryMetrics, RedisMetrics};
use tidings_cluster::blocklist::Blocklist;
use tidings_cluster::{Cluster, ClusterBus, ClusterKey, DeferredWork, EndedNodes, NodeUid, Nodes};
use tidings_consumers::Consumers;
use tidings_http::{ConnectionLimiter, ConnectionPolicy};
use tidings_hub::{NamespaceTable, SessionKey, Settings};
use tidings_mqtt_state::{RetainedStore, Storage};
use tidings_otel::Tracer;
use tidings_proxy_protocol::ProxyHeaders;
use tidings_pusher_api::{PusherApps, PusherMetrics};
use tidings_shard::{Control, Handoffs, PreparedShards, Process, ProxyHandoff, TlsHandoff};
use tidings_shared_poll::SharedPolls;
use tidings_table_feed::Feeds;
use tidings_tls::{Tls, TlsMetrics};
use tidings_webhooks::{WebhookMetrics, Webhooks};

use super::StartError;
use crate::authority::Authorizer;
use crate::blocklist_sync::BlocklistSync;
use crate::control::SessionControl;
use crate::http::HttpServices;
use crate::inbound::{Inbound, InboundCounters};
use crate::info::ServerInfo;
use crate::internal::InternalChannels;
use crate::lifecycle::Lifecycle;
use crate::line_handshakes::{LineHandshakes, LineHeaders};
use crate::local_node::NodeParts;
use crate::mqtt_sessions::MqttSessions;
use crate::mqtt_storage::{self, MqttState};
use crate::namespace_metrics::{HistoryMetrics, NamespaceMetrics};
use crate::process::ProcessMetrics;
use crate::readiness::ReadinessCheck;
use crate::rebalance::Rebalance;
use crate::router::Router;
use crate::shards::Shards;
use crate::{api, random};
use tidings_auth_failures::AuthFailures;
use tidings_canary::Canary;
use tidings_config::{BrokerUrl, Config};
use tidings_metrics::MetricsRegistry;
use tidings_reload::{LiveConfig, Reloader};
use tidings_settings as settings;
use tidings_topic_table::{FEEDS, MAX_SHARDS, TopicTable};

/// Prefixes of the internal channels of this version, without the canaries that take the path of other publishers.
const INTERNAL_PREFIXES: [&str; 4] =
    [tidings_cluster::CONTROL, tidings_canary::PREFIX, crate::tables::CHANNEL, crate::webhooks::CHANNEL];

/// The parts of a server that is not started yet.
pub(super) struct Assembly {
    pub(super) prepared: PreparedShards,
    pub(super) control: Arc<dyn Control>,
    pub(super) handoffs: Handoffs,
    pub(super) proxy_headers: Arc<ProxyHeaders>,
    pub(super) http: Arc<HttpServices>,
    pub(super) work: DeferredWork,
    pub(super) canary: Arc<Canary>,
    pub(super) internal: Arc<InternalChannels>,
    pub(super) authorizer: Authorizer,
    pub(super) inbound: Arc<InboundCounters>,
    pub(super) rebalance: Arc<Rebalance>,
    pub(super) webhooks: Option<Arc<Webhooks>>,
    pub(super) consumers: Consumers,
    pub(super) cluster: Arc<Cluster>,
    pub(super) metrics: MetricsRegistry,
    pub(super) sessions: MqttSessions,
    pub(super) mqtt_storage: Storage,
    pub(super) feeds: Arc<Feeds>,
}

impl Assembly {
    /// Constructs the parts for `config`. The broker connects in the background; no shard runs yet.
    ///
    /// # Errors
    /// [`StartError`] for options that cannot be used, and when the operating system denies an event queue.
    pub(super) fn new(
        config: &Config,
        tls: Option<Arc<Tls>>,
        audit: Arc<Audit>,
        announcements: Vec<String>,
        (live, reloader): (LiveConfig, Reloader),
    ) -> Result<Self, StartError> {
        let lifecycle = Arc::new(Lifecycle::new());
        let count = settings::shard_count(config, MAX_SHARDS);
        let limits = settings::shard_limits(config, count);
        let connection_limit = limits.connections;
        let process = Arc::<Process>::default();
        settings::configure_process(&process, config);
        let prepared = tidings_shard::prepare(count, limits)?;
        let shards = Arc::new(Shards::new(&prepared, Arc::clone(&process)));
        let limiter = Arc::new(ConnectionLimiter::new(Arc::clone(&process), connection_limit));

        let uid = NodeUid::random();
        let session_key = SessionKey::new(&random::bytes());
        let sessions = Arc::new(settings::session_settings(config, uid.to_string(), session_key));
        let live_sessions = Arc::new(ArcSwap::new(Arc::clone(&sessions)));
        let (cluster, work) = Cluster::new(
            uid,
            settings::node_name(config, &announcements),
            settings::channel_options_digest(&sessions),
            ClusterKey::from_config(config),
        );
        let cluster = Arc::new(cluster);
        // The name of the canary's channel is public, so it must not be derived from a secret.
        let canary = Arc::new(Canary::new(
            u64::from_be_bytes(random::bytes()),
            config.ready.canary_interval,
            config.ready.canary_limit,
            settings::probed_features(config),
        ));
        let topic_table = Arc::new(TopicTable::default());
        let internal = Arc::<InternalChannels>::default();
        let ended_nodes = Arc::<EndedNodes>::default();
        let blocklist = Arc::<Blocklist>::default();
        let auth_failures = Arc::new(AuthFailures::new(Arc::clone(&audit), Arc::clone(&process)));
        let inbound_counters = Arc::<InboundCounters>::default();
        let namespaces = Arc::<NamespaceTable>::default();
        let mqtt = MqttState::open(config)?;
        let session_store = Arc::clone(&mqtt.sessions);
        let inbound_polls = Arc::<OnceLock<SharedPolls>>::default();
        let feeds = Arc::new(Feeds::from_config(config));
        let inbound = Arc::new(Inbound {
            shards: Arc::clone(&shards),
            session_key: sessions.session_key.clone(),
            settings: Arc::clone(&live_sessions),
            topic_table: Arc::clone(&topic_table),
            internal: Arc::clone(&internal),
            canary: Arc::clone(&canary),
            cluster: Arc::clone(&cluster),
            blocklist: Arc::clone(&blocklist),
            ended_nodes: Arc::clone(&ended_nodes),
            counters: Arc::clone(&inbound_counters),
            namespaces: Arc::clone(&namespaces),
            sessions: Arc::clone(&session_store),
            polls: Arc::clone(&inbound_polls),
            retained_reads: Arc::clone(&mqtt.reads),
            feeds: Arc::clone(&feeds),
            traces: Arc::clone(&process.traces),
        });

        let mut metrics = MetricsRegistry::default();
        let name = settings::node_name(config, &announcements);
        let tracer = Tracer::start(&config.opentelemetry, &name, &mut metrics).map_err(SetupError::from)?;
        if config.metrics.namespaces {
            metrics.register(NamespaceMetrics::new(Arc::clone(&shards), namespaces, &sessions));
        }
        let broker = start_broker(config, inbound, &live_sessions, cluster.uid(), &mut metrics)?;
        let is_shared = matches!(config.broker, BrokerUrl::Redis(_));
        metrics.register(Arc::clone(&cluster));
        for topic in cluster.topics() {
            broker.subscribe(&topic);
        }
        for topic in feeds.topics() {
            topic_table.subscribe(FEEDS, topic, |topic| broker.subscribe(topic));
        }
        metrics.register(feeds.metrics());
        let bus = ClusterBus::new(Arc::clone(&cluster), Arc::clone(&broker));
        let retained = mqtt.retained(config, &broker);
        mqtt.register(retained.as_ref(), &mut metrics);
        if let Some(RetainedStore::Shared(shared)) = &retained {
            tokio::spawn(Arc::clone(shared).watch_totals());
        }
        let MqttState { topics, storage, .. } = mqtt;
        let router = Router::new(
            broker,
            Arc::clone(&live_sessions),
            Arc::clone(&topic_table),
            Arc::clone(&shards),
            Arc::clone(&ended_nodes),
            config.broker_linger,
            tracer.clone(),
        );
        let shared = mqtt_storage::shared_sessions(config, &router, cluster.uid(), &internal);
        if let Some(shared) = &shared {
            metrics.register(Arc::clone(shared));
            tokio::spawn(Arc::clone(shared).run());
        }
        let router = Arc::new(router.with_mqtt(retained, Arc::clone(&session_store), shared.clone()));
        let wills = mqtt_storage::shared_wills(config, &router);
        if let Some(wills) = &wills {
            metrics.register(Arc::clone(wills));
            tokio::spawn(Arc::clone(wills).run());
        }
        let sessions = MqttSessions {
            store: session_store,
            router: Arc::clone(&router),
            shards: Arc::clone(&shards),
            wills,
            shared,
        };
        sessions.restore(&topics);
        let readiness = Arc::new(ReadinessCheck {
            lifecycle: Arc::clone(&lifecycle),
            topic_table,
            internal: Arc::clone(&internal),
            canary: Arc::clone(&canary),
        });
        let moving = Arc::<AtomicU64>::default();
        let nodes = Arc::new(Nodes {
            bus: bus.clone(),
            local: Arc::new(NodeParts {
                router: Arc::clone(&router),
                shards: Arc::clone(&shards),
                lifecycle: Arc::clone(&lifecycle),
                readiness: Arc::clone(&readiness),
                moving: Arc::clone(&moving),
            }),
            ended: ended_nodes,
            is_shared,
        });
        let rebalance = Arc::new(Rebalance::new(
            &config.cluster.rebalance,
            Arc::clone(&nodes),
            Arc::clone(&shards),
            moving,
        ));
        let blocklist_sync = Arc::new(BlocklistSync {
            list: Arc::clone(&blocklist),
            bus: bus.clone(),
            shards: Arc::clone(&shards),
            is_shared,
        });
        let authorizer = Authorizer::new(
            config,
            Arc::clone(&router),
            bus,
            Arc::clone(&blocklist),
            Arc::clone(&auth_failures),
            Arc::clone(&shards),
            tracer.clone(),
        )?;
        let poll_counters = Arc::<tidings_shared_poll::Counters>::default();
        metrics.register(Arc::clone(&poll_counters));
        let (polls, poll_task) = SharedPolls::new(
            tidings_shared_poll::limits(config),
            tidings_shared_poll::signature_keys(config),
            poll_counters,
        );
        let application = Arc::new(authorizer.clone());
        tokio::spawn(tidings_shared_poll::run(poll_task, application, Arc::clone(&shards) as _));
        if inbound_polls.set(polls.clone()).is_err() {
            unreachable!("it is set once");
        }
        let webhooks = Webhooks::from_config(config).map_err(SetupError::from)?.map(Arc::new);
        if let Some(webhooks) = &webhooks {
            metrics.register(WebhookMetrics(Arc::clone(webhooks)));
        }
        let consumers = Consumers::from_config(config)?;
        metrics.register(consumers.metrics());
        let control = Arc::new(SessionControl {
            router: Arc::clone(&router),
            shards: Arc::clone(&shards),
            authorizer: authorizer.clone(),
            sessions: sessions.clone(),
            info: ServerInfo {
                lifecycle: Arc::clone(&lifecycle),
                shards: Arc::clone(&shards),
                router: Arc::clone(&router),
            },
            webhooks: webhooks.clone(),
            polls: polls.clone(),
        });
        let proxy_headers =
            Arc::new(ProxyHeaders::new(Arc::clone(&process), config.client.stale_close_delay));
        let handoffs = Handoffs {
            tls: tls.as_ref().map(|tls| {
                Arc::new(LineHandshakes::new(Arc::clone(tls), Arc::clone(&limiter), Arc::clone(&shards)))
                    as Arc<dyn TlsHandoff>
            }),
            proxy: config.tcp.proxy_protocol.then(|| {
                let headers = Arc::clone(&proxy_headers);
                Arc::new(LineHeaders::new(headers, Arc::clone(&limiter), Arc::clone(&shards)))
                    as Arc<dyn ProxyHandoff>
            }),
        };
        let http = Arc::new(HttpServices {
            readiness,
            lifecycle,
            shards,
            policy: Arc::new(ConnectionPolicy::new(config, Arc::clone(&limiter))),
            limiter,
            api: Arc::new(api::Services {
                router,
                nodes,
                blocklist: blocklist_sync,
                counters: Arc::new(api::ApiCounters::new(config.http_api.rate_limit)),
                auth_failures,
                process,
                audit,
                tracer,
                polls,
                access: ArcSwap::from_pointee(api::ApiAccess::from_config(config, None)),
                reloader,
            }),
            config: live,
            pusher: Arc::new(PusherApps::from_config(config)),
            tls,
            announcements,
        });
        metrics.register(PusherMetrics(Arc::clone(&http.pusher)));
        metrics.register(http.api.reloader.clone());
        metrics.register(authorizer.counters());
        metrics.register(authorizer.streams().metrics());
        metrics.register(ProcessMetrics::new(Arc::clone(&http.lifecycle)));
        metrics.register(Arc::clone(&http.readiness));
        metrics.register(Arc::clone(&http.shards));
        metrics.register(Arc::clone(&http.policy));
        metrics.register(Arc::clone(&http.api.router));
        metrics.register(Arc::clone(&http.api.counters));
        metrics.register(Arc::clone(&http.api.auth_failures));
        metrics.register(Arc::clone(&http.api.audit));
        metrics.register(TlsMetrics(http.tls.clone()));
        metrics.register(Arc::clone(&proxy_headers));
        metrics.register(Arc::clone(&canary));
        metrics.register(Arc::clone(&inbound_counters));
        metrics.register(blocklist);
        metrics.register(Arc::clone(&rebalance));
        let inbound = inbound_counters;
        Ok(Self {
            prepared,
            control,
            handoffs,
            proxy_headers,
            http,
            work,
            canary,
            internal,
            authorizer,
            inbound,
            rebalance,
            webhooks,
            consumers,
            cluster,
            metrics,
            sessions,
            mqtt_storage: storage,
            feeds,
        })
    }
}

/// Starts the configured broker, which reports to `sink`.
fn start_broker(
    config: &Config,
    sink: SharedSink,
    sessions: &Arc<ArcSwap<Settings>>,
    uid: &str,
    metrics: &mut MetricsRegistry,
) -> Result<Arc<dyn Stateful>, OptionsError> {
    match &config.broker {
        BrokerUrl::Memory => {
            let limits = memory::Limits {
                channel_bytes: config.memory.max_channel,
                namespace_bytes: config.memory.max_namespace as u64,
                total_bytes: config.memory.max_total as u64,
                map_bytes: config.memory.map_max_total as u64,
            };
            let memory = Memory::with_limits(sink, limits);
            metrics.register(MemoryMetrics(Arc::clone(&memory)));
            let maps = Arc::clone(&memory);
            tokio::spawn(async move { maps.run_key_expiry().await });
            if config.metrics.namespaces {
                let settings = Arc::clone(sessions);
                metrics.register(HistoryMetrics { memory: Arc::clone(&memory), settings });
            }
            Ok(memory)
        }
        BrokerUrl::Redis(url) => {
            let options = Options {
                prefix: config.redis.prefix.clone(),
                connect_timeout: config.redis.connect_timeout,
                response_timeout: config.redis.response_timeout,
                own: &INTERNAL_PREFIXES,
                node: uid.to_owned(),
                ..Options::new(url.expose())
            };
            let redis = Redis::start(options, sink, &tokio::runtime::Handle::current())?;
            metrics.register(RedisMetrics(Arc::clone(&redis)));
            Ok(redis)
        }
    }
}
