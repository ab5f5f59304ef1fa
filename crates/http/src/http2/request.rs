//! Requests of HTTP/2 in the form of HTTP/1.1, so that every check and every route applies to both.

use axum::http::header::{COOKIE, HOST, HeaderValue};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::ext::Protocol;

/// The protocol of a WebSocket in an extended CONNECT (RFC 8441 §5).
const WEBSOCKET: &str = "websocket";

/// Gives a request a `Host`, one `Cookie`, and the method of a WebSocket handshake. Returns whether it is one.
///
/// # Errors
/// The response to a request that cannot be served.
pub(super) fn normalize(request: &mut Request<Incoming>) -> Result<bool, (StatusCode, &'static str)> {
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    set_host(authority.as_deref(), request.headers_mut())
        .map_err(|reason| (StatusCode::BAD_REQUEST, reason))?;
    join_cookies(request.headers_mut());
    if request.method() != Method::CONNECT {
        return Ok(false);
    }
    match request.extensions().get::<Protocol>() {
        Some(protocol) if protocol.as_str().eq_ignore_ascii_case(WEBSOCKET) => {
            *request.method_mut() = Method::GET;
            Ok(true)
        }
        Some(_) => Err((StatusCode::NOT_IMPLEMENTED, "CONNECT is supported for :protocol websocket alone\n")),
        None => Err((StatusCode::METHOD_NOT_ALLOWED, "this server is not a proxy\n")),
    }
}

/// Sets `Host` to the `:authority` of the request. Both may be present, with the same value (RFC 9113 §8.3.1).
fn set_host(authority: Option<&str>, headers: &mut HeaderMap) -> Result<(), &'static str> {
    let mut hosts = headers.get_all(HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    if another.is_some() {
        return Err("the request has more than one Host header\n");
    }
    match (authority, host) {
        (None, None) => Err("the request has neither :authority nor a Host header\n"),
        (None, Some(_)) => Ok(()),
        (Some(authority), Some(host)) if !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => {
            Err("the Host header differs from :authority\n")
        }
        (Some(authority), _) => {
            let host = HeaderValue::from_str(authority).map_err(|_| ":authority is not a host\n")?;
            headers.insert(HOST, host);
            Ok(())
        }
    }
}

/// Joins the parts of `Cookie`, which HTTP/2 may split (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let parts: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if parts.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&parts.join(&b"; "[..]))
    {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HOST, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn the_host_is_the_authority_and_nothing_may_contradict_it() {
        for (authority, given, host) in [
            (Some("a:1"), &[][..], Some("a:1")),
            (Some("a:1"), &["A:1"], Some("a:1")),
            (None, &["a"], Some("a")),
            (Some("a"), &["b"], None),
            (Some("a"), &["a", "a"], None),
            (None, &[], None),
        ] {
            let mut headers = hosts(given);
            let set = set_host(authority, &mut headers);
            assert_eq!(set.is_ok(), host.is_some(), "{authority:?} {given:?}");
            if let Some(host) = host {
                assert_eq!(headers.get_all(HOST).iter().collect::<Vec<_>>(), [host]);
            }
        }
    }

    #[test]
    fn split_cookies_are_joined() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1"));
        headers.append(COOKIE, HeaderValue::from_static("b=2"));
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }
}
