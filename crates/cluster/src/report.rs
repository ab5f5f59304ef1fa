//! Reports: queries of an operator to all nodes, and their responses as JSON. This crate does not know their content.
//!
//! Invariants:
//! - A node works on at most [`MAX_REPORTS`] queries of other nodes at a time; further ones get no response.
//! - A response takes at most [`MAX_MESSAGE`](super::MAX_MESSAGE) bytes; a longer one is not sent.
//! - A collection ends after [`SURVEY_TIMEOUT`] and names the nodes that have not responded.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;
use tidings_wire::Channel;
use tokio::task::JoinSet;

use super::message::Payload;
use super::nodes::SURVEY_TIMEOUT;
use super::{CONTROL, ClusterBus, ClusterError, Nodes};

/// Most queries of other nodes in progress.
const MAX_REPORTS: usize = 16;

/// Responses queries about this node.
pub trait NodeReporter: Send + Sync + 'static {
    /// The response to a query. An unknown query gets `null`.
    fn report(&self, query: Value) -> BoxFuture<'_, Value>;
}

/// The responses of the nodes to one query.
#[derive(Debug, Default)]
pub struct Collected {
    /// The responses, each with the uid and the name of its node; this node first.
    pub reports: Vec<(String, String, Value)>,
    /// The names of the nodes that have not responded in time.
    pub missing: Vec<String>,
}

impl Nodes {
    /// The responses of all nodes, or of the node with the uid `only`, to a query. Takes at most 3 s. Without a broker,
    /// the other nodes are missing.
    pub async fn collect(&self, query: Value, only: Option<&str>, reporter: &dyn NodeReporter) -> Collected {
        let cluster = self.cluster();
        let is_included = |uid: &str| only.is_none_or(|only| only == uid);
        let mut missing = cluster.others();
        missing.retain(|node| is_included(&node.uid));
        // New nodes respond too.
        let mut survey = cluster.reports.open(missing.len() + 16);
        let end = tokio::time::Instant::now() + SURVEY_TIMEOUT;
        let mut collected = Collected::default();
        let others = async {
            let mut reports = Vec::new();
            if missing.is_empty() {
                return reports;
            }
            let to = only.and_then(node_channel).unwrap_or_else(|| cluster.all.clone());
            let request = Payload::ReportRequest { id: survey.id, query: query.clone() };
            let sent = tokio::time::timeout_at(end, self.bus.send(&to, request)).await;
            if !matches!(sent, Ok(Ok(_))) {
                return reports;
            }
            while !missing.is_empty() {
                let response = tokio::time::timeout_at(end, survey.responses.recv()).await;
                let Ok(Some((from, report))) = response else { break };
                let Some(at) = missing.iter().position(|node| node.uid == from) else { continue };
                let node = missing.swap_remove(at);
                reports.push((node.uid, node.name, report));
            }
            reports
        };
        let own = async {
            if is_included(&cluster.uid) { Some(reporter.report(query.clone()).await) } else { None }
        };
        let (own, others) = tokio::join!(own, others);
        if let Some(report) = own {
            collected.reports.push((cluster.uid.clone(), cluster.name.clone(), report));
        }
        collected.reports.extend(others);
        collected.missing = missing.into_iter().map(|node| node.name).collect();
        collected.missing.sort_unstable();
        collected
    }
}

/// The channel of the node with this uid.
fn node_channel(uid: &str) -> Option<Channel> {
    Channel::new(format!("{CONTROL}.{uid}")).ok()
}

/// Responds to queries of other nodes. Dropping it cancels the responses in progress.
pub struct Reports {
    bus: ClusterBus,
    reporter: Arc<dyn NodeReporter>,
    tasks: JoinSet<Result<u64, ClusterError>>,
}

impl Reports {
    /// Without queries in progress.
    pub(super) fn new(bus: ClusterBus, reporter: Arc<dyn NodeReporter>) -> Self {
        Self { bus, reporter, tasks: JoinSet::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Begins to respond to the node `to`.
    pub(super) fn send(&mut self, to: &str, id: u64, query: Value) {
        let Some(channel) = node_channel(to).filter(|_| self.tasks.len() < MAX_REPORTS) else {
            return self.bus.cluster().count_ignored();
        };
        let (bus, reporter) = (self.bus.clone(), Arc::clone(&self.reporter));
        self.tasks.spawn(async move {
            let report = reporter.report(query).await;
            bus.send(&channel, Payload::ReportResponse { id, report }).await
        });
    }

    /// Waits until a response has been sent.
    pub(super) async fn sent(&mut self) {
        if let Some(Ok(Err(error))) = self.tasks.join_next().await {
            tracing::debug!(%error, "a report to another node was not delivered");
        }
    }
}
