//! Transports that begin as HTTP: what a request asks for is found out here, and its connection is handed to a shard,
//! which speaks with the client from then on.
//!
//! | path | module | is |
//! |---|---|---|
//! | `/connection/websocket`, `/connection/uni_websocket` | [`websocket`] | a WebSocket |
//! | `/stomp` | [`websocket`] | a WebSocket with STOMP 1.2 |
//! | `/connection/http_stream`, `/connection/sse` | [`two_way`] | an answer that goes on; commands come to `/emulation` |
//! | `/connection/uni_http_stream`, `/connection/uni_sse` | [`one_way`] | an answer that goes on |
//! | `/events` | [`events`] | plain server-sent events |
//!
//! Invariants:
//! - No page of a foreign origin gets through, see [`tidings_http`]; pages of listed ones can read the answers.
//! - A request is bounded: its head by [`tidings_http`], its body in bytes and in time.
//! - A `GET` changes nothing: it cannot publish.

#![expect(clippy::result_large_err, reason = "what is refused is an answer, made once and sent")]

mod cors;
mod events;
mod one_way;
mod request;
mod stream;
mod two_way;
mod websocket;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router as Routes;
use axum::http::HeaderMap;
use axum::middleware;
use axum::routing::{get, post};
use tidings_hub::ConnectionInfo;
use tidings_shard::{Arrival, ShardMessage};

use super::HttpServices;
use crate::router::Router;
use crate::shards::Shards;
use tidings_cluster::ClusterBus;
use tidings_config::Config;
use tidings_http::{ConnectionPolicy, hops};

/// What the handlers share.
#[derive(Clone)]
struct Transports {
    config: Arc<Config>,
    policy: Arc<ConnectionPolicy>,
    router: Arc<Router>,
    shards: Arc<Shards>,
    bus: ClusterBus,
    /// Whether anybody will ask for the headers of a connection.
    wants_headers: bool,
}

/// The paths of the transports that are switched on.
pub(super) fn routes(services: &HttpServices) -> Routes {
    let config = &services.config;
    let transports = Transports {
        config: Arc::clone(config),
        policy: Arc::clone(&services.policy),
        router: Arc::clone(&services.api.router),
        shards: Arc::clone(&services.shards),
        bus: services.api.nodes.bus.clone(),
        wants_headers: tidings_hooks::needs_headers(config),
    };
    let paths = [
        ("/connection/http_stream", config.http_stream.enabled, post(two_way::http_stream)),
        ("/connection/sse", config.sse.enabled, get(two_way::sse).post(two_way::sse)),
        ("/emulation", config.http_stream.enabled || config.sse.enabled, post(two_way::emulation)),
        ("/connection/uni_http_stream", config.uni_http_stream.enabled, post(one_way::http_stream)),
        ("/connection/uni_sse", config.uni_sse.enabled, get(one_way::sse).post(one_way::sse)),
        ("/events", config.events.enabled, get(events::events)),
    ];
    let mut streams = Routes::new();
    for (path, enabled, handlers) in paths {
        if enabled {
            streams = streams
                .route(path, handlers.layer(middleware::from_fn_with_state(transports.clone(), cors::guard)));
        }
    }
    // Those check for themselves whose page it is.
    let mut websockets = Routes::new();
    if !config.websocket.disabled {
        websockets = websockets.route("/connection/websocket", get(websocket::two_way));
    }
    if config.uni_websocket.enabled {
        websockets = websockets.route("/connection/uni_websocket", get(websocket::one_way));
    }
    if config.stomp.enabled {
        websockets = websockets.route("/stomp", get(websocket::stomp));
    }
    streams.merge(websockets).with_state(transports)
}

impl Transports {
    /// Gives a connection to a shard.
    fn hand_over(&self, arrival: Arrival) {
        self.shards.hand_over(ShardMessage::Arrival(Box::new(arrival)));
    }

    /// Where proxies say that a client comes from, if any proxy is trusted.
    fn forwarded(&self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        if self.shards.process().addresses.has_proxies() { hops(headers) } else { Vec::new() }
    }

    /// What those who decide may ask of a connection, if there are any. What is not text is left out.
    fn about(&self, transport: &'static str, headers: &HeaderMap) -> Option<Arc<ConnectionInfo>> {
        let text = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        self.wants_headers.then(|| {
            Arc::new(ConnectionInfo { transport, headers: headers.iter().filter_map(text).collect() })
        })
    }
}
