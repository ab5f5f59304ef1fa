//! Who may make tables and upload files, and what may be uploaded by whom: `tables.allow_upload`, quotas and places.
//!
//! Invariants:
//! - The right is decided before a byte of a file is taken, in one place for every path on which a file comes.
//! - Who opens a table with its owner's secret may upload to it whatever the option says.
//! - A wrong token or key is an error and no anonymous client; it is counted and answered late.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use tidings_hub::{About, Failure as Refused, Secret};
use tidings_shard::client_network;
use tidings_wire::code;

use super::failure::Failure;
use super::upload::UPLOADS;
use crate::auth_failures::Credential;
use crate::authority::UploadGrant;
use crate::config::AllowUpload;
use crate::node::Node;

/// Longest token that is taken from a message, in bytes.
pub(super) const MAX_TOKEN: usize = 16 << 10;

/// How many uploads of one address may be under way unless an option says otherwise.
const OF_ADDRESS: usize = 16;

/// What a connection has shown of its client.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    address: Option<IpAddr>,
    headers: Vec<(String, String)>,
    /// The API key that the handshake showed.
    key: Option<Vec<u8>>,
    /// A connection token, of the handshake or of a message.
    pub(super) token: Option<String>,
}

/// What uploads of one requester may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Quota {
    /// Who it is: `user:ann`, `address:192.0.2.1`; empty for who has no quota.
    pub(super) key: Arc<str>,
    /// The most bytes of tables, and the option that says so.
    pub(super) bytes: u64,
    pub(super) bytes_option: &'static str,
    /// The most uploads at once, and the option that says so.
    pub(super) uploads: usize,
    pub(super) uploads_option: &'static str,
}

impl Quota {
    /// For backends, and clients whose address says nothing.
    pub(super) fn unlimited() -> Self {
        Self {
            key: "".into(),
            bytes: u64::MAX,
            bytes_option: "tables.max_total",
            uploads: UPLOADS,
            uploads_option: "tables.user_upload_limit",
        }
    }

    /// That of the one who has uploaded a table's file.
    pub(super) fn of_uploader(node: &Node, key: &str) -> Self {
        match key.split_once(':') {
            Some(("user", user)) => Self::of_user(node, user),
            Some(("address", address)) => Self::of_address(node, address.parse().ok()),
            _ => Self::unlimited(),
        }
    }

    fn of_user(node: &Node, user: &str) -> Self {
        let options = &node.config.tables;
        Self {
            key: format!("user:{user}").into(),
            bytes: or_half(options.user_max_total, options.max_total),
            bytes_option: "tables.user_max_total",
            uploads: options.user_upload_limit,
            uploads_option: "tables.user_upload_limit",
        }
    }

    fn of_address(node: &Node, address: Option<IpAddr>) -> Self {
        let options = &node.config.tables;
        let Some(address) = address.map(client_network) else { return Self::unlimited() };
        let is_own = address.is_loopback();
        let (bytes, uploads) = (options.address_max_total, options.address_upload_limit);
        Self {
            key: format!("address:{address}").into(),
            bytes: if is_own && bytes == 0 { u64::MAX } else { or_half(bytes, options.max_total) },
            bytes_option: "tables.address_max_total",
            uploads: match uploads {
                0 if is_own => UPLOADS,
                0 => OF_ADDRESS,
                uploads => uploads,
            },
            uploads_option: "tables.address_upload_limit",
        }
    }
}

fn or_half(limit: usize, of: usize) -> u64 {
    if limit == 0 { of as u64 / 2 } else { limit as u64 }
}

impl Visitor {
    /// Who sends a handshake with these headers.
    pub(super) fn new(node: &Node, headers: &HeaderMap, peer: Option<crate::http::Peer>) -> Self {
        let bearer = headers.get(AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
        });
        let text = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        let is_asked = node.config.client.proxy.connect.enabled;
        Self {
            address: peer.and_then(|peer| peer.client(headers, &node.process.addresses)),
            headers: if is_asked { headers.iter().filter_map(text).collect() } else { Vec::new() },
            key: crate::api::shown_key(headers).map(<[u8]>::to_vec),
            token: bearer.filter(|token| !token.is_empty()),
        }
    }

    /// The quota of a client that uploads by the owner's secret alone.
    pub(super) fn quota(&self, node: &Node) -> Quota {
        Quota::of_address(node, self.address)
    }

    /// Finds out whether the client may make tables and upload.
    ///
    /// # Errors
    /// 401 without what is needed or when it is wrong, 403 when it is not enough, 503 when that cannot be found out now.
    pub(super) async fn authorize(&self, node: &Node) -> Result<Quota, Failure> {
        // Where there is no key, one that is shown is meant for another server.
        if let Some(key) = self.key.as_ref().filter(|_| node.config.http_api.key.is_set()) {
            return self.check_key(node, key).await;
        }
        let level = match node.config.tables.allow_upload {
            AllowUpload::Auto if node.config.has_key() => AllowUpload::Token,
            AllowUpload::Auto => AllowUpload::Anyone,
            level => level,
        };
        let may_anyone = level == AllowUpload::Anyone;
        if may_anyone && self.token.is_none() {
            return Ok(Quota::of_address(node, self.address));
        }
        match self.grant(node).await {
            Ok(Some(grant)) if self.is_enough(&grant, level) => Ok(match &*grant.user {
                "" => Quota::of_address(node, self.address),
                user => Quota::of_user(node, user),
            }),
            Ok(Some(_)) => Err(forbidden(level)),
            Ok(None) => Err(unauthorized(level)),
            Err(failure) => Err(refused(&failure, self.token.is_some(), level)),
        }
    }

    async fn check_key(&self, node: &Node, key: &[u8]) -> Result<Quota, Failure> {
        if Secret::new(node.config.http_api.key.expose()).is(key) {
            return Ok(Quota::unlimited());
        }
        node.router.auth_failures().fail(self.address, Credential::ApiKey).await;
        Err(Failure::new(401, "this is not the key in http_api.key"))
    }

    async fn grant(&self, node: &Node) -> Result<Option<UploadGrant>, Refused> {
        let Some(decisions) = &node.decisions else { return Ok(None) };
        let about = About { transport: "websocket", headers: self.headers.clone() };
        decisions.uploader(self.token.as_deref(), about, self.address).await
    }

    fn is_enough(&self, grant: &UploadGrant, level: AllowUpload) -> bool {
        match (grant.upload, level) {
            (Some(upload), _) => upload,
            (None, AllowUpload::Anyone) => true,
            // A token is proof of somebody whom the application knows; without one only a user is.
            (None, AllowUpload::Token) => self.token.is_some() || !grant.user.is_empty(),
            (None, _) => false,
        }
    }
}

/// What is needed, for the person who has to get it.
fn needed(level: AllowUpload) -> &'static str {
    match level {
        AllowUpload::Key => {
            "to upload here takes the API key of the server, a connection token with the claim tables.upload, or the secret of \
             the table's owner (tables.allow_upload = key)"
        }
        _ => {
            "to upload here takes a connection token or the secret of the table's owner (tables.allow_upload = token): send \
             {\"token\":\"…\"} or {\"owner\":\"…\"} first"
        }
    }
}

fn unauthorized(level: AllowUpload) -> Failure {
    Failure::new(401, format!("you may not upload here: {}", needed(level)))
}

fn forbidden(level: AllowUpload) -> Failure {
    Failure::new(403, format!("you may not upload here, your token gives no right to it: {}", needed(level)))
}

fn refused(failure: &Refused, has_token: bool, level: AllowUpload) -> Failure {
    match failure {
        Refused::Error(verdict)
            if has_token && (!verdict.temporary || verdict.code == code::TOKEN_EXPIRED.number) =>
        {
            Failure::new(401, format!("the connection token is not accepted: {}", verdict.text))
        }
        Refused::Error(verdict) if !verdict.temporary => unauthorized(level),
        Refused::Disconnect(..) => unauthorized(level),
        _ => Failure::new(503, "whether you may upload cannot be found out at the moment; try again"),
    }
}
