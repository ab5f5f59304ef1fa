//! Transports that begin as HTTP: what a request asks for is found out here, and its connection is handed to a shard,
//! which speaks with the client from then on.

mod websocket;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router as Routes;
use axum::http::Uri;
use axum::routing::get;
use form_urlencoded::Parse;
use tidings_shard::{Arrival, Mail};

use crate::node::Node;

/// What the handlers share.
#[derive(Clone)]
struct Transports {
    node: Arc<Node>,
    /// Counts connections: they go round to the shards.
    next: Arc<AtomicUsize>,
}

/// The paths of the transports that are switched on.
pub(super) fn routes(node: &Arc<Node>) -> Routes {
    let config = &node.config;
    let mut routes = Routes::new();
    if !config.websocket.disabled {
        routes = routes.route("/connection/websocket", get(websocket::two_way));
    }
    if config.uni_websocket.enabled {
        routes = routes.route("/connection/uni_websocket", get(websocket::one_way));
    }
    routes.with_state(Transports { node: Arc::clone(node), next: Arc::default() })
}

/// What stands behind the `?` of an address, name by name.
fn parameters(address: &Uri) -> Parse<'_> {
    form_urlencoded::parse(address.query().unwrap_or_default().as_bytes())
}

impl Transports {
    /// Gives a connection to a shard.
    fn hand_over(&self, arrival: Arrival) {
        let mailboxes = &self.node.mailboxes;
        let next = self.next.fetch_add(1, Ordering::Relaxed) % mailboxes.len();
        mailboxes[next].post(Mail::Arrival(Box::new(arrival)));
    }
}
