//! Rebalancing of 3,000 clients on three nodes behind HAProxy, while a publisher runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidings_client::{Client, Event, Options, Recovery};
use tidings_testkit::{RedisServer, Tidings, free_port, get_http, metric, post_http, wait_until};

use crate::TIDINGS;

const CLIENTS: u64 = 3_000;
/// `cluster.rebalance.rate` and `cluster.rebalance.settle`.
const RATE: u64 = 500;
const SETTLE: u64 = 3;
/// The time within which the shares must be equal: the wait, twice the time for a third of the clients at the rate, and
/// three measurements with pauses.
const LONGEST: Duration = Duration::from_secs(SETTLE + 2 * CLIENTS / 3 / RATE + 25);
/// The time for all clients to connect or to receive something, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// The interval of publications.
const INTERVAL: Duration = Duration::from_millis(250);

struct Node {
    http: SocketAddr,
    tcp: SocketAddr,
    broker: String,
    program: Option<Tidings>,
}

impl Node {
    fn start(broker: &str) -> Self {
        let address = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut node = Self { http: address(), tcp: address(), broker: broker.to_owned(), program: None };
        node.run();
        node
    }

    fn run(&mut self) {
        let settings = [
            format!("cluster.rebalance.rate={RATE}"),
            format!("cluster.rebalance.settle={SETTLE}s"),
            "cluster.rebalance.enabled=true".to_owned(),
            "cluster.rebalance.min_connection_age=2s".to_owned(),
            "channel.without_namespace.history_size=5000".to_owned(),
            "channel.without_namespace.history_ttl=10m".to_owned(),
            // So that the health check notices the stop first.
            "shutdown.lame_duck=2s".to_owned(),
            "shutdown.drain=3s".to_owned(),
        ];
        let program = Tidings::builder(TIDINGS)
            .args(["--tcp", &self.tcp.to_string(), "--http", &self.http.to_string()])
            .args(["--broker", &self.broker])
            .args(settings.iter().flat_map(|setting| ["--set", setting]));
        self.program = Some(program.start());
    }

    fn connections(&self) -> u64 {
        let text = get_http(self.http, "/metrics").body;
        let values = text.lines().filter(|line| line.starts_with("tidings_connections{"));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    fn metric(&self, name: &str) -> u64 {
        metric(self.http, name)
    }
}

/// HAProxy; killed on drop.
struct HaProxy(Child, #[expect(dead_code, reason = "removes the folder on drop")] TempDir);

impl HaProxy {
    fn start(port: u16, nodes: &[Node]) -> Self {
        let dir = TempDir::new().expect("a folder");
        let servers: String = nodes
            .iter()
            .enumerate()
            .map(|(at, node)| format!("    server node{at} {}\n", node.http))
            .collect();
        let config = format!(
            "global\n    maxconn 8000\n\ndefaults\n    timeout connect 5s\n    timeout client 5m\n    timeout server 5m\n\n\
             listen tidings\n    mode tcp\n    bind 127.0.0.1:{port}\n    balance leastconn\n    option httpchk\n    \
             http-check send meth GET uri /ready ver HTTP/1.1 hdr Host localhost\n    http-check expect status 200\n    \
             default-server check inter 500ms fall 1 rise 1\n{servers}"
        );
        let file = dir.path().join("haproxy.cfg");
        std::fs::write(&file, config).expect("a file");
        let paths = ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy"];
        let program = paths.into_iter().find(|path| Path::new(path).exists()).unwrap_or("haproxy");
        let child = Command::new(program)
            .arg("-db")
            .arg("-f")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("haproxy: make test-tools installs it");
        Self(child, dir)
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What one client has received.
#[derive(Default)]
struct Received {
    subscribed: AtomicBool,
    /// The last number, and how many publications were received.
    last: AtomicU64,
    count: AtomicU64,
    /// Reconnects after which all missed publications were received.
    recovered: AtomicU64,
}

/// Subscribes and reconnects until the task is cancelled. Records the first fault.
async fn subscriber(server: String, received: Arc<Received>, fault: Arc<Mutex<Option<String>>>) {
    let options = Options::new(server.parse().expect("an address"));
    let mut client = Client::new(options);
    client.subscribe("news", None);
    let failed = |what: String| {
        fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
    };
    loop {
        match client.next().await {
            Ok(Event::Subscribed { how: Recovery::First, .. }) => {
                received.subscribed.store(true, Ordering::Relaxed);
            }
            Ok(Event::Subscribed { how: Recovery::Recovered(_), .. }) => {
                received.recovered.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Event::Subscribed { how, .. }) => failed(format!("a client has lost publications: {how:?}")),
            Ok(Event::Publication { publication, .. }) => {
                let number =
                    std::str::from_utf8(&publication.body.raw).ok().and_then(|text| text.parse().ok());
                let number: u64 = number.expect("a number");
                let last = received.last.swap(number, Ordering::Relaxed);
                if last != 0 && number != last + 1 {
                    failed(format!("{number} follows {last}"));
                }
                received.count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(error) => return failed(format!("a client has ended: {error}")),
        }
    }
}

/// Publishes 1, 2, 3, … until it is stopped. Returns the last number.
fn publish(to: SocketAddr, stop: &AtomicBool) -> u64 {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let body = format!(r#"{{"channel":"news","data":{number}}}"#);
        let response = post_http(to, "/api/publish", &[], body);
        assert!(response.body.contains("result"), "{}", response.body);
        thread::sleep(INTERVAL);
    }
    number
}

fn spread(nodes: &[Node]) -> Vec<u64> {
    nodes.iter().map(Node::connections).collect()
}

#[test]
#[ignore = "3,000 connections and a minute: make test-slow"]
fn a_restarted_node_gets_its_share_of_3000_clients_and_no_publication_is_lost() {
    let redis = RedisServer::start();
    let mut nodes: Vec<Node> = (0..3).map(|_| Node::start(&redis.url())).collect();
    for node in &nodes {
        wait_until(PATIENCE, "nodes that know each other", || node.metric("tidings_nodes") == 3);
    }
    let port = free_port();
    let _haproxy = HaProxy::start(port, &nodes);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let fault = Arc::<Mutex<Option<String>>>::default();
    let all: Vec<Arc<Received>> = (0..CLIENTS).map(|_| Arc::default()).collect();
    for received in &all {
        let server = format!("ws://127.0.0.1:{port}/connection/websocket");
        runtime.spawn(subscriber(server, Arc::clone(received), Arc::clone(&fault)));
    }
    let no_fault = || {
        let fault = fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert_eq!(fault, None);
    };
    wait_until(PATIENCE, "all clients to be subscribed", || {
        all.iter().all(|received| received.subscribed.load(Ordering::Relaxed))
    });
    no_fault();
    println!("connected: {:?}", spread(&nodes));
    let stop = Arc::new(AtomicBool::new(false));
    let publisher = thread::spawn({
        let (to, stop) = (nodes[0].http, Arc::clone(&stop));
        move || publish(to, &stop)
    });
    wait_until(PATIENCE, "publications", || {
        all.iter().all(|received| received.last.load(Ordering::Relaxed) >= 2)
    });

    assert_eq!(nodes[2].program.as_mut().expect("it runs").terminate(), 0);
    nodes[2].program = None;
    wait_until(PATIENCE, "the clients to be on two nodes", || {
        nodes[..2].iter().map(Node::connections).sum::<u64>() == CLIENTS
    });
    no_fault();
    println!("on two nodes: {:?}", spread(&nodes[..2]));
    nodes[2].run();
    let began = Instant::now();
    let is_equal = |nodes: &[Node]| {
        let share = CLIENTS / 3;
        spread(nodes).iter().all(|clients| clients.abs_diff(share) <= share / 10)
    };
    let mut last = Vec::new();
    while !is_equal(&nodes) {
        let now = spread(&nodes);
        assert!(began.elapsed() < LONGEST, "{now:?} after {LONGEST:?}");
        if now != last {
            println!("{:>5.1} s: {now:?}", began.elapsed().as_secs_f64());
            last = now;
        }
        thread::sleep(Duration::from_millis(500));
    }
    let took = began.elapsed();
    println!("equal shares after {took:?}: {:?}", spread(&nodes));
    for node in &nodes {
        wait_until(PATIENCE, "the end of rebalancing", || {
            node.metric(r#"tidings_rebalance_state{state="balanced"}"#) == 1
        });
    }
    let moved: u64 = nodes.iter().map(|node| node.metric("tidings_rebalance_moved_total")).sum();
    let returned: u64 = nodes.iter().map(|node| node.metric("tidings_rebalance_returned_total")).sum();
    println!("balanced: {:?}, {moved} moved, {returned} returned", spread(&nodes));
    assert!((900..=1_200).contains(&moved), "{moved} clients moved for a share of 1,000");
    assert!(is_equal(&nodes));

    stop.store(true, Ordering::Relaxed);
    let published = publisher.join().expect("every publish was accepted");
    wait_until(PATIENCE, "the last publication at every client", || {
        no_fault();
        all.iter().all(|received| received.last.load(Ordering::Relaxed) == published)
    });
    let mut reconnects = BTreeMap::<u64, u64>::new();
    for received in &all {
        assert_eq!(received.count.load(Ordering::Relaxed), published, "each publication once");
        *reconnects.entry(received.recovered.load(Ordering::Relaxed)).or_default() += 1;
    }
    println!(
        "{published} publications at each of {CLIENTS} clients; clients by number of recoveries: {reconnects:?}"
    );
    let disconnected: u64 = reconnects.iter().map(|(times, clients)| times * clients).sum();
    assert!(
        disconnected >= 1_000 + moved,
        "the clients of the stopped node, and the moved ones, have recovered"
    );
}
