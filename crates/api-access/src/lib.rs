//! Access control of the server API: which requests are authorized at the HTTP port and at the port of gRPC, and by which key.
//!
//! Invariants:
//! - A key is compared with all keys in constant time ([`tidings_keys::ApiKeys::find`]).
//! - Without a key, no page of another site is authorized.

use std::collections::HashMap;
use std::sync::Arc;

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use tidings_config::Config;
use tidings_http::{Scheme, is_of_other_site};
use tidings_keys::{ApiIdentity, ApiKeys};
use tidings_shard::RateLimit;

/// The header with the key.
const API_KEY: &str = "x-api-key";

/// How requests are authorized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Requests need a key.
    Key,
    /// Requests need no key, but those of a browser must come from a page of this server.
    Open,
    /// Every request is rejected: no key is configured, and the server is reachable from other machines.
    Closed,
}

/// The port of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiPort {
    /// The HTTP port, or the internal port.
    Http,
    /// The port of the API over gRPC.
    Grpc,
}

/// How requests of one port are authorized.
#[derive(Debug)]
struct PortAccess {
    mode: Mode,
    keys: ApiKeys,
}

/// The rules of access, which a reload of the configuration replaces.
#[derive(Debug)]
pub struct ApiAccess {
    http: PortAccess,
    grpc: PortAccess,
    /// The rate limits of keys that have one, by their names.
    rates: HashMap<Arc<str>, Arc<RateLimit>>,
    /// Whether `/metrics` on the HTTP port requires a key.
    pub protects_metrics: bool,
}

/// The sender of an authorized request.
#[derive(Debug)]
pub struct Authorized {
    /// Its key, by name and scopes.
    pub identity: ApiIdentity,
    /// The rate limit of its key, if there is one.
    pub rate: Option<Arc<RateLimit>>,
}

/// Why a request is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessDenied {
    /// The request has no key.
    NoKey,
    /// The request has another key.
    WrongKey,
    /// The API is closed.
    Closed,
    /// The request comes from a page of another site.
    OtherSite,
}

impl ApiAccess {
    /// The access that the configuration specifies. The API is open with `http_api.insecure`, and on a workbench. May resolve
    /// the host name of a listener. A key that exists in `before` keeps what it has used of its rate limit.
    pub fn from_config(config: &Config, before: Option<&Self>) -> Self {
        let is_open = config.http_api.insecure || config.is_workbench();
        let access = |keys: ApiKeys| {
            let mode = match (is_open, keys.is_empty()) {
                (true, _) => Mode::Open,
                (false, true) => Mode::Closed,
                (false, false) => Mode::Key,
            };
            PortAccess { mode, keys }
        };
        let limited = config.http_api.keys.iter().filter(|key| key.options.rate_limit > 0);
        let rates = limited.map(|key| {
            let rate = before.and_then(|before| before.rates.get(&*key.name)).cloned().unwrap_or_default();
            rate.set(key.options.rate_limit);
            (Arc::from(&*key.name), rate)
        });
        Self {
            http: access(config.http_api.all_keys()),
            grpc: access(config.http_api.grpc_keys(&config.grpc_api.key)),
            rates: rates.collect(),
            protects_metrics: config.protects_metrics(),
        }
    }

    /// The keys.
    pub fn keys(&self) -> &ApiKeys {
        &self.http.keys
    }

    /// Checks the headers of a request that was received at `port` over `scheme`. Returns its sender.
    ///
    /// # Errors
    /// Why the request is rejected.
    pub fn check(
        &self,
        port: ApiPort,
        headers: &HeaderMap,
        scheme: Scheme,
    ) -> Result<Authorized, AccessDenied> {
        let PortAccess { mode, keys } = match port {
            ApiPort::Http => &self.http,
            ApiPort::Grpc => &self.grpc,
        };
        match mode {
            Mode::Key => {
                let given = api_key(headers).ok_or(AccessDenied::NoKey)?;
                let key = keys.find(given).and_then(|index| keys.get(index));
                let identity = key.map(ApiIdentity::from).ok_or(AccessDenied::WrongKey)?;
                let rate = self.rates.get(&identity.name).cloned();
                Ok(Authorized { identity, rate })
            }
            // A page of another site can send a form or a `fetch` to this server without the consent of the browser's user.
            Mode::Open if is_cross_site(headers, scheme) => Err(AccessDenied::OtherSite),
            Mode::Open => Ok(Authorized { identity: ApiIdentity::without_key(), rate: None }),
            Mode::Closed => Err(AccessDenied::Closed),
        }
    }
}

/// The key in the headers of a request.
pub fn api_key(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(key) = headers.get(API_KEY) {
        return Some(key.as_bytes());
    }
    let authorization = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, key) = authorization.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"apikey ").then(|| key.trim_ascii())
}

/// Whether a browser sends the request for a page of another site. Browsers send `Origin` with every POST (Fetch §3.1), so a
/// request without it does not come from a browser.
fn is_cross_site(headers: &HeaderMap, scheme: Scheme) -> bool {
    if is_of_other_site(headers) {
        return true;
    }
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let own = |origin: &HeaderValue| {
        let origin: Uri = origin.to_str().ok()?.parse().ok()?;
        let host = headers.get(HOST)?.to_str().ok()?;
        let is_scheme = match scheme {
            Scheme::Http => origin.scheme_str() == Some("http"),
            Scheme::Https => origin.scheme_str() == Some("https"),
            Scheme::Unknown => true,
        };
        Some(is_scheme && origin.authority()?.as_str().eq_ignore_ascii_case(host))
    };
    own(origin) != Some(true)
}

impl AccessDenied {
    /// The response at a port, with the options that have its keys.
    pub fn response(self, port: ApiPort) -> Response {
        let (own, keys) = match port {
            ApiPort::Http => ("http_api.key", "http_api.key, http_api.keys"),
            ApiPort::Grpc => ("grpc_api.key", "grpc_api.key, http_api.key, http_api.keys"),
        };
        let (status, reason) = match self {
            Self::NoKey => {
                (StatusCode::UNAUTHORIZED, format!("the server API needs a key ({keys}): X-API-Key: KEY\n"))
            }
            Self::WrongKey => {
                (StatusCode::UNAUTHORIZED, format!("this is none of the keys of the server API ({keys})\n"))
            }
            Self::Closed => {
                let reason = format!("the server API is closed: set {own} (or http_api.insecure)\n");
                (StatusCode::UNAUTHORIZED, reason)
            }
            Self::OtherSite => {
                let reason =
                    format!("without a key, pages of other sites may not use the server API; set {own}\n");
                (StatusCode::FORBIDDEN, reason)
            }
        };
        (status, reason).into_response()
    }
}

#[cfg(test)]
mod tests {
    use tidings_keys::{ApiKey, Scopes};
    use tidings_wire::Secret;

    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    fn access(mode: Mode) -> ApiAccess {
        let key = ApiKey { name: "shop".into(), secret: Secret::new("s3cret"), scopes: Scopes::ALL };
        let port = || PortAccess { mode, keys: [key.clone()].into_iter().collect() };
        ApiAccess { http: port(), grpc: port(), rates: HashMap::new(), protects_metrics: false }
    }

    #[test]
    fn the_key_may_be_in_either_header_and_must_be_complete() {
        let access = access(Mode::Key);
        for right in
            [("x-api-key", "s3cret"), ("authorization", "apikey s3cret"), ("authorization", "ApiKey  s3cret")]
        {
            let Authorized { identity, .. } = access
                .check(ApiPort::Http, &headers(&[right]), Scheme::Unknown)
                .unwrap_or_else(|e| panic!("{right:?}: {e:?}"));
            assert_eq!(&*identity.name, "shop");
        }
        for wrong in [("x-api-key", "s3cre"), ("x-api-key", ""), ("authorization", "apikey S3cret")] {
            assert_eq!(
                access.check(ApiPort::Http, &headers(&[wrong]), Scheme::Unknown).err(),
                Some(AccessDenied::WrongKey),
                "{wrong:?}"
            );
        }
        for none in [("authorization", "Bearer s3cret"), ("authorization", "apikey"), ("cookie", "s3cret")] {
            assert_eq!(
                access.check(ApiPort::Http, &headers(&[none]), Scheme::Unknown).err(),
                Some(AccessDenied::NoKey),
                "{none:?}"
            );
        }
    }

    #[test]
    fn without_a_key_only_own_pages_and_programs_are_accepted() {
        let host = ("host", "localhost:8000");
        let check = |more: &[(&'static str, &'static str)]| {
            access(Mode::Open)
                .check(ApiPort::Http, &headers(&[&[host], more].concat()), Scheme::Unknown)
                .map(|_| ())
        };
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&[("origin", "http://localhost:8000"), ("sec-fetch-site", "same-origin")]), Ok(()));
        for origin in ["http://localhost:3000", "http://localhost", "https://evil.example", "null", ""] {
            assert_eq!(check(&[("origin", origin)]), Err(AccessDenied::OtherSite), "{origin}");
        }
        for site in ["cross-site", "same-site"] {
            assert_eq!(check(&[("sec-fetch-site", site)]), Err(AccessDenied::OtherSite), "{site}");
        }
    }
}
