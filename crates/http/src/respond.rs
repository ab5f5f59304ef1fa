//! The response to one request, of either version of HTTP.

use std::sync::Arc;

use axum::Router as Routes;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;

use super::bodies::RequestBody;
use super::limiter::HttpPermit;

/// Responds to one request, which needs a regular permit unless the reserve serves it.
pub(super) async fn respond(
    request: Request<Incoming>,
    routes: TowerToHyperService<Routes>,
    permit: Arc<HttpPermit>,
) -> Response {
    let monitor = Arc::clone(&permit.monitor);
    monitor.head_received();
    let is_rejected =
        permit.is_reserve() && !permit.reserve_paths().serve(&request) && !permit.promote().await;
    let rejection = is_rejected.then(|| permit.rejection());
    // The permit of a stream that becomes a session is free from then on.
    drop(permit);
    let mut response = match rejection {
        Some(rejection) => rejection,
        None => {
            let body_monitor = Arc::clone(&monitor);
            match routes.call(request.map(|body| RequestBody::new(body, body_monitor))).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
    };
    if monitor.is_too_slow() {
        let text = "the request's body was received too slowly (http.min_data_rate)\n";
        response = (StatusCode::REQUEST_TIMEOUT, text).into_response();
    }
    response
}

/// Completes when `stop` is set or its sender is dropped.
pub(super) async fn until_stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
