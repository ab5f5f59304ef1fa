//! The limits on HTTP connections and requests.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Request;
use axum::http::header::UPGRADE;
use hyper::body::{Body as _, Incoming};
use hyper::ext::Protocol;
use tidings_config::{Http2, HttpOptions};
use tidings_shard::client_network;

/// The limits on connections and requests.
#[derive(Clone, Debug)]
pub(super) struct HttpLimits {
    /// The most connections of all listeners together, without the reserve (see [`super::limiter`]). A connection that has
    /// left HTTP does not count.
    pub(super) connections: usize,
    /// The most connections of one address.
    pub(super) of_address: usize,
    /// Whether the limit applies to loopback addresses too, from which proxies on this machine connect.
    pub(super) of_loopback: bool,
    /// The minimum rate of receiving bodies and of reading responses, in bytes per second. With 0 only a silent peer lags.
    pub(super) min_rate: u32,
    /// The longest time from the connection's readiness for a request to the end of the request's head. It limits slow heads
    /// and idle connections.
    pub(super) head: Duration,
    /// The longest lag of a request's body behind the minimum rate.
    pub(super) body: Duration,
    /// The longest lag of a peer in reading a response.
    pub(super) unread: Duration,
    /// The longest head in bytes. The response to a longer one is 431.
    pub(super) head_bytes: usize,
    /// Whether HTTP/2 is accepted.
    pub(super) http2: bool,
    /// The most concurrent streams of an HTTP/2 connection.
    pub(super) http2_streams: u32,
    /// The paths that the reserve serves.
    pub(super) reserve: ReservePaths,
}

/// The paths that the reserve of permits serves ([`super::RESERVE`]).
#[derive(Clone, Debug, Default)]
pub struct ReservePaths {
    /// Paths of probes.
    pub probes: &'static [&'static str],
    /// Prefixes of the paths of WebSockets. The reserve serves handshakes, which leave HTTP at once.
    pub websockets: Arc<[String]>,
}

impl ReservePaths {
    /// Whether the reserve serves a request: a probe, or a WebSocket handshake, which leaves HTTP at once.
    pub(super) fn serve(&self, request: &Request<Incoming>) -> bool {
        let path = request.uri().path();
        let becomes_websocket = || {
            let upgrade = request.headers().get(UPGRADE);
            let is_http2_handshake = || request.extensions().get::<Protocol>().is_some();
            (upgrade.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
                || is_http2_handshake())
                && self.websockets.iter().any(|prefix| path.starts_with(&**prefix))
        };
        request.body().is_end_stream() && (self.probes.contains(&path) || becomes_websocket())
    }
}

impl HttpLimits {
    /// The default limits for a server with this number of connections.
    pub(super) fn new(connections: usize) -> Self {
        Self {
            connections,
            of_address: connections,
            of_loopback: true,
            min_rate: 240,
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            unread: Duration::from_secs(30),
            head_bytes: 16 << 10,
            http2: true,
            http2_streams: 128,
            reserve: ReservePaths::default(),
        }
    }

    /// The configured limits.
    pub(super) fn from_config(options: &HttpOptions) -> Self {
        let of_address = match options.connection_limit_per_address {
            0 => options.connection_limit.div_ceil(2),
            limit => limit,
        };
        let min_rate = u32::try_from(options.min_data_rate).unwrap_or(u32::MAX);
        let of_loopback = options.connection_limit_per_address > 0;
        let http2 = options.http2 == Http2::Auto;
        let http2_streams = u32::try_from(options.http2_max_concurrent_streams).unwrap_or(u32::MAX);
        Self {
            of_address,
            of_loopback,
            min_rate,
            http2,
            http2_streams,
            ..Self::new(options.connection_limit)
        }
    }
}

/// The unit of the limits by address, see [`client_network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct AddressKey(pub(super) IpAddr);

impl AddressKey {
    pub(super) fn new(address: IpAddr) -> Self {
        Self(client_network(address))
    }
}
