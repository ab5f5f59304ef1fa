//! The check of the API key for one request, with a delayed response to wrong keys.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::http::StatusCode;
use axum::http::header::{CONNECTION, RETRY_AFTER};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use tidings_audit::AuditEvent;
use tidings_config::Config;
use tidings_http::{Peer, Scheme};
use tidings_metrics::Label as _;

use super::Services;
use super::access::{AccessDenied, ApiAccess};
use super::audit::Caller;
use crate::auth_failures::Credential;

/// The name of the key in the audit log.
const KEY_NAME: &str = "http_api.key";

/// Admits requests for paths that are protected by the API key.
pub(crate) struct ApiGuard {
    services: Arc<Services>,
    access: ApiAccess,
}

impl ApiGuard {
    /// The guard of the server API.
    pub(super) fn new(config: &Config, services: &Arc<Services>) -> Self {
        Self { services: Arc::clone(services), access: ApiAccess::from_config(config) }
    }

    /// The guard of `/metrics` on the HTTP port, where it requires the key (see [`Config::protects_metrics`]).
    pub(crate) fn for_metrics(config: &Config, services: &Arc<Services>) -> Option<Self> {
        config.protects_metrics().then(|| Self::new(config, services))
    }

    /// The guard of requests for the admin page that carry a key.
    pub(crate) fn for_admin(config: &Config, services: &Arc<Services>) -> Self {
        Self::new(config, services)
    }

    /// Checks the key of a request. Returns its sender.
    ///
    /// # Errors
    /// The response to a request that is not admitted.
    pub(crate) async fn check(&self, parts: &Parts) -> Result<Caller, Response> {
        let peer = parts.extensions.get::<Peer>();
        let address = peer.and_then(|peer| peer.client(&parts.headers, &self.services.process.addresses));
        let failures = &self.services.auth_failures;
        let unauthorized = &self.services.counters.unauthorized;
        if failures.is_rejected(address) {
            unauthorized.fetch_add(1, Ordering::Relaxed);
            self.record_failure(address, "too_many");
            let reason = "too many requests with a wrong API key from this address; try again later\n";
            let headers = [(RETRY_AFTER, "30"), (CONNECTION, "close")];
            return Err((StatusCode::TOO_MANY_REQUESTS, headers, reason).into_response());
        }
        let scheme = parts.extensions.get::<Scheme>().copied().unwrap_or_default();
        if let Err(denied) = self.access.check(&parts.headers, scheme) {
            unauthorized.fetch_add(1, Ordering::Relaxed);
            match denied {
                AccessDenied::WrongKey => failures.fail_request(address, Credential::ApiKey).await,
                AccessDenied::NoKey => self.record_failure(address, "missing"),
                AccessDenied::Closed | AccessDenied::OtherSite => {}
            }
            return Err(denied.into_response());
        }
        let key = if matches!(self.access, ApiAccess::Key(_)) { KEY_NAME } else { "" };
        Ok(Caller { key, address })
    }

    fn record_failure(&self, address: Option<IpAddr>, reason: &str) {
        let credential = Credential::ApiKey.label();
        self.services.audit.record(&AuditEvent::AuthenticationFailed { credential, reason, address });
    }
}
