//! The check of `Origin`: the web pages that may connect.
//!
//! A browser lets the page of any site open WebSockets and send requests to any host. The browser sends the page's origin in
//! `Origin` (RFC 6454), and the page cannot change it. Other clients can send any value, so this check protects the users
//! of browsers only.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use tidings_config::{AllowedOrigin, Config};

/// The relation of the requesting page to this server, in browsers that send it (Fetch Metadata Request Headers §2.3).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a browser states that the page of another site, or of another host of the same site, sends the request. `none` is
/// the user, without a page.
pub fn is_of_other_site(headers: &HeaderMap) -> bool {
    headers.get(SEC_FETCH_SITE).is_some_and(|site| site != "same-origin" && site != "none")
}

/// The origins that may connect, besides the server's own: `client.allowed_origins`.
#[derive(Clone, Debug)]
pub(crate) struct Origins(Vec<String>);

/// The scheme with which a browser has reached the server. Every request has it as an extension.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS, according to a trusted proxy.
    Http,
    /// Over TLS of this server, or according to a trusted proxy.
    Https,
    /// A proxy that is not trusted may terminate TLS in front of the server.
    #[default]
    Unknown,
}

/// The origin of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOrigin<'r> {
    /// A page of the server's own origin, or a client that is no browser.
    Own,
    /// A page of this origin, which `client.allowed_origins` lists.
    Listed(&'r HeaderValue),
    /// A page of another origin, which `*` in `client.allowed_origins` allows.
    Any,
}

impl Origins {
    pub(crate) fn from_config(config: &Config) -> Self {
        Self::from_allowed(&config.client.allowed_origins)
    }

    /// These origins.
    pub(crate) fn from_allowed(allowed: &[AllowedOrigin]) -> Self {
        Self(allowed.iter().map(|o| o.as_str().to_ascii_lowercase()).collect())
    }

    /// Determines the origin of a request with these headers.
    ///
    /// The server's own origin has the host and port of the `Host` header, which a proxy in front must pass on, and the
    /// scheme of the request if that is known.
    ///
    /// # Errors
    /// The origin of a page that may not connect in lower case, or a description if the browser has sent none.
    pub(crate) fn check<'r>(
        &self,
        headers: &'r HeaderMap,
        scheme: Scheme,
    ) -> Result<RequestOrigin<'r>, String> {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else {
            // Browsers omit it when a page only embeds something, such as an image. The request alone can do harm.
            if is_of_other_site(headers) {
                return Err("a page of another site".into());
            }
            return Ok(RequestOrigin::Own);
        };
        let text = String::from_utf8_lossy(origin.as_bytes()).to_ascii_lowercase();
        if origins.next().is_some() {
            return Err(text);
        }
        if headers.get(header::HOST).is_some_and(|host| is_own(&text, host, scheme)) {
            return Ok(RequestOrigin::Own);
        }
        let mut patterns = self.0.iter().filter(|pattern| matches(pattern, &text)).peekable();
        if patterns.peek().is_none() {
            return Err(text);
        }
        Ok(if patterns.any(|pattern| pattern != "*") {
            RequestOrigin::Listed(origin)
        } else {
            RequestOrigin::Any
        })
    }
}

/// The response to a page that may not connect, for its developers.
pub(crate) fn rejection_text(origin: &str) -> String {
    format!(
        "{origin:?} may not connect: it is not this server's own origin as the Host header names it, and not listed \
         in client.allowed_origins\n"
    )
}

/// Whether a page of this origin was loaded from `host[:port]`.
fn is_own(origin: &str, host: &HeaderValue, known: Scheme) -> bool {
    let Some((scheme, own)) = origin.split_once("://") else { return false };
    let is_other = match known {
        Scheme::Http => scheme != "http",
        Scheme::Https => scheme != "https",
        Scheme::Unknown => false,
    };
    if is_other {
        return false;
    }
    let Ok(host) = host.to_str() else { return false };
    // Some proxies add the default port, which browsers omit.
    let default_port = match scheme {
        "https" => ":443",
        _ => ":80",
    };
    !own.is_empty() && host.strip_suffix(default_port).unwrap_or(host).eq_ignore_ascii_case(own)
}

/// Whether `text` matches `pattern`, in which `*` matches any characters.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        all.iter().map(header).collect()
    }

    fn origins(all: &[&str]) -> Origins {
        Origins(all.iter().map(|o| o.to_ascii_lowercase()).collect())
    }

    #[test]
    fn a_page_from_the_host_of_the_request_has_the_server_s_own_origin() {
        for (origin, host) in [
            ("http://localhost:8000", "localhost:8000"),
            ("https://push.example.com", "push.example.com"),
            ("https://push.example.com", "Push.Example.com:443"),
            ("http://push.example.com", "push.example.com:80"),
            ("http://[::1]:8000", "[::1]:8000"),
        ] {
            let headers = headers(&[("origin", origin), ("host", host)]);
            assert_eq!(
                origins(&[]).check(&headers, Scheme::Unknown),
                Ok(RequestOrigin::Own),
                "{origin} {host}"
            );
        }
    }

    #[test]
    fn a_page_loaded_without_tls_is_foreign_to_a_server_with_tls() {
        for (origin, scheme, own) in [
            ("https://push.example.com", Scheme::Https, true),
            ("http://push.example.com", Scheme::Https, false),
            ("https://push.example.com", Scheme::Http, false),
            ("http://push.example.com", Scheme::Http, true),
            ("http://push.example.com", Scheme::Unknown, true),
        ] {
            let headers = headers(&[("origin", origin), ("host", "push.example.com")]);
            assert_eq!(origins(&[]).check(&headers, scheme).is_ok(), own, "{origin} {scheme:?}");
        }
        let headers = headers(&[("origin", "http://push.example.com"), ("host", "push.example.com")]);
        assert!(origins(&["http://push.example.com"]).check(&headers, Scheme::Https).is_ok());
    }

    #[test]
    fn a_page_of_another_site_is_foreign_unless_listed() {
        for (origin, host) in [
            ("https://evil.example", "localhost:8000"),
            ("http://localhost:3000", "localhost:8000"),
            ("http://localhost", "localhost:8000"),
            ("http://push.example.com:443", "push.example.com"),
            ("http://localhost:8000.evil.example", "localhost:8000"),
            ("https://evil.example/localhost:8000", "localhost:8000"),
            ("null", "localhost:8000"),
            ("", "localhost:8000"),
            ("http://", ""),
        ] {
            let headers = headers(&[("origin", origin), ("host", host)]);
            assert_eq!(
                origins(&["https://example.com"]).check(&headers, Scheme::Unknown),
                Err(origin.into()),
                "{origin} {host}"
            );
        }
        let without_host = headers(&[("origin", "http://localhost")]);
        assert!(origins(&[]).check(&without_host, Scheme::Unknown).is_err());
        let two = headers(&[("origin", "http://a"), ("origin", "http://localhost"), ("host", "localhost")]);
        assert!(origins(&["*"]).check(&two, Scheme::Unknown).is_err());
    }

    #[test]
    fn a_listed_origin_is_returned_as_the_request_contains_it() {
        for (listed, origin) in [
            ("https://example.com", "https://example.com"),
            ("https://Example.com", "https://example.com"),
            ("https://*.example.com", "https://a.b.example.com"),
            ("http://localhost:*", "http://localhost:3000"),
            ("*://example.com", "http://example.com"),
        ] {
            let headers = headers(&[("origin", origin), ("host", "push.example.com")]);
            let value = HeaderValue::from_str(origin).unwrap();
            assert_eq!(
                origins(&[listed]).check(&headers, Scheme::Unknown),
                Ok(RequestOrigin::Listed(&value)),
                "{listed} {origin}"
            );
        }
        for origin in ["null", "https://anything.example"] {
            let headers = headers(&[("origin", origin), ("host", "push.example.com")]);
            assert_eq!(
                origins(&["https://a.example", "*"]).check(&headers, Scheme::Unknown),
                Ok(RequestOrigin::Any),
                "{origin}"
            );
        }
        for (listed, origin) in [
            ("https://*.example.com", "https://example.com"),
            ("https://*.example.com", "https://a.example.com.evil"),
            ("https://example.com", "https://example.com:8443"),
            ("https://a*a.com", "https://a.com"),
        ] {
            let headers = headers(&[("origin", origin), ("host", "push.example.com")]);
            assert!(origins(&[listed]).check(&headers, Scheme::Unknown).is_err(), "{listed} {origin}");
        }
    }

    #[test]
    fn an_embedded_request_without_origin_is_foreign_too() {
        assert_eq!(
            origins(&[]).check(&headers(&[("host", "localhost")]), Scheme::Unknown),
            Ok(RequestOrigin::Own)
        );
        for (site, own) in
            [("same-origin", true), ("none", true), ("same-site", false), ("cross-site", false)]
        {
            let checked = headers(&[("host", "localhost"), ("sec-fetch-site", site)]);
            assert_eq!(origins(&[]).check(&checked, Scheme::Unknown).is_ok(), own, "{site}");
        }
    }
}
