//! The routes of the HTTP port: health, readiness, metrics, the page, and the transports that begin as HTTP.
//!
//! [`tidings_http`] serves them within limits. A connection of a transport ([`transport`]) is handed to a shard, and none of
//! those limits applies to it any more.
//!
//! Invariants:
//! - `/health`, `/ready` and `/metrics` respond until the end of a shutdown, and have their own permits ([`reserve_paths`]).

mod routes;
mod transport;

use std::sync::Arc;

use tidings_http::{ConnectionLimiter, ConnectionPolicy};

use crate::api;
use crate::lifecycle::Lifecycle;
use crate::readiness::ReadinessCheck;
use crate::shards::Shards;
use tidings_pusher_api::PusherApps;
use tidings_reload::LiveConfig;
use tidings_tls::Tls;

pub(crate) use routes::{reserve_paths, routes};
pub(crate) use transport::{OperatorStreams, uni_grpc_routes};

/// The parts of the server that the HTTP handlers use.
pub(crate) struct HttpServices {
    pub(crate) config: LiveConfig,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) readiness: Arc<ReadinessCheck>,
    pub(crate) shards: Arc<Shards>,
    pub(crate) limiter: Arc<ConnectionLimiter>,
    pub(crate) policy: Arc<ConnectionPolicy>,
    pub(crate) api: Arc<api::Services>,
    /// The apps of the Pusher protocol.
    pub(crate) pusher: Arc<PusherApps>,
    /// TLS handshakes of the HTTP port, if TLS is on.
    pub(crate) tls: Option<Arc<Tls>>,
    /// One line for each listener, see [`crate::Server::announcements`].
    pub(crate) announcements: Vec<String>,
}
