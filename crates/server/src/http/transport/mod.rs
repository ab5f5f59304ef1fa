//! Transports that begin as HTTP. The handlers check the request and hand its connection to a shard, which serves the client
//! from then on.
//!
//! | path | module | transport |
//! |---|---|---|
//! | `/connection/websocket`, `/connection/uni_websocket` | [`websocket`] | a WebSocket |
//! | `/stomp` | [`websocket`] | a WebSocket with STOMP 1.2 |
//! | `/app/{key}` | [`websocket`] | a WebSocket with the Pusher protocol |
//! | `/mqtt` | [`websocket`] | a WebSocket with MQTT |
//! | `/connection/http_stream`, `/connection/sse` | [`two_way`] | a streamed response; clients send commands to `/emulation` |
//! | `/connection/uni_http_stream`, `/connection/uni_sse` | [`one_way`] | a streamed response |
//! | `/events` | [`events`] | plain server-sent events |
//! | `Consume` on the port of `uni_grpc` | [`grpc`] | a stream of messages of gRPC |
//!
//! Invariants:
//! - Pages of foreign origins are rejected, see [`tidings_http`]. Pages of listed origins can read the responses.
//! - A request is bounded: its head by [`tidings_http`], its body in bytes and in time.
//! - A `GET` changes nothing: it cannot publish.

#![expect(clippy::result_large_err, reason = "the error is a response, which is constructed once and sent")]

mod cors;
mod events;
mod grpc;
mod one_way;
mod request;
mod stream;
mod two_way;
mod websocket;

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router as Routes;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use axum::middleware;
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use tidings_hub::ConnectionInfo;
use tidings_shard::{Arrival, ClientPath, ShardMessage};

use super::HttpServices;
use crate::router::Router;
use crate::shards::Shards;
use tidings_cluster::ClusterBus;
use tidings_http::{ConnectionPolicy, Peer};
use tidings_pusher_api::PusherApps;
use tidings_reload::LiveConfig;

pub(crate) use grpc::uni_grpc_routes;

/// The state of the handlers.
#[derive(Clone)]
struct Transports {
    config: LiveConfig,
    policy: Arc<ConnectionPolicy>,
    router: Arc<Router>,
    shards: Arc<Shards>,
    bus: ClusterBus,
    pusher: Arc<PusherApps>,
}

/// The routes of the enabled transports.
pub(super) fn routes(services: &HttpServices) -> Routes {
    let config = services.config.load();
    let transports = Transports::new(services);
    let (http_stream, sse, emulation) = (&config.http_stream, &config.sse, &config.emulation);
    let (uni_http_stream, uni_sse) = (&config.uni_http_stream, &config.uni_sse);
    let has_emulation = http_stream.enabled || sse.enabled;
    // Each has its own path, and one that an option may set.
    let paths = [
        (
            ["/connection/http_stream", http_stream.handler_prefix.as_str()],
            http_stream.enabled,
            post(two_way::http_stream),
        ),
        (["/connection/sse", sse.handler_prefix.as_str()], sse.enabled, get(two_way::sse).post(two_way::sse)),
        (["/emulation", emulation.handler_prefix.as_str()], has_emulation, post(two_way::emulation)),
        (
            ["/connection/uni_http_stream", uni_http_stream.handler_prefix.as_str()],
            uni_http_stream.enabled,
            post(one_way::http_stream),
        ),
        (
            ["/connection/uni_sse", uni_sse.handler_prefix.as_str()],
            uni_sse.enabled,
            get(one_way::sse).post(one_way::sse),
        ),
        (["/events"; 2], config.events.enabled, get(events::events)),
    ];
    let mut streams = Routes::new();
    for (paths, _, handlers) in paths.into_iter().filter(|(_, enabled, _)| *enabled) {
        let origin = middleware::from_fn_with_state(transports.clone(), cors::check_origin);
        streams = at_paths(streams, paths, handlers.layer(origin));
    }
    // The handshake checks the origin.
    let mut websockets = Routes::new();
    if !config.websocket.disabled {
        let paths = ["/connection/websocket", config.websocket.handler_prefix.as_str()];
        websockets = at_paths(websockets, paths, get(websocket::two_way));
    }
    if config.uni_websocket.enabled {
        let paths = ["/connection/uni_websocket", config.uni_websocket.handler_prefix.as_str()];
        websockets = at_paths(websockets, paths, get(websocket::one_way));
    }
    if config.stomp.enabled {
        websockets = websockets.route("/stomp", get(websocket::stomp));
    }
    websockets = websockets.route("/app/{key}", get(websocket::pusher));
    if config.mqtt.enabled {
        websockets = websockets.route("/mqtt", get(websocket::mqtt));
    }
    streams.merge(websockets).with_state(transports)
}

/// Adds handlers at two paths, which may be equal.
fn at_paths(
    routes: Routes<Transports>,
    [path, other]: [&str; 2],
    handlers: MethodRouter<Transports>,
) -> Routes<Transports> {
    let routes = if other == path { routes } else { routes.route(other, handlers.clone()) };
    routes.route(path, handlers)
}

/// Event streams for operators, which may follow every channel.
pub(crate) struct OperatorStreams(Transports);

impl OperatorStreams {
    /// Streams of this server.
    pub(crate) fn new(services: &HttpServices) -> Self {
        Self(Transports::new(services))
    }

    /// Turns an authorized request into the event stream of the channels in its query.
    pub(crate) async fn open(&self, parts: &Parts) -> Response {
        events::open(&self.0, parts, Cow::Borrowed(""), true).await
    }
}

impl Transports {
    fn new(services: &HttpServices) -> Self {
        Self {
            config: services.config.clone(),
            policy: Arc::clone(&services.policy),
            router: Arc::clone(&services.api.router),
            shards: Arc::clone(&services.shards),
            bus: services.api.nodes.bus.clone(),
            pusher: Arc::clone(&services.pusher),
        }
    }

    /// Hands a connection to a shard.
    fn hand_over(&self, arrival: Arrival) {
        self.shards.hand_over(ShardMessage::Arrival(Box::new(arrival)));
    }

    /// The addresses that proxies state for the client of a request.
    fn client_path(&self, headers: &HeaderMap, extensions: &Extensions) -> ClientPath {
        let peer = extensions.get::<Peer>();
        peer.map(|peer| peer.client_path(headers, &self.shards.process().addresses)).unwrap_or_default()
    }

    /// The information about a connection for hooks, and the user that a proxy has authenticated; `None` if no hook uses it and
    /// there is no such user. Header values that are not text are omitted.
    fn connection_info(
        &self,
        transport: &'static str,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Option<Arc<ConnectionInfo>> {
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        let config = self.config.load();
        let user = config.client.user_id_http_header.as_ref();
        let user = user.and_then(|name| self.proxied_user(name, headers, extensions)).map(Box::from);
        let has_hooks = tidings_hooks::needs_headers(&config);
        let headers = headers.iter().filter(|_| has_hooks).filter_map(text);
        (has_hooks || user.is_some())
            .then(|| Arc::new(ConnectionInfo { transport, headers: headers.collect(), user }))
    }

    /// The user in a header of a trusted proxy. A header that occurs twice counts as none: the client may have sent one.
    fn proxied_user<'h>(
        &self,
        name: &HeaderName,
        headers: &'h HeaderMap,
        extensions: &Extensions,
    ) -> Option<&'h str> {
        let is_trusted = extensions.get::<Peer>()?.is_trusted(&self.shards.process().addresses);
        let mut values = headers.get_all(name).iter();
        let value = values.next().filter(|_| is_trusted)?;
        let user = std::str::from_utf8(value.as_bytes()).ok().filter(|user| !user.is_empty())?;
        values.next().is_none().then_some(user)
    }
}
