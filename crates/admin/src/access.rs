//! Who may use the page: a session after a login with the password, the API key, or any program on a workbench.
//!
//! Invariants:
//! - Where none of these exists, every path of the page gets 404, as if there were no page.
//! - With `admin.password_hash`, a workbench requires the login, too.
//! - A request that changes something carries a header that no page of another site can send without the consent of this
//!   server ([`CSRF_HEADER`]; Fetch §4.8), and does not come from another site.

use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use tidings_config::Config;
use tidings_http::is_of_other_site;

use crate::{Admin, AdminBackend};

/// The header of requests that change something.
pub(crate) const CSRF_HEADER: &str = "x-tidings-admin";

/// How the page is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Every path gets 404.
    Off,
    /// Only requests with the API key are accepted; others get 404.
    KeyOnly,
    /// A login with the password that has this hash, or the API key.
    Password(String),
    /// Every program of this machine.
    Open,
}

impl Mode {
    /// The mode that the configuration specifies.
    pub(crate) fn from_config(config: &Config) -> Self {
        let hash = &config.admin.password_hash;
        if !config.admin.enabled {
            Self::Off
        } else if hash.is_set() {
            Self::Password(hash.expose().to_owned())
        } else if config.is_workbench() {
            Self::Open
        } else {
            Self::KeyOnly
        }
    }
}

impl<B: AdminBackend> Admin<B> {
    /// Checks a request of the page's data.
    ///
    /// # Errors
    /// The response to a request that is not admitted.
    pub(crate) async fn admit(&self, parts: &Parts) -> Result<(), Response> {
        if self.mode == Mode::Off {
            return Err(not_found());
        }
        if self.backend.has_api_key(&parts.headers) {
            // A key in a header is no ambient authority, so that no page of another site can use it.
            return self.backend.check_api_key(parts).await;
        }
        match &self.mode {
            Mode::Password(_) if !self.sessions.has(&parts.headers, std::time::Instant::now()) => {
                let reason =
                    "the admin page needs a login: POST api/login, or the API key (X-API-Key: KEY)\n";
                return Err((StatusCode::UNAUTHORIZED, reason).into_response());
            }
            Mode::Off | Mode::KeyOnly => return Err(not_found()),
            Mode::Password(_) | Mode::Open => {}
        }
        site_rejection(parts).map_or(Ok(()), Err)
    }

    /// Whether the files of the page are served.
    pub(crate) async fn admit_files(&self, parts: &Parts) -> Result<(), Response> {
        match self.mode {
            Mode::Off => Err(not_found()),
            Mode::KeyOnly if self.backend.has_api_key(&parts.headers) => {
                self.backend.check_api_key(parts).await
            }
            Mode::KeyOnly => Err(not_found()),
            Mode::Password(_) | Mode::Open => Ok(()),
        }
    }
}

/// The rejection of a request of a page of another site, or of a change without the header; `None` for all others.
pub(crate) fn site_rejection(parts: &Parts) -> Option<Response> {
    let is_change = parts.method != Method::GET && parts.method != Method::HEAD;
    if is_change && !parts.headers.contains_key(CSRF_HEADER) {
        let reason = format!("a request that changes something needs the header {CSRF_HEADER}: 1\n");
        return Some((StatusCode::FORBIDDEN, reason).into_response());
    }
    is_of_other_site(&parts.headers)
        .then(|| (StatusCode::FORBIDDEN, "pages of other sites may not use the admin page\n").into_response())
}

pub(crate) fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "not found; there are /, /health, /ready and /metrics\n").into_response()
}
