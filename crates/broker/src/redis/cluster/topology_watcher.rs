//! The task that keeps the topology up to date: it queries the primaries at intervals, and when a redirection or a lost
//! connection suggests a change.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::sync::oneshot;

use super::topology::{Topology, View};
use super::{Cluster, WeakCluster};
use crate::lock;
use crate::redis::addr::Addr;
use crate::redis::dial::Target;
use crate::redis::queue::{Reply, Request};

/// Interval while all slots are served and all primaries connected.
const HEALTHY_INTERVAL: Duration = Duration::from_secs(10);
/// Interval while a primary is away, or a slot has no owner.
const DEGRADED_INTERVAL: Duration = Duration::from_millis(300);
/// Shortest interval, however often the topology changes.
const MIN_INTERVAL: Duration = Duration::from_millis(50);

/// Runs until the cluster is dropped.
pub(super) async fn run(cluster: WeakCluster) {
    let mut said = None;
    loop {
        let Some(here) = cluster.upgrade() else { return };
        let known = match here.query_topology().await {
            Ok(topology) => {
                said = None;
                here.apply_topology(topology);
                true
            }
            Err(why) => {
                let never = lock(&here.table).topology.primaries.is_empty();
                if said.as_ref() != Some(&why) {
                    tracing::warn!("redis: cannot read the topology of the cluster: {why}");
                    if never {
                        here.sink.down(&why);
                    }
                    said = Some(why);
                }
                false
            }
        };
        let calm = known && here.is_healthy();
        let changed = Arc::clone(&here.changed);
        drop(here);
        tokio::time::sleep(MIN_INTERVAL + MIN_INTERVAL.mul_f64(fastrand::f64())).await;
        let pause = if calm { HEALTHY_INTERVAL } else { DEGRADED_INTERVAL };
        let _ = tokio::time::timeout(pause.mul_f64(0.5 + fastrand::f64() / 2.0), changed.notified()).await;
    }
}

impl Cluster {
    /// Whether every slot is served and every primary connected.
    fn is_healthy(&self) -> bool {
        let table = lock(&self.table);
        table.topology.is_whole() && table.all_up()
    }

    /// Queries all connected primaries; without any, other nodes one after the other.
    async fn query_topology(&self) -> Result<Topology, String> {
        let primaries: Vec<_> = lock(&self.routes).primaries.values().cloned().collect();
        let asked: Vec<_> = primaries
            .iter()
            .filter(|primary| primary.queue.is_open())
            .map(|primary| {
                let (sender, answer) = oneshot::channel();
                let reply = Reply::Value(Box::new(move |value| drop(sender.send(value))));
                primary.queue.push(Request::Nodes, reply);
                (primary.addr.clone(), answer)
            })
            .collect();
        let end = tokio::time::Instant::now() + self.options.response_timeout;
        let mut views = Vec::new();
        for (addr, answer) in asked {
            if let Ok(Ok(Ok(answer))) = tokio::time::timeout_at(end, answer).await {
                views.extend(self.view(&answer, &addr));
            }
        }
        let mut why = "no node is known".to_owned();
        if views.is_empty() {
            let mut nodes = lock(&self.nodes).clone();
            let seeds = self.seeds.nodes.iter().cloned().filter_map(|seed| redis::Client::open(seed).ok());
            nodes.extend(seeds);
            fastrand::shuffle(&mut nodes);
            for client in nodes {
                let addr = match client.get_connection_info().addr() {
                    redis::ConnectionAddr::Tcp(host, port)
                    | redis::ConnectionAddr::TcpTls { host, port, .. } => Addr::new(host, *port),
                    _ => continue,
                };
                match self.query_node(client, &addr).await {
                    Ok(view) => {
                        views.push(view);
                        break;
                    }
                    Err(e) => why = format!("{addr}: {e}"),
                }
            }
        }
        let topology = Topology::merge(&views);
        if !views.is_empty() && topology.primaries.is_empty() {
            why = "the cluster has no primary".to_owned();
        }
        if topology.primaries.is_empty() { Err(why) } else { Ok(topology) }
    }

    /// Queries a node over a separate connection.
    async fn query_node(&self, client: redis::Client, addr: &Addr) -> Result<View, String> {
        let mut dialer = self.dialer(Target::Primary(Box::new(client)));
        let ignored = |_: redis::PushInfo| -> Result<(), redis::aio::SendError> { Ok(()) };
        let mut connection = dialer.open("tidings-topology", ignored).await?;
        let mut command = redis::cmd("CLUSTER");
        let answer = command.arg("NODES").query_async::<Value>(&mut connection);
        match tokio::time::timeout(self.options.response_timeout, answer).await {
            Ok(Ok(answer)) => {
                self.view(&answer, addr).ok_or_else(|| "an unexpected answer to CLUSTER NODES".to_owned())
            }
            Ok(Err(e)) => Err(dialer.describe(&e)),
            Err(_) => Err(format!("no answer within {:?}", self.options.response_timeout)),
        }
    }

    fn view(&self, answer: &Value, addr: &Addr) -> Option<View> {
        let text = match answer {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
            Value::VerbatimString { text, .. } => text,
            _ => return None,
        };
        Some(View::read(text, addr, self.seeds.has_tls()))
    }
}
