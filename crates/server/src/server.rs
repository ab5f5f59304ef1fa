//! Starting a server; stopping it is in [`shutdown`].

mod shutdown;

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use shutdown::ShutdownProgress;
use thiserror::Error;
use tidings_broker::memory::{self, Memory};
use tidings_broker::redis::{Options, OptionsError, Redis};
use tidings_broker::{SharedSink, Stateful};
use tidings_shard::{AddressLimits, Control, Listener, Process, RateLimit, ShardMessage, TlsHandoff};
use tokio::task::JoinSet;

use crate::auth::SetupError;
use crate::authority::Decisions;
use crate::blocklist;
use crate::canary::{self, Canary};
use crate::cluster::{self, Cluster, ClusterKey};
use crate::config::{BrokerUrl, Config, ListenAddr};
use crate::http::upgrade::Gate;
use crate::listen::{self, Bound, SocketFile};
use crate::node::Node;
use crate::router::Router;
use crate::tls::{Door, MaterialError, Tls, Way};
use crate::{http, random, settings};

/// How often topics that nobody wants are looked for.
const SWEEP: Duration = Duration::from_millis(500);

/// Why a server did not start. Each is one line.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address could not be bound.
    #[error("cannot listen on {address} ({option}): {source}")]
    Listen {
        /// The option that names it.
        option: &'static str,
        /// The address.
        address: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// The broker's URL or options are not usable.
    #[error("broker: {0}")]
    Broker(#[from] OptionsError),
    /// The keys of tokens or the addresses of hooks are not usable.
    #[error(transparent)]
    Authority(#[from] SetupError),
    /// The certificate or its key is not usable.
    #[error(transparent)]
    Tls(#[from] MaterialError),
    /// A thread or an event queue could not be made.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

impl StartError {
    /// Whether what was configured is wrong, rather than what the machine has to give: an address that is not
    /// this machine's, say, but not one that is in use.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Listen { source, .. } => {
                !matches!(source.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
            }
            Self::Broker(_) | Self::Authority(_) | Self::Tls(_) => true,
            Self::System(_) => false,
        }
    }
}

/// A running server.
pub struct Server {
    node: Arc<Node>,
    announcements: Vec<String>,
    threads: Vec<JoinHandle<()>>,
    tasks: JoinSet<()>,
    http: http::Serving,
    progress: ShutdownProgress,
    _files: Vec<SocketFile>,
}

impl Server {
    /// Binds every listener and starts shards, broker and HTTP. Within a tokio runtime.
    ///
    /// The server is up when this returns, also while its broker is away.
    ///
    /// # Errors
    /// [`StartError`], with nothing left running.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let tls = Tls::of(&config)?;
        let (tcp, http) = bind_all(&config)?;
        let mut announcements = Vec::new();
        for bound in &tcp {
            announcements.push(format!("tcp {}", bound.address()?));
        }
        for bound in &http {
            announcements.push(match bound {
                Bound::Tcp(_) if tls.is_some() => format!("http https://{}/", bound.address()?),
                Bound::Tcp(_) => format!("http http://{}/", bound.address()?),
                Bound::Unix(..) => format!("http {}", bound.address()?),
            });
        }

        let key = ClusterKey::from_config(&config);
        let count = settings::shards(&config);
        let limits = settings::limits(&config, count);
        let connection_rate = RateLimit::per_second(config.client.connection_rate_limit);
        let address = &config.limits.address;
        let proxies = config.trusted_proxies.iter().filter_map(settings::address_range).collect();
        let addresses = AddressLimits::new(address.connections, address.connection_rate, proxies);
        let process = Arc::new(Process { connection_rate, addresses, ..Process::default() });
        let door =
            tls.as_ref().map(|tls| Door::new(Arc::clone(tls), Arc::clone(&process), limits.connections));
        let porter = door.as_ref().map(|door| Arc::new(Way(Arc::clone(door))) as Arc<dyn TlsHandoff>);
        let ready = &config.ready;
        // Of its own randomness: the name is public, as a channel's is.
        let canary = Canary::new(
            u64::from_be_bytes(random::bytes()),
            ready.canary_interval,
            ready.canary_limit,
            settings::used(&config),
        );
        let mut handles = Vec::new();
        let (mut redis, mut memory) = (None, None);
        let (mut hooks, mut decides) = (Arc::default(), None);
        let mut failed = None;
        let node = Arc::new_cyclic(|node: &Weak<Node>| {
            let asked = node.clone();
            let uid = cluster::Uid::random();
            let sessions = Arc::new(settings::sessions(&config, uid.to_string(), count));
            let name = settings::node_name(&config, &announcements);
            let cluster = Cluster::new(uid, name, settings::channel_options_digest(&sessions), key);
            let router =
                Router::new(config.broker_linger, canary, cluster, Arc::clone(&sessions), move || {
                    asked.upgrade().map(|node| http::info(&node)).unwrap_or_default()
                });
            match Decisions::new(&config, &router) {
                Ok(decisions) => {
                    hooks = decisions.counters();
                    decides = Some(decisions.clone());
                    router.set_authority(decisions);
                }
                Err(error) => failed = Some(error.into()),
            }
            let control: Arc<dyn Control> = Arc::clone(&router) as _;
            match tidings_shard::spawn(count, &sessions, &limits, &control, porter.as_ref(), &process) {
                Ok(spawned) => handles = spawned,
                Err(error) => failed = Some(StartError::System(error)),
            }
            let mailboxes: Vec<_> = handles.iter().map(|h| Arc::clone(&h.mailbox)).collect();
            router.set_mailboxes(mailboxes.clone());
            if let Some(door) = &door {
                door.set_mailboxes(mailboxes.clone());
            }
            match start_broker(&config, &router) {
                Ok((broker, kept)) => {
                    router.set_broker(broker);
                    (redis, memory) = kept;
                }
                Err(error) => failed = Some(error.into()),
            }
            let api = crate::api::Counters::new(config.http_api.rate_limit);
            Node {
                gate: Gate::new(&config, limits.connections),
                config,
                began: Instant::now(),
                shards: handles.iter().map(|h| Arc::clone(&h.metrics)).collect(),
                process,
                announcements: announcements.clone(),
                mailboxes,
                router,
                hooks,
                decisions: decides,
                api,
                redis,
                memory,
                tls: tls.clone(),
                lame_duck: AtomicBool::new(false),
                draining: AtomicBool::new(false),
            }
        });
        if let Some(error) = failed {
            for mailbox in &node.mailboxes {
                mailbox.stop();
            }
            return Err(error);
        }

        let mut files = Vec::new();
        for (bound, address) in tcp.into_iter().zip(&node.config.tcp.listen) {
            let listener = match bound {
                Bound::Tcp(listener) if tls.is_some() && node.config.tls.required.at(address) => {
                    Listener::tls(listener)?
                }
                Bound::Tcp(listener) => Listener::tcp(listener)?,
                Bound::Unix(listener, file) => {
                    files.push(file);
                    Listener::unix(listener)?
                }
            };
            node.mailboxes[0].post(ShardMessage::Listen(listener));
        }
        let http = http::Serving::start(http, &node, &mut files)?;
        let mut tasks = JoinSet::new();
        tasks.spawn(canary::fly(Arc::clone(&node.router)));
        tasks.spawn(crate::node::watch_readiness(Arc::clone(&node)));
        tasks.spawn(sweep(Arc::clone(&node.router), node.config.client.broker_down_delay));
        tasks.spawn(cluster::run(Arc::clone(&node)));
        tasks.spawn(crate::summary::run(Arc::clone(&node)));
        tasks.spawn(blocklist::run(Arc::clone(&node)));
        if let Some(tls) = tls {
            tasks.spawn(tls.watch());
        }
        let threads = handles.into_iter().map(|h| h.thread).collect();
        let progress = ShutdownProgress::new(&node, http.connections());
        Ok(Self { node, announcements, threads, tasks, http, progress, _files: files })
    }

    /// One line per listener, as users are told: `tcp 127.0.0.1:5567`, `http http://127.0.0.1:8000/`.
    pub fn announcements(&self) -> &[String] {
        &self.announcements
    }

    /// Has the TLS certificate and its key read again, as they are from time to time anyway. The result is logged.
    /// Gives `false` when TLS is off.
    pub fn reload_certificates(&self) -> bool {
        if let Some(tls) = &self.node.tls {
            tls.ask_to_reload();
        }
        self.node.tls.is_some()
    }

    /// What the server looks like from inside.
    pub fn node(&self) -> &Node {
        &self.node
    }
}

fn bind_all(config: &Config) -> Result<(Vec<Bound>, Vec<Bound>), StartError> {
    let all = |option: &'static str, addresses: &[ListenAddr]| {
        addresses
            .iter()
            .map(|address| {
                listen::bind(address).map_err(|source| StartError::Listen {
                    option,
                    address: address.to_string(),
                    source,
                })
            })
            .collect::<Result<Vec<_>, _>>()
    };
    Ok((all("tcp.listen", &config.tcp.listen)?, all("http.listen", &config.http.listen)?))
}

/// How the names of channels begin that nodes speak in among themselves, but for the canaries that go the way of others.
const OWN: [&str; 3] = [cluster::CONTROL, canary::PREFIX, crate::tables::CHANNEL];

type Started = (Arc<dyn Stateful>, (Option<Arc<Redis>>, Option<Arc<Memory>>));

fn start_broker(config: &Config, router: &Arc<Router>) -> Result<Started, OptionsError> {
    let sink: SharedSink = Arc::clone(router) as _;
    match &config.broker {
        BrokerUrl::Memory => {
            let limits = memory::Limits {
                channel_bytes: config.memory.max_channel,
                namespace_bytes: config.memory.max_namespace as u64,
                total_bytes: config.memory.max_total as u64,
            };
            let memory = Memory::with_limits(sink, limits);
            Ok((Arc::clone(&memory) as _, (None, Some(memory))))
        }
        BrokerUrl::Redis(url) => {
            let options = Options {
                prefix: config.redis.prefix.clone(),
                connect_timeout: config.redis.connect_timeout,
                response_timeout: config.redis.response_timeout,
                own: &OWN,
                node: router.cluster().uid().to_owned(),
                ..Options::new(url.expose())
            };
            let redis = Redis::start(options, sink, &tokio::runtime::Handle::current())?;
            Ok((Arc::clone(&redis) as _, (Some(redis), None)))
        }
    }
}

/// `delay` is `client.broker_down_delay`.
async fn sweep(router: Arc<Router>, delay: Duration) {
    loop {
        tokio::time::sleep(SWEEP).await;
        router.sweep(Instant::now());
        router.move_stranded(Instant::now(), delay);
    }
}
