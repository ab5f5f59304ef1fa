//! The admin page: login, sessions, and the requests of the page for the state of all nodes of the deployment.
//!
//! The page's files are in `web/admin` (crate `page`). The server implements [`AdminBackend`] (what the page needs of the
//! deployment) and [`NodeState`] (what a node reports about itself). Nodes exchange the types of [`report`] as JSON.
//!
//! Invariants:
//! - No response contains a secret: neither keys, nor tokens, nor session ids, nor the owner secrets of tables.
//! - Every response is bounded: lists in rows ([`report::MAX_ROWS`]), requests in bytes, queries to nodes in time. A list
//!   without the rows of a node names that node.
//! - Access is checked in one place ([`access`]), before the body of a request is read.

mod access;
mod bodies;
mod counters;
mod handlers;
mod login;
mod merge;
mod merge_tables;
mod node;
mod password;
mod rates;
mod recent_log;
pub mod report;
mod sessions;
mod throttle;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Router as Routes;
use axum::body::Bytes;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;
use tidings_config::Config;
use tidings_metrics::{Collect, MetricWriter};
use tokio::sync::Semaphore;

use access::Mode;
use counters::AdminCounters;
use sessions::Sessions;
use throttle::{LoginThrottle, MAX_CHECKS};

pub use merge::{ConnectionsPage, NodeConnection, Responses, connections_page};
pub use node::{NodeState, respond};
pub use password::{MAX_PASSWORD, hash_password};
pub use rates::{Counts, Rates, SAMPLE_INTERVAL};
pub use recent_log::RecentLog;

/// What the page needs of the deployment.
pub trait AdminBackend: Send + Sync + 'static {
    /// The address of the client of a request, if it is known.
    fn address(&self, parts: &Parts) -> Option<IpAddr>;

    /// Whether the request carries a key, and keys are configured.
    fn has_api_key(&self, headers: &HeaderMap) -> bool;

    /// Checks the API key of a request.
    fn check_api_key<'a>(&'a self, parts: &'a Parts) -> BoxFuture<'a, Result<(), Response>>;

    /// Counts and logs a wrong password, and resolves after the delay of its response.
    fn login_failed(&self, address: Option<IpAddr>) -> BoxFuture<'_, ()>;

    /// The responses of all nodes, or of the node with the uid `only`, within seconds.
    fn collect<'a>(&'a self, query: Value, only: Option<&'a str>) -> BoxFuture<'a, Responses>;

    /// Records a login in the audit log.
    fn logged_in(&self, address: Option<IpAddr>);

    /// Runs a command of the server API, which the audit log records with the address of the client. Returns its reply
    /// as a response with JSON.
    ///
    /// # Errors
    /// If the body cannot be parsed.
    fn command<'a>(
        &'a self,
        address: Option<IpAddr>,
        method: &'a str,
        body: Bytes,
    ) -> BoxFuture<'a, Result<Response, serde_json::Error>>;

    /// Turns a request into an event stream of the channel in its query.
    fn tail<'a>(&'a self, parts: &'a Parts) -> BoxFuture<'a, Response>;

    /// The effective options of each namespace, without secrets.
    fn namespaces(&self) -> Value;

    /// Deletes a table on all nodes.
    ///
    /// # Errors
    /// The reason.
    fn delete_table<'a>(&'a self, address: Option<IpAddr>, id: &'a str) -> BoxFuture<'a, Result<(), String>>;
}

/// The state of the page's handlers.
pub struct Admin<B> {
    backend: B,
    mode: Mode,
    sessions: Sessions,
    throttle: LoginThrottle,
    /// Permits for checks of passwords.
    checks: Semaphore,
    counters: AdminCounters,
}

impl<B: AdminBackend> Admin<B> {
    /// The page as the configuration specifies it.
    pub fn new(config: &Config, backend: B) -> Self {
        Self {
            backend,
            mode: Mode::from_config(config),
            sessions: Sessions::new(config.admin.session_ttl),
            throttle: LoginThrottle::default(),
            checks: Semaphore::new(MAX_CHECKS),
            counters: AdminCounters::default(),
        }
    }

    /// The routes of `/admin`.
    pub fn routes(self: &Arc<Self>) -> Routes {
        if self.mode == Mode::Off {
            return Routes::new();
        }
        let api = Routes::new()
            .route("/session", get(login::session::<B>))
            .route("/login", post(login::login::<B>))
            .route("/logout", post(login::logout::<B>))
            .route("/overview", get(handlers::overview::<B>))
            .route("/connections", post(handlers::connections::<B>))
            .route("/channels", post(handlers::channels::<B>))
            .route("/namespaces", get(handlers::namespaces::<B>))
            .route("/log", get(handlers::log::<B>))
            .route("/tables", get(handlers::tables::<B>))
            .route("/tables/stored", post(handlers::stored_tables::<B>))
            .route("/tables/{id}/delete", post(handlers::delete_table::<B>))
            .route("/command/{method}", post(handlers::command::<B>))
            .route("/tail", get(handlers::tail::<B>))
            .layer(axum::middleware::map_response(no_store));
        Routes::new()
            .route("/admin", get(handlers::folder::<B>))
            .route("/admin/", get(handlers::page::<B>))
            .route("/admin/assets/{name}", get(handlers::asset::<B>))
            .nest("/admin/api", api)
            .with_state(Arc::clone(self))
    }
}

impl<B: AdminBackend> Collect for Admin<B> {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        self.counters.collect(self.sessions.count(Instant::now()), out)
    }
}

/// Forbids caches to store a response.
async fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn json(value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).expect("text keys and plain values");
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}
