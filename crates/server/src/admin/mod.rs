//! The connection of the admin page ([`tidings_admin`]) to this server: what the page needs of the deployment, and what this
//! node reports to the pages of all nodes.

mod backend;
mod namespaces;
mod node;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;
use tidings_admin::{Admin, NodeState, Rates};
use tidings_cluster::NodeReporter;
use tidings_table_service as tables;

use crate::http::HttpServices;
use crate::inbound::InboundCounters;
use backend::PageBackend;
use node::LocalState;

/// The admin page, and the reports of this node.
pub(crate) struct AdminParts {
    pub(crate) page: Arc<Admin<PageBackend>>,
    pub(crate) reporter: Arc<Reporter>,
}

/// The reports of this node.
pub(crate) struct Reporter {
    state: Arc<LocalState>,
    rates: Arc<Rates>,
}

impl AdminParts {
    /// The parts of this server.
    pub(crate) fn new(
        services: &Arc<HttpServices>,
        inbound: Arc<InboundCounters>,
        tables: Option<&Arc<tables::Service>>,
    ) -> Self {
        let state = Arc::new(LocalState::new(services, inbound, tables.cloned()));
        let reporter = Arc::new(Reporter { state, rates: Arc::default() });
        let backend = PageBackend::new(services, Arc::clone(&reporter), tables.cloned());
        Self { page: Arc::new(Admin::new(&services.config.load(), backend)), reporter }
    }
}

impl Reporter {
    /// Samples the rates of this node until the task is cancelled.
    pub(crate) async fn sample(self: Arc<Self>) {
        Arc::clone(&self.rates).run(Arc::clone(&self.state) as Arc<dyn NodeState>).await;
    }
}

impl NodeReporter for Reporter {
    fn report(&self, query: Value) -> BoxFuture<'_, Value> {
        tidings_admin::respond(&*self.state, &self.rates, query)
    }
}
