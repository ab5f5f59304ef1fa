//! The permission to create tables and upload files (`tables.allow_upload`), quotas, and WebSocket handshakes of viewers.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tidings_hub::{ClientMeter, ConnectionInfo, Failure as Rejected};
use tidings_keys::Scope;
use tidings_shard::{Process, client_network, network};
use tidings_table_service::{
    Access, Connection, Failure, MAX_EXPORTS, MAX_UPLOADS, PendingConnection, Quota, Usage, Visitor,
};
use tidings_wire::code;

use crate::authority::{Authorizer, UploadGrant};
use crate::http::HttpServices;
use tidings_auth_failures::Credential;
use tidings_config::AllowUpload;
use tidings_http::{HandshakeOptions, Peer};

/// The default limit on concurrent uploads of one address.
const UPLOADS_PER_ADDRESS: usize = 16;

/// The default limit on concurrent downloads of views of one address.
const DOWNLOADS_PER_ADDRESS: usize = MAX_EXPORTS / 4;

/// Permissions and quotas of clients of tables on this node.
pub(super) struct NodeAccess {
    services: Arc<HttpServices>,
    authorizer: Authorizer,
}

impl Access for NodeAccess {
    fn visitor(&self, request: &Request) -> Visitor {
        let (config, process) = (self.services.config.load(), self.services.shards.process());
        let headers = request.headers();
        let peer = request.extensions().get::<Peer>().copied();
        let bearer = headers.get(AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
        });
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        let has_hook = config.client.proxy.connect.enabled;
        Visitor {
            address: peer.and_then(|peer| peer.client(headers, &process.addresses)),
            headers: if has_hook { headers.iter().filter_map(text).collect() } else { Vec::new() },
            api_key: crate::api::api_key(headers).map(<[u8]>::to_vec),
            token: bearer.filter(|token| !token.is_empty()),
        }
    }

    fn authorize<'a>(&'a self, visitor: &'a Visitor) -> BoxFuture<'a, Result<Quota, Failure>> {
        self.check_upload(visitor).boxed()
    }

    fn owner_quota(&self, visitor: &Visitor) -> Quota {
        self.quota_of_address(visitor.address)
    }

    fn download_limit(&self, visitor: &Visitor) -> Option<(IpAddr, usize)> {
        let address = client_network(visitor.address?);
        match self.services.config.load().tables.address_download_limit {
            // Every client behind a proxy on this machine may have this address.
            0 if address.is_loopback() => None,
            0 => Some((address, DOWNLOADS_PER_ADDRESS)),
            most => Some((address, most)),
        }
    }

    fn usage(&self, visitor: &Visitor) -> Box<dyn Usage> {
        let process = Arc::clone(self.services.shards.process());
        let settings = self.services.api.router.settings();
        let meter = ClientMeter::new(settings, visitor.address.map(network), process.clock.nanos());
        Box::new(ViewerUsage { meter, process })
    }

    fn quota(&self, key: &str) -> Quota {
        match key.split_once(':') {
            Some(("user", user)) => self.quota_of_user(user),
            Some(("address", address)) => self.quota_of_address(address.parse().ok()),
            _ => Quota::unlimited(),
        }
    }

    fn accept(&self, request: Request) -> Result<(Response, PendingConnection), Response> {
        // Frames of a table are written by one task for each viewer, so compression would run once for each viewer.
        let (response, upgraded) = tidings_http::accept(
            request,
            &self.services.policy,
            &HandshakeOptions { protocols: &[], deflate: false },
        )?;
        let pending = upgraded.map(|upgraded| {
            let upgraded = upgraded?;
            let (stream, permit) = (Box::new(upgraded.stream), Box::new(upgraded.permit));
            Ok(Connection { stream, received: upgraded.received, permit })
        });
        Ok((response, pending.boxed()))
    }
}

/// The usage of a viewer of a table.
struct ViewerUsage {
    meter: ClientMeter,
    process: Arc<Process>,
}

impl Usage for ViewerUsage {
    fn set_user(&mut self, user: &str) {
        self.meter.set_user(user, self.process.clock.nanos());
    }

    fn charge(&self, bytes: usize) -> Result<(), Failure> {
        self.meter.charge(bytes, self.process.clock.nanos()).map_err(|exceeded| {
            let limit = self.meter.count_refusal(exceeded);
            Failure::new(429, format!("{}: {limit}", code::TOO_MANY_REQUESTS.text))
        })
    }

    fn charge_part(&self, bytes: usize) -> bool {
        self.meter.charge(bytes, self.process.clock.nanos()).is_ok()
    }
}

impl NodeAccess {
    pub(super) const fn new(services: Arc<HttpServices>, authorizer: Authorizer) -> Self {
        Self { services, authorizer }
    }

    async fn check_upload(&self, visitor: &Visitor) -> Result<Quota, Failure> {
        let config = self.services.config.load();
        // Without a configured key, a key in the request is intended for another server.
        if let Some(key) = visitor.api_key.as_ref().filter(|_| config.http_api.has_key()) {
            return self.check_key(visitor, key).await;
        }
        let level = match config.tables.allow_upload {
            AllowUpload::Auto if config.has_key() => AllowUpload::Token,
            AllowUpload::Auto => AllowUpload::Anyone,
            level => level,
        };
        if level == AllowUpload::Anyone && visitor.token.is_none() {
            return Ok(self.quota_of_address(visitor.address));
        }
        let has_token = visitor.token.is_some();
        match self.grant(visitor).await {
            Ok(Some(grant)) if suffices(&grant, has_token, level) => Ok(match &*grant.user {
                "" => self.quota_of_address(visitor.address),
                user => self.quota_of_user(user),
            }),
            Ok(Some(_)) => Err(forbidden(level)),
            Ok(None) => Err(unauthorized(level)),
            Err(failure) => Err(rejected(&failure, has_token, level)),
        }
    }

    async fn check_key(&self, visitor: &Visitor, key: &[u8]) -> Result<Quota, Failure> {
        let access = self.services.api.access.load_full();
        if let Some(key) = access.keys().find(key).and_then(|index| access.keys().get(index)) {
            if key.scopes.contains(Scope::Publish) {
                return Ok(Quota::unlimited());
            }
            let text =
                format!("you may not upload here: the key \"{}\" does not have the scope publish", key.name);
            return Err(Failure::new(403, text));
        }
        self.services.api.auth_failures.fail(visitor.address, Credential::ApiKey).await;
        Err(Failure::new(401, "this is none of the keys of the server API (http_api.key, http_api.keys)"))
    }

    async fn grant(&self, visitor: &Visitor) -> Result<Option<UploadGrant>, Rejected> {
        let about = ConnectionInfo { transport: "websocket", headers: visitor.headers.clone(), user: None };
        self.authorizer.authorize_upload(visitor.token.as_deref(), about, visitor.address).await
    }

    fn quota_of_user(&self, user: &str) -> Quota {
        let config = self.services.config.load();
        let options = &config.tables;
        Quota {
            key: format!("user:{user}").into(),
            bytes: or_half(options.user_max_total, options.max_total),
            bytes_option: "tables.user_max_total",
            uploads: options.user_upload_limit,
            uploads_option: "tables.user_upload_limit",
        }
    }

    fn quota_of_address(&self, address: Option<IpAddr>) -> Quota {
        let config = self.services.config.load();
        let options = &config.tables;
        let Some(address) = address.map(client_network) else { return Quota::unlimited() };
        let is_local = address.is_loopback();
        let (bytes, uploads) = (options.address_max_total, options.address_upload_limit);
        Quota {
            key: format!("address:{address}").into(),
            bytes: if is_local && bytes == 0 { u64::MAX } else { or_half(bytes, options.max_total) },
            bytes_option: "tables.address_max_total",
            uploads: match uploads {
                0 if is_local => MAX_UPLOADS,
                0 => UPLOADS_PER_ADDRESS,
                uploads => uploads,
            },
            uploads_option: "tables.address_upload_limit",
        }
    }
}

/// A limit, which by default is half of `total`.
fn or_half(limit: usize, total: usize) -> u64 {
    if limit == 0 { total as u64 / 2 } else { limit as u64 }
}

/// Whether a grant permits uploads at this level.
fn suffices(grant: &UploadGrant, has_token: bool, level: AllowUpload) -> bool {
    match (grant.upload, level) {
        (Some(upload), _) => upload,
        (None, AllowUpload::Anyone) => true,
        // A token proves that the application has authenticated the client. Without a token only a user id proves it.
        (None, AllowUpload::Token) => has_token || !grant.user.is_empty(),
        (None, _) => false,
    }
}

/// The credentials that an upload requires, as text for users.
fn required_credentials(level: AllowUpload) -> &'static str {
    match level {
        AllowUpload::Key => {
            "an upload requires the API key of the server, a connection token with the claim tables.upload, or the secret of \
             the table's owner (tables.allow_upload = key)"
        }
        _ => {
            "an upload requires a connection token or the secret of the table's owner (tables.allow_upload = token): send \
             {\"token\":\"…\"} or {\"owner\":\"…\"} first"
        }
    }
}

fn unauthorized(level: AllowUpload) -> Failure {
    Failure::new(401, format!("you may not upload here: {}", required_credentials(level)))
}

fn forbidden(level: AllowUpload) -> Failure {
    Failure::new(
        403,
        format!(
            "you may not upload here, because your token does not permit it: {}",
            required_credentials(level)
        ),
    )
}

fn rejected(failure: &Rejected, has_token: bool, level: AllowUpload) -> Failure {
    match failure {
        Rejected::Error(rejection)
            if has_token && (!rejection.temporary || rejection.code == code::TOKEN_EXPIRED.number) =>
        {
            Failure::new(401, format!("the connection token is not accepted: {}", rejection.text))
        }
        Rejected::Error(rejection) if !rejection.temporary => unauthorized(level),
        Rejected::Disconnect(..) => unauthorized(level),
        _ => Failure::new(503, "your permission to upload cannot be checked at the moment; try again"),
    }
}
