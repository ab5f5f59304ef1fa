//! The ports of gRPC, of the server API and of the one-way transport: their listeners, limits and TLS.

use std::io;
use std::sync::Arc;

use axum::Router as Routes;
use tidings_config::{Config, Http2};
use tidings_grpc_api::{CallCounters, health_routes, reflection_routes};
use tidings_http::{HttpListener, HttpParts, HttpServer, ReservePaths};
use tidings_metrics::MetricsRegistry;
use tidings_tls::Tls;

use crate::api;
use crate::http::{HttpServices, uni_grpc_routes};
use crate::readiness::Readiness;

/// The paths that the reserve serves: probes of orchestrators.
const PROBES: &[&str] = &["/grpc.health.v1.Health/Check"];

/// Starts the port of the server API on its listener, if there is one. Its connections have permits of their own, with the limits of `http`.
///
/// # Errors
/// As [`HttpServer::start`].
pub(super) fn start(
    listeners: Vec<HttpListener>,
    config: &Config,
    services: &Arc<HttpServices>,
    tls: Option<&Arc<Tls>>,
    metrics: &mut MetricsRegistry,
) -> io::Result<HttpServer> {
    let counters = Arc::<CallCounters>::default();
    let mut routes = Routes::new();
    if !listeners.is_empty() {
        let readiness = Arc::clone(&services.readiness);
        let is_ready = move || matches!(readiness.check(), Readiness::Ready(_));
        routes = api::grpc_routes(&config.grpc_api, &services.api, &counters)
            .merge(health_routes(Arc::new(is_ready)));
        if config.grpc_api.reflection {
            routes = routes.merge(reflection_routes(services.lifecycle.watch_draining()));
        }
    }
    metrics.register(counters);
    start_port(listeners, &routes, config, services, tls)
}

/// Starts the port of the one-way transport on its listener, if there is one.
///
/// # Errors
/// As [`HttpServer::start`].
pub(super) fn start_uni(
    listeners: Vec<HttpListener>,
    config: &Config,
    services: &Arc<HttpServices>,
    tls: Option<&Arc<Tls>>,
) -> io::Result<HttpServer> {
    let routes = if listeners.is_empty() { Routes::new() } else { uni_grpc_routes(services) };
    start_port(listeners, &routes, config, services, tls)
}

fn start_port(
    listeners: Vec<HttpListener>,
    routes: &Routes,
    config: &Config,
    services: &Arc<HttpServices>,
    tls: Option<&Arc<Tls>>,
) -> io::Result<HttpServer> {
    let mut config = config.clone();
    config.http.http2 = Http2::Auto;
    let parts = HttpParts {
        config: &config,
        policy: &services.policy,
        process: services.shards.process(),
        traffic: &Arc::default(),
        tls,
        proxy_headers: None,
        reserve: ReservePaths { probes: PROBES, websockets: Arc::default() },
    };
    HttpServer::start(listeners, routes, &parts)
}
