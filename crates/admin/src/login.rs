//! Login and logout.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::header::{RETRY_AFTER, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use tidings_http::Scheme;

use crate::access::{Mode, not_found, site_rejection};
use crate::counters::Login;
use crate::password::{MAX_PASSWORD, verify};
use crate::{Admin, AdminBackend, bodies, json};

/// Longest body of a login in bytes: each byte of the password may be escaped in JSON.
const MAX_BODY: usize = 8 * MAX_PASSWORD;

#[derive(Deserialize)]
struct LoginRequest {
    password: String,
}

/// `POST login`.
pub(crate) async fn login<B: AdminBackend>(State(admin): State<Arc<Admin<B>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Mode::Password(hash) = &admin.mode else { return not_found() };
    if let Some(rejection) = site_rejection(&parts) {
        return rejection;
    }
    let address = admin.backend.address(&parts);
    if let Err(wait) = admin.throttle.attempt(address, Instant::now()) {
        return throttled(&admin, wait);
    }
    let body = match bodies::read(body, MAX_BODY).await {
        Ok(body) => body,
        Err(rejection) => return rejection,
    };
    let Ok(LoginRequest { password }) = serde_json::from_slice(&body) else {
        return (StatusCode::BAD_REQUEST, "the body must be {\"password\":\"…\"}\n").into_response();
    };
    let Ok(_permit) = admin.checks.try_acquire() else {
        return throttled(&admin, Duration::from_secs(1));
    };
    let hash = hash.clone();
    let is_right = password.len() <= MAX_PASSWORD
        && tokio::task::spawn_blocking(move || verify(&password, &hash)).await.unwrap_or(false);
    if !is_right {
        admin.counters.logins.add(Login::Failed);
        // Logs the failure, and delays the response.
        admin.backend.login_failed(address).await;
        return (StatusCode::UNAUTHORIZED, "the password is wrong\n").into_response();
    }
    admin.throttle.clear(address);
    admin.counters.logins.add(Login::Succeeded);
    admin.backend.logged_in(address);
    tracing::info!(address = address.map(|a| a.to_string()), "login to the admin page");
    let is_https = parts.extensions.get::<Scheme>() == Some(&Scheme::Https);
    let cookie = admin.sessions.begin(Instant::now(), is_https);
    ([(SET_COOKIE, cookie)], json(&serde_json::json!({"login": true}))).into_response()
}

/// `POST logout`.
pub(crate) async fn logout<B: AdminBackend>(
    State(admin): State<Arc<Admin<B>>>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    if let Err(rejection) = admin.admit(&parts).await {
        return rejection;
    }
    let cookie = admin.sessions.end(&parts.headers);
    ([(SET_COOKIE, cookie)], json(&serde_json::json!({"login": false}))).into_response()
}

/// `GET session`: how the page is open, and whether the request has a session. Without secrets, so that it needs none.
pub(crate) async fn session<B: AdminBackend>(
    State(admin): State<Arc<Admin<B>>>,
    headers: HeaderMap,
) -> Response {
    let (login, open) = match &admin.mode {
        Mode::Off => return not_found(),
        Mode::KeyOnly if !admin.backend.has_api_key(&headers) => return not_found(),
        Mode::KeyOnly | Mode::Open => (false, true),
        Mode::Password(_) => (true, admin.sessions.has(&headers, Instant::now())),
    };
    json(&serde_json::json!({"login": login, "open": open}))
}

fn throttled<B: AdminBackend>(admin: &Admin<B>, wait: Duration) -> Response {
    let count = admin.counters.logins.add(Login::Throttled);
    if count.is_power_of_two() {
        tracing::warn!(count, "logins to the admin page are rejected because there are too many attempts");
    }
    let seconds = wait.as_secs() + 1;
    let reason = format!("too many attempts to log in; try again in {seconds} s\n");
    (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, seconds.to_string())], reason).into_response()
}
