//! The check of the API keys for one request, with a delayed response to wrong keys.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::http::StatusCode;
use axum::http::header::{CONNECTION, RETRY_AFTER};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use tidings_api::ApiError;
use tidings_api_access::{AccessDenied, ApiPort, Authorized};
use tidings_audit::AuditEvent;
use tidings_http::{Peer, Scheme};
use tidings_keys::{Scope, Scopes};
use tidings_log_throttle::LogThrottle;
use tidings_metrics::Label as _;

use super::Services;
use super::audit::Caller;
use tidings_auth_failures::Credential;

/// Admits requests for paths that are protected by the API keys.
pub(crate) struct ApiGuard {
    services: Arc<Services>,
    port: ApiPort,
    /// Log lines about keys that were used outside of their scopes.
    denials: LogThrottle,
}

impl ApiGuard {
    /// The guard of the paths for backends and operators.
    pub(crate) fn new(services: &Arc<Services>) -> Self {
        Self { services: Arc::clone(services), port: ApiPort::Http, denials: LogThrottle::new() }
    }

    /// The guard of the API over gRPC.
    pub(super) fn for_grpc(services: &Arc<Services>) -> Self {
        Self { port: ApiPort::Grpc, ..Self::new(services) }
    }

    /// Checks the key of a request for `/metrics` on the HTTP port, where one is required (see
    /// [`tidings_config::Config::protects_metrics`]). The key needs the scope `read`.
    ///
    /// # Errors
    /// The response to a request that is not admitted.
    pub(crate) async fn check_metrics(&self, parts: &Parts) -> Result<(), Response> {
        if !self.services.access.load().protects_metrics {
            return Ok(());
        }
        self.check_with(parts, Scope::Read.into()).await
    }

    /// Checks the key of a request outside of the server API, and that the key has these scopes.
    ///
    /// # Errors
    /// The response to a request that is not admitted.
    pub(crate) async fn check_with(&self, parts: &Parts, scopes: Scopes) -> Result<(), Response> {
        let caller = self.check(parts).await?;
        let Some(scope) = self.missing_scope(&caller, parts.uri.path(), scopes) else { return Ok(()) };
        let reason = format!("{}\n", ApiError::missing_scope(&caller.identity, scope).message);
        Err((StatusCode::FORBIDDEN, reason).into_response())
    }

    /// The first of the scopes `needed` that a key lacks. Such a request is counted, logged, and recorded in the audit log: a
    /// stolen key may be tried out. `method` is the method or the path.
    pub(super) fn missing_scope(&self, caller: &Caller, method: &str, needed: Scopes) -> Option<Scope> {
        let Caller { identity, address, .. } = caller;
        let scope = identity.scopes.missing(needed)?;
        self.count_unauthorized();
        let (key, address) = (&*identity.name, *address);
        if let Some(count) = self.denials.count() {
            let address = address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
            tracing::warn!(key, address, method, scope = scope.name(), count, "an API key lacks a scope");
        }
        let scope_name = scope.name();
        self.services.audit.record(&AuditEvent::PermissionDenied { key, method, scope: scope_name, address });
        Some(scope)
    }

    /// Counts a request that was rejected.
    fn count_unauthorized(&self) {
        self.services.counters.unauthorized.fetch_add(1, Ordering::Relaxed);
    }

    /// Checks the key of a request. Returns its sender. The caller of this function checks the scopes.
    ///
    /// # Errors
    /// The response to a request that is not admitted.
    pub(crate) async fn check(&self, parts: &Parts) -> Result<Caller, Response> {
        let peer = parts.extensions.get::<Peer>();
        let address = peer.and_then(|peer| peer.client(&parts.headers, &self.services.process.addresses));
        let failures = &self.services.auth_failures;
        if failures.is_rejected(address) {
            self.count_unauthorized();
            self.record_failure(address, "too_many");
            let reason = "too many requests with a wrong API key from this address; try again later\n";
            let headers = [(RETRY_AFTER, "30"), (CONNECTION, "close")];
            return Err((StatusCode::TOO_MANY_REQUESTS, headers, reason).into_response());
        }
        let scheme = parts.extensions.get::<Scheme>().copied().unwrap_or_default();
        let checked = self.services.access.load().check(self.port, &parts.headers, scheme);
        match checked {
            Ok(Authorized { identity, rate }) => Ok(Caller { identity, rate, address }),
            Err(denied) => {
                self.count_unauthorized();
                match denied {
                    AccessDenied::WrongKey => failures.fail_request(address, Credential::ApiKey).await,
                    AccessDenied::NoKey => self.record_failure(address, "missing"),
                    AccessDenied::Closed | AccessDenied::OtherSite => {}
                }
                Err(denied.response(self.port))
            }
        }
    }

    fn record_failure(&self, address: Option<IpAddr>, reason: &str) {
        let credential = Credential::ApiKey.label();
        self.services.audit.record(&AuditEvent::AuthenticationFailed { credential, reason, address });
    }
}
