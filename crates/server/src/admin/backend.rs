//! What the page needs of the deployment, as methods of the parts of this server.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::Response;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tidings_admin::{AdminBackend, Responses};
use tidings_audit::AuditEvent;
use tidings_cluster::Collected;
use tidings_http::Peer;
use tidings_keys::{ApiIdentity, Scopes};
use tidings_reload::LiveConfig;
use tidings_table_service as tables;

use super::{Reporter, namespaces};
use crate::api::{self, ApiGuard, Caller};
use crate::http::{HttpServices, OperatorStreams};
use tidings_auth_failures::Credential;

/// The name of the page in the audit log, in place of the name of a key. No key can have it: it contains a space.
const ADMIN: &str = "admin page";

/// The deployment as the page uses it.
pub(crate) struct PageBackend {
    api: Arc<api::Services>,
    guard: ApiGuard,
    config: LiveConfig,
    streams: OperatorStreams,
    reporter: Arc<Reporter>,
    tables: Option<Arc<tables::Service>>,
}

impl PageBackend {
    pub(super) fn new(
        services: &HttpServices,
        reporter: Arc<Reporter>,
        tables: Option<Arc<tables::Service>>,
    ) -> Self {
        Self {
            api: Arc::clone(&services.api),
            guard: ApiGuard::new(&services.api),
            config: services.config.clone(),
            streams: OperatorStreams::new(services),
            reporter,
            tables,
        }
    }
}

impl AdminBackend for PageBackend {
    fn address(&self, parts: &Parts) -> Option<IpAddr> {
        let peer = parts.extensions.get::<Peer>()?;
        peer.client(&parts.headers, &self.api.process.addresses)
    }

    fn has_api_key(&self, headers: &HeaderMap) -> bool {
        let api = &self.config.load().http_api;
        // With `http_api.insecure` the guard accepts any key.
        api.has_key() && !api.insecure && api::api_key(headers).is_some()
    }

    fn check_api_key<'a>(&'a self, parts: &'a Parts) -> BoxFuture<'a, Result<(), Response>> {
        self.guard.check_with(parts, Scopes::ALL).boxed()
    }

    fn login_failed(&self, address: Option<IpAddr>) -> BoxFuture<'_, ()> {
        self.api.auth_failures.fail_request(address, Credential::AdminPassword).boxed()
    }

    fn logged_in(&self, address: Option<IpAddr>) {
        self.api.audit.record(&AuditEvent::AdminLogin { key: "", address, accepted: true });
    }

    fn collect<'a>(&'a self, query: Value, only: Option<&'a str>) -> BoxFuture<'a, Responses> {
        async move {
            let Collected { reports, missing } = self.api.nodes.collect(query, only, &*self.reporter).await;
            Responses { reports, missing }
        }
        .boxed()
    }

    fn command<'a>(
        &'a self,
        address: Option<IpAddr>,
        method: &'a str,
        body: Bytes,
    ) -> BoxFuture<'a, Result<Response, serde_json::Error>> {
        api::run_command(
            &self.api,
            Caller { identity: ApiIdentity { name: ADMIN.into(), scopes: Scopes::ALL }, rate: None, address },
            method,
            body,
        )
        .boxed()
    }

    fn tail<'a>(&'a self, parts: &'a Parts) -> BoxFuture<'a, Response> {
        self.streams.open(parts).boxed()
    }

    fn namespaces(&self) -> Value {
        namespaces::describe(&self.config.load())
    }

    fn delete_table<'a>(&'a self, address: Option<IpAddr>, id: &'a str) -> BoxFuture<'a, Result<(), String>> {
        async move {
            let Some(tables) = &self.tables else {
                return Err("tables are off (tables.enabled)".to_owned());
            };
            tables.delete(id).await?;
            self.api.audit.record(&AuditEvent::TableDeleted { table: id, address });
            Ok(())
        }
        .boxed()
    }
}
