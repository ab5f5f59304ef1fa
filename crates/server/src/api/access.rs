//! Access control of the server API.

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tidings_wire::Secret;

use tidings_config::Config;
use tidings_http::Scheme;

/// The header with the key.
const API_KEY: &str = "x-api-key";
/// The header in which a browser states the site of the page that sends the request (Fetch Metadata).
const FETCH_SITE: &str = "sec-fetch-site";

/// How requests are authorized.
#[derive(Debug)]
pub(super) enum ApiAccess {
    /// Requests need this key.
    Key(Secret),
    /// Requests need no key, but those of a browser must come from a page of this server.
    Open,
    /// Every request is rejected: no key is configured, and the server is reachable from other machines.
    Closed,
}

/// Why a request is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AccessDenied {
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
    /// The access that the configuration specifies. The API is open with `http_api.insecure`, and on a workbench.
    pub(super) fn from_config(config: &Config) -> Self {
        let api = &config.http_api;
        if api.insecure || config.is_workbench() {
            Self::Open
        } else if api.key.is_set() {
            Self::Key(api.key.clone())
        } else {
            Self::Closed
        }
    }

    /// Checks the headers of a request that was received over `scheme`.
    ///
    /// # Errors
    /// Why the request is rejected.
    pub(super) fn check(&self, headers: &HeaderMap, scheme: Scheme) -> Result<(), AccessDenied> {
        match self {
            Self::Key(key) => match api_key(headers) {
                Some(given) if key.equals(given) => Ok(()),
                Some(_) => Err(AccessDenied::WrongKey),
                None => Err(AccessDenied::NoKey),
            },
            // A page of another site can send a form or a `fetch` to this server without the consent of the browser's user.
            Self::Open if is_cross_site(headers, scheme) => Err(AccessDenied::OtherSite),
            Self::Open => Ok(()),
            Self::Closed => Err(AccessDenied::Closed),
        }
    }
}

/// The key in the headers of a request.
pub(crate) fn api_key(headers: &HeaderMap) -> Option<&[u8]> {
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
    if headers.get(FETCH_SITE).is_some_and(|site| site != "same-origin" && site != "none") {
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

impl IntoResponse for AccessDenied {
    fn into_response(self) -> Response {
        match self {
            Self::NoKey => {
                let reason = "the server API needs its key (http_api.key): X-API-Key: KEY\n";
                (StatusCode::UNAUTHORIZED, reason).into_response()
            }
            Self::WrongKey => {
                (StatusCode::UNAUTHORIZED, "this is not the key in http_api.key\n").into_response()
            }
            Self::Closed => {
                let reason = "the server API is closed: set http_api.key (or http_api.insecure)\n";
                (StatusCode::UNAUTHORIZED, reason).into_response()
            }
            Self::OtherSite => {
                let reason =
                    "without a key, pages of other sites may not use the server API; set http_api.key\n";
                (StatusCode::FORBIDDEN, reason).into_response()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn the_key_may_be_in_either_header_and_must_be_complete() {
        let access = ApiAccess::Key(Secret::new("s3cret"));
        for right in
            [("x-api-key", "s3cret"), ("authorization", "apikey s3cret"), ("authorization", "ApiKey  s3cret")]
        {
            assert_eq!(access.check(&headers(&[right]), Scheme::Unknown), Ok(()), "{right:?}");
        }
        for wrong in [("x-api-key", "s3cre"), ("x-api-key", ""), ("authorization", "apikey S3cret")] {
            assert_eq!(
                access.check(&headers(&[wrong]), Scheme::Unknown),
                Err(AccessDenied::WrongKey),
                "{wrong:?}"
            );
        }
        for none in [("authorization", "Bearer s3cret"), ("authorization", "apikey"), ("cookie", "s3cret")] {
            assert_eq!(
                access.check(&headers(&[none]), Scheme::Unknown),
                Err(AccessDenied::NoKey),
                "{none:?}"
            );
        }
    }

    #[test]
    fn without_a_key_only_own_pages_and_programs_are_accepted() {
        let host = ("host", "localhost:8000");
        let check = |more: &[(&'static str, &'static str)]| {
            ApiAccess::Open.check(&headers(&[&[host], more].concat()), Scheme::Unknown)
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
