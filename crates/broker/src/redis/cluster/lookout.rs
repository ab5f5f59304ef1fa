//! The task that keeps the topology true: it asks the primaries what they know, now and then, and when something has
//! changed.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::sync::oneshot;

use super::topology::{Addr, Topology, View};
use super::{Ashore, Fleet, patience};
use crate::lock;
use crate::redis::dial::Target;
use crate::redis::queue::{Reply, Request};

/// How often it asks while everything is in order.
const CALM: Duration = Duration::from_secs(10);
/// How often while a primary is away, or a slot without one.
const TROUBLED: Duration = Duration::from_millis(300);
/// How often at most, however much changes.
const LEAST: Duration = Duration::from_millis(50);

/// Runs until the fleet is gone.
pub(super) async fn run(fleet: Ashore) {
    let mut said = None;
    loop {
        let Some(here) = fleet.upgrade() else { return };
        let known = match here.look().await {
            Ok(topology) => {
                said = None;
                here.adopt(topology);
                true
            }
            Err(why) => {
                let never = lock(&here.table).home_of_all.primaries.is_empty();
                if said.as_ref() != Some(&why) {
                    tracing::warn!("redis: nobody says what the cluster looks like: {why}");
                    if never {
                        here.sink.down(&why);
                    }
                    said = Some(why);
                }
                false
            }
        };
        let calm = known && here.is_calm();
        let changed = Arc::clone(&here.changed);
        drop(here);
        tokio::time::sleep(LEAST + LEAST.mul_f64(fastrand::f64())).await;
        let pause = if calm { CALM } else { TROUBLED };
        let _ = tokio::time::timeout(pause.mul_f64(0.5 + fastrand::f64() / 2.0), changed.notified()).await;
    }
}

impl Fleet {
    /// Whether every slot is served and every primary connected.
    fn is_calm(&self) -> bool {
        let table = lock(&self.table);
        table.home_of_all.is_whole() && table.all_up()
    }

    /// Asks every primary that can be asked; if there is none, other nodes, one after the other.
    async fn look(&self) -> Result<Topology, String> {
        let members: Vec<_> = lock(&self.routes).members.values().cloned().collect();
        let asked: Vec<_> = members
            .iter()
            .filter(|member| member.queue.is_open())
            .map(|member| {
                let (sender, answer) = oneshot::channel();
                let reply = Reply::Value(Box::new(move |value| drop(sender.send(value))));
                member.queue.push(Request::Nodes, reply);
                (member.addr.clone(), answer)
            })
            .collect();
        let end = tokio::time::Instant::now() + patience(&self.options);
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
                match self.ask(client, &addr).await {
                    Ok(view) => {
                        views.push(view);
                        break;
                    }
                    Err(e) => why = format!("{addr}: {e}"),
                }
            }
        }
        let topology = Topology::of(&views);
        if !views.is_empty() && topology.primaries.is_empty() {
            why = "the cluster has no primary".to_owned();
        }
        if topology.primaries.is_empty() { Err(why) } else { Ok(topology) }
    }

    /// Asks a node over a connection of its own.
    async fn ask(&self, client: redis::Client, addr: &Addr) -> Result<View, String> {
        let mut dialer = self.dialer(Target::Member(Box::new(client)));
        let ignored = |_: redis::PushInfo| -> Result<(), redis::aio::SendError> { Ok(()) };
        let mut connection = dialer.open("tidings-topology", ignored).await?;
        let mut command = redis::cmd("CLUSTER");
        let answer = command.arg("NODES").query_async::<Value>(&mut connection);
        match tokio::time::timeout(patience(&self.options), answer).await {
            Ok(Ok(answer)) => {
                self.view(&answer, addr).ok_or_else(|| "an unexpected answer to CLUSTER NODES".to_owned())
            }
            Ok(Err(e)) => Err(dialer.words(&e)),
            Err(_) => Err(format!("no answer within {:?}", patience(&self.options))),
        }
    }

    fn view(&self, answer: &Value, addr: &Addr) -> Option<View> {
        let text = match answer {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
            Value::VerbatimString { text, .. } => text,
            _ => return None,
        };
        Some(View::read(text, addr, self.has_tls()))
    }
}
