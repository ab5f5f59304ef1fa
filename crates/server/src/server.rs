//! The start of a server. [`assembly`] constructs its parts, and [`shutdown`] stops it.

mod assembly;
mod grpc;
mod shutdown;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use shutdown::ShutdownProgress;
use thiserror::Error;
use tidings_audit::Audit;
use tidings_broker::redis::OptionsError;
use tidings_http::{HttpListener, HttpParts, HttpServer, Traffic};
use tidings_mqtt_state::Storage;
use tidings_proxy_protocol::ProxyHeaders;
use tidings_shard::{Listener, Metrics, Process, ShardMessage};
use tidings_table_service::Service as TableService;
use tokio::task::JoinSet;

use self::assembly::Assembly;
use crate::admin::AdminParts;
use crate::consumers::ConsumedCommands;
use crate::http::{self, HttpServices};
use crate::listen::{self, BoundListener, PassedListener, PassedListeners, SocketFile};
use crate::log_summary;
use crate::mqtt_sessions::MqttSessions;
use crate::mqtt_storage;
use crate::mqtt_sys::BrokerTopics;
use crate::readiness::Readiness;
use crate::reload::{ProcessOptions, ReloadedParts};
use crate::router::Router;
use crate::tables::{self, TableMetrics};
use crate::webhooks::NodeDeployment;
use tidings_auth::SetupError;
use tidings_config::{AuditTarget, Config, ListenAddr};
use tidings_consumers::RunningConsumers;
use tidings_reload::{LiveConfig, ReloadError, ReloadReport, Reloadable};
use tidings_settings as settings;
use tidings_tls::{MaterialError, Tls};
use tidings_webhooks::Webhooks;

/// The interval of the sweep of topics without subscribers.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

/// The reason why a server did not start. Displays as one line.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address could not be bound.
    #[error("cannot listen on {address} ({option}): {source}")]
    Listen {
        /// The option with the address.
        option: &'static str,
        /// The address.
        address: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The broker's URL or options are not usable.
    #[error("broker: {0}")]
    Broker(#[from] OptionsError),
    /// The keys of tokens or the addresses of hooks are not usable.
    #[error(transparent)]
    Authority(#[from] SetupError),
    /// A consumer cannot be set up.
    #[error(transparent)]
    Consumers(#[from] tidings_consumers::SetupError),
    /// The certificate or its key is not usable.
    #[error(transparent)]
    Tls(#[from] MaterialError),
    /// The file of the audit log could not be opened.
    #[error("log.audit: {} cannot be opened: {source}", path.display())]
    Audit {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The files of MQTT's state could not be read or written.
    #[error("data_dir: the state of MQTT in {}: {source}", path.display())]
    MqttFiles {
        /// Their folder.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// A thread or an event queue could not be created.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

impl StartError {
    /// Whether the configuration is wrong, rather than a resource unavailable: an address of another machine is a wrong
    /// configuration, an address in use is not.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Listen { source, .. } => {
                !matches!(source.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
            }
            Self::Broker(_) | Self::Authority(_) | Self::Consumers(_) | Self::Tls(_) | Self::Audit { .. } => {
                true
            }
            Self::System(_) | Self::MqttFiles { .. } => false,
        }
    }
}

/// A running server.
pub struct Server {
    services: Arc<HttpServices>,
    proxy_headers: Arc<ProxyHeaders>,
    threads: Vec<JoinHandle<()>>,
    tasks: JoinSet<()>,
    http: HttpServer,
    /// The port for operators; without listeners if `internal.listen` is empty.
    internal_http: HttpServer,
    /// The ports of gRPC, of the API and of the one-way transport; without a listener if they are disabled.
    grpc: [HttpServer; 2],
    tables: Option<Arc<TableService>>,
    webhooks: Option<Arc<Webhooks>>,
    consumers: RunningConsumers,
    mqtt_storage: Storage,
    progress: ShutdownProgress,
    _files: Vec<SocketFile>,
}

impl Server {
    /// Binds every listener and starts shards, broker and HTTP. Call within a tokio runtime.
    ///
    /// The server accepts connections when this returns, even if its broker is not reachable yet.
    ///
    /// # Errors
    /// [`StartError`]; then nothing is left running.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, PassedListeners::default()).await
    }

    /// As [`Self::start`], with listeners that are bound already. If a port has some, they are used instead of binding its
    /// configured addresses, and the configuration must name their addresses in the same order.
    ///
    /// # Errors
    /// [`StartError`]; then nothing is left running.
    pub async fn start_with(config: Config, passed: PassedListeners) -> Result<Self, StartError> {
        Self::start_reloadable(config, passed, None, Box::new(|_| {})).await
    }

    /// As [`Self::start_with`], with sources from which [`Self::reload`] and the server API read the configuration again.
    /// `process` applies the options that concern the whole process, after each reload.
    ///
    /// # Errors
    /// [`StartError`]; then nothing is left running.
    pub async fn start_reloadable(
        config: Config,
        passed: PassedListeners,
        reloadable: Option<Reloadable>,
        process: ProcessOptions,
    ) -> Result<Self, StartError> {
        let tls = Tls::from_config(&config)?;
        let audit = open_audit_log(&config)?;
        let grpc_tls = Tls::for_grpc(&config.grpc_api.tls.with(&config.tls), "grpc_api")?;
        let uni_grpc_tls = Tls::for_grpc(&config.uni_grpc.tls.with(&config.tls), "uni_grpc")?;
        let [tcp, mqtt, http, internal_port, grpc, uni_grpc] = bind_all(&config, passed)?;
        let mut announcements = Vec::new();
        for bound in &tcp {
            announcements.push(format!("tcp {}", bound.address()?));
        }
        for bound in &mqtt {
            announcements.push(format!("mqtt {}", bound.address()?));
        }
        for bound in &http {
            announcements.push(match bound {
                BoundListener::Tcp(_) if tls.is_some() => format!("http https://{}/", bound.address()?),
                BoundListener::Tcp(_) => format!("http http://{}/", bound.address()?),
                BoundListener::Unix(..) => format!("http {}", bound.address()?),
            });
        }
        for bound in &internal_port {
            announcements.push(match bound {
                BoundListener::Tcp(_) => format!("internal http://{}/", bound.address()?),
                BoundListener::Unix(..) => format!("internal {}", bound.address()?),
            });
        }
        for bound in &grpc {
            announcements.push(format!("grpc {}", bound.address()?));
        }
        for bound in &uni_grpc {
            announcements.push(format!("uni_grpc {}", bound.address()?));
        }

        let live = LiveConfig::new(config.clone());
        let (reloader, reloads) = tidings_reload::reloader(live.clone(), reloadable);
        let Assembly {
            prepared,
            control,
            handoffs,
            proxy_headers,
            http: services,
            work,
            canary,
            internal,
            authorizer,
            inbound,
            rebalance,
            webhooks,
            consumers,
            cluster,
            mut metrics,
            sessions,
            mqtt_storage,
            feeds,
        } = Assembly::new(&config, tls, Arc::new(audit), announcements, (live.clone(), reloader))?;
        let (api, shards) = (&services.api, &services.shards);
        let session_settings = api.router.settings();
        let protocols =
            Arc::new(settings::protocols(&config, prepared.mailboxes().len(), &services.pusher.load()));
        let threads = prepared.start(&session_settings, &protocols, &control, &handoffs, shards.process())?;
        let mut files = Vec::new();
        let line = tcp.into_iter().zip(&config.tcp.listen).map(|one| (one, false));
        let mqtt = mqtt.into_iter().zip(&config.mqtt.listen).map(|one| (one, true));
        for ((bound, address), is_mqtt) in line.chain(mqtt) {
            let listener = match bound {
                BoundListener::Tcp(listener) if services.tls.is_some() && config.tls.required.at(address) => {
                    Listener::tls(listener)?
                }
                BoundListener::Tcp(listener) => Listener::tcp(listener)?,
                BoundListener::Unix(listener, file) => {
                    files.push(file);
                    Listener::unix(listener)?
                }
            };
            shards.listen(listener.proxied(config.tcp.proxy_protocol).with_mqtt(is_mqtt));
        }
        let tables = tables::start(&services, authorizer.clone(), &internal, &feeds)?;
        if let Some(tables) = &tables {
            metrics.register(TableMetrics(Arc::clone(tables)));
        }
        let AdminParts { page, reporter } = AdminParts::new(&services, inbound, tables.as_ref());
        metrics.register(Arc::clone(&page));
        let traffic = Arc::<Traffic>::default();
        metrics.register(Arc::clone(&traffic));
        let limits = log_summary::LimitCounters {
            shards: Arc::clone(shards),
            settings: session_settings,
            api: Arc::clone(&api.counters),
        };
        metrics.register(limits.clone());
        let mut listeners = |all: Vec<BoundListener>| -> Vec<HttpListener> {
            let listener = |bound| match bound {
                BoundListener::Tcp(listener) => HttpListener::Tcp(listener),
                BoundListener::Unix(listener, file) => {
                    files.push(file);
                    HttpListener::Unix(listener)
                }
            };
            all.into_iter().map(listener).collect()
        };
        let (http, internal_port) = (listeners(http), listeners(internal_port));
        let grpc = [
            grpc::start(listeners(grpc), &config, &services, grpc_tls.as_ref(), &mut metrics)?,
            grpc::start_uni(listeners(uni_grpc), &config, &services, uni_grpc_tls.as_ref())?,
        ];
        let metrics = Arc::new(metrics);
        let (routes, internal_routes) = http::routes(&services, &metrics, tables.as_ref(), page.routes());
        let parts = HttpParts {
            config: &config,
            policy: &services.policy,
            process: shards.process(),
            traffic: &traffic,
            tls: services.tls.as_ref(),
            proxy_headers: config.http.proxy_protocol.then_some(&proxy_headers),
            reserve: http::reserve_paths(&config),
        };
        let http = HttpServer::start(http, &routes, &parts)?;
        // With its own counters and permits, so that clients of the HTTP port cannot use up those of operators.
        let parts = HttpParts { traffic: &Arc::default(), tls: None, proxy_headers: None, ..parts };
        let internal_http = HttpServer::start(internal_port, &internal_routes.unwrap_or_default(), &parts)?;
        let mut tasks = JoinSet::new();
        let (broker, topic_table) = (Arc::clone(api.router.broker()), Arc::clone(api.router.topic_table()));
        let is_connected = move || topic_table.down_reason().is_none();
        tasks.spawn(tidings_canary::run(Arc::clone(&canary), broker, is_connected));
        tasks.spawn(Arc::clone(&services.readiness).watch());
        tasks.spawn(sweep(Arc::clone(&api.router), sessions.clone(), live));
        let topics = BrokerTopics {
            sessions: sessions.clone(),
            lifecycle: Arc::clone(&services.lifecycle),
            has_mqtt: config.mqtt.enabled,
        };
        tasks.spawn(topics.run(config.mqtt.sys_interval));
        tasks.spawn(mqtt_storage::maintain(mqtt_storage.clone(), config.mqtt.sync_interval));
        tasks.spawn(Arc::clone(&api.nodes).run(work, Arc::clone(&reporter) as _));
        tasks.spawn(rebalance.run());
        if config.admin.enabled {
            tasks.spawn(reporter.sample());
        }
        tasks.spawn(log_summary::run(limits));
        let (apps, nodes) = (Arc::clone(&services.pusher), Arc::clone(&api.nodes));
        let all = Arc::clone(shards);
        tasks.spawn(tidings_pusher_api::report_counts(apps, nodes, move |counts| {
            all.post_to_all(|| ShardMessage::SubscriptionCounts(Arc::clone(&counts)));
        }));
        if let Some(webhooks) = &webhooks {
            let deployment = NodeDeployment::new(
                Arc::clone(&api.nodes),
                Arc::clone(&api.router),
                Arc::clone(&services.pusher),
                &internal,
                webhooks,
            );
            tasks.spawn(Arc::clone(webhooks).run(Arc::new(deployment)));
        }
        let consumers = consumers.start(&(Arc::new(ConsumedCommands(Arc::clone(api))) as _));
        tasks.spawn(Arc::clone(&api.blocklist).run());
        for tls in services.tls.iter().chain(&grpc_tls).chain(&uni_grpc_tls) {
            tasks.spawn(Arc::clone(tls).watch());
        }
        let http_services = Arc::clone(&services);
        let mqtt_sessions = sessions.clone();
        let webhooks_of_apps = webhooks.clone();
        let parts = ReloadedParts {
            http: http_services,
            authorizer,
            cluster,
            canary,
            mqtt_sessions,
            webhooks: webhooks_of_apps,
            process,
        };
        tasks.spawn(reloads.run(parts));
        let progress = ShutdownProgress::new(Arc::clone(shards), http.connections());
        Ok(Self {
            services,
            proxy_headers,
            threads,
            tasks,
            http,
            internal_http,
            grpc,
            tables,
            webhooks,
            consumers,
            mqtt_storage,
            progress,
            _files: files,
        })
    }

    /// One line per listener, for users: `tcp 127.0.0.1:5567`, `http http://127.0.0.1:8000/`.
    pub fn announcements(&self) -> &[String] {
        &self.services.announcements
    }

    /// The configuration now.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.services.config.load()
    }

    /// Reads the configuration, the files with secrets and the TLS certificate again, and applies them. The result is logged.
    ///
    /// # Errors
    /// [`ReloadError`]: nothing has changed.
    pub async fn reload(&self) -> Result<ReloadReport, ReloadError> {
        self.services.api.reload("SIGHUP", None).await
    }

    /// Opens the file of the audit log again, after it was moved. Errors are logged.
    pub fn reopen_audit_log(&self) {
        self.services.api.audit.reopen();
    }

    /// Whether the server should receive new clients.
    pub fn readiness(&self) -> Readiness {
        self.services.readiness.check()
    }

    /// The metrics of each shard.
    pub fn shard_metrics(&self) -> &[Arc<Metrics>] {
        self.services.shards.metrics()
    }

    /// The counters that all shards share: connections, queued bytes.
    pub fn process(&self) -> &Process {
        self.services.shards.process()
    }
}

fn open_audit_log(config: &Config) -> Result<Audit, StartError> {
    Audit::open(&config.log.audit).map_err(|source| match &config.log.audit {
        AuditTarget::File(path) => StartError::Audit { path: path.clone(), source },
        AuditTarget::Off | AuditTarget::Log => StartError::System(source),
    })
}

/// The bound listeners of one port.
type Bound = Vec<BoundListener>;

/// Binds the listeners of the line port, of MQTT, of the HTTP port, of the internal port and of the two ports of gRPC, or adopts those
/// that are bound already.
fn bind_all(config: &Config, passed: PassedListeners) -> Result<[Bound; 6], StartError> {
    let all = |option: &'static str, addresses: &[ListenAddr], passed: Vec<PassedListener>| {
        if !passed.is_empty() && passed.len() != addresses.len() {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "not as many listeners as addresses");
            return Err(StartError::Listen { option, address: "a passed listener".to_owned(), source });
        }
        let mut passed = passed.into_iter();
        let bound = addresses.iter().map(|address| {
            let bound = match passed.next() {
                Some(listener) => listen::adopt(listener),
                None => listen::bind(address),
            };
            bound.map_err(|source| StartError::Listen { option, address: address.to_string(), source })
        });
        bound.collect::<Result<Vec<_>, _>>()
    };
    let mqtt: &[ListenAddr] = if config.mqtt.enabled { &config.mqtt.listen } else { &[] };
    let grpc: Vec<_> = config.grpc_api.enabled.then(|| config.grpc_api.listen()).into_iter().collect();
    let uni: Vec<_> = config.uni_grpc.enabled.then(|| config.uni_grpc.listen()).into_iter().collect();
    Ok([
        all("tcp.listen", &config.tcp.listen, passed.tcp)?,
        all("mqtt.listen", mqtt, Vec::new())?,
        all("http.listen", &config.http.listen, passed.http)?,
        all("internal.listen", &config.internal.listen, Vec::new())?,
        all("grpc_api.address", &grpc, Vec::new())?,
        all("uni_grpc.address", &uni, Vec::new())?,
    ])
}

/// Unsubscribes topics without subscribers. Requests clients to reconnect elsewhere once the broker has been unavailable for
/// `client.broker_down_delay`.
async fn sweep(router: Arc<Router>, sessions: MqttSessions, config: LiveConfig) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        sessions.sweep();
        router.sweep(Instant::now());
        router.move_stranded(Instant::now(), config.load().client.broker_down_delay);
    }
}
