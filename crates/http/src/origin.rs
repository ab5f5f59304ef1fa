//! Which web pages may connect.
//!
//! A browser lets the page of any site open WebSockets to any host, and send requests to it; it says in `Origin` whose
//! page it is (RFC 6454), which the page cannot change. Whoever is no browser says what it likes, so this protects the
//! users of browsers and nobody else.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};

use tidings_config::Config;

/// Says how a request came about, in browsers that send it (Fetch Metadata Request Headers §2.3).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The origins whose pages may connect, besides the server's own: `client.allowed_origins`.
#[derive(Clone, Debug)]
pub(crate) struct Origins(Vec<String>);

/// How a browser has reached the server. Stands among the request's extensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS, as a trusted proxy says.
    Http,
    /// Over TLS: of this server, or as a trusted proxy says.
    Https,
    /// There may be a proxy in front that ends TLS and is not trusted to say so.
    #[default]
    Unknown,
}

/// Who has sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visitor<'r> {
    /// A page of the server's own, or no browser.
    Own,
    /// A page of this origin, which is listed.
    Listed(&'r HeaderValue),
    /// A page of any other, where all are welcome.
    Anybody,
}

impl Origins {
    pub(crate) fn of(config: &Config) -> Self {
        Self(config.client.allowed_origins.iter().map(|o| o.as_str().to_ascii_lowercase()).collect())
    }

    /// Finds out who has sent a request with these headers.
    ///
    /// The server's own origin is the one whose host and port the `Host` header names, which a proxy in front has to
    /// pass on, and whose scheme is the request's, where that is known.
    ///
    /// # Errors
    /// The origin of a page that may not connect, as it was written.
    pub(crate) fn check<'r>(&self, headers: &'r HeaderMap, scheme: Scheme) -> Result<Visitor<'r>, String> {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else {
            // Browsers leave it out where a page only embeds something, an image, say. Asking is enough to do harm.
            return match headers.get(SEC_FETCH_SITE).map(HeaderValue::as_bytes) {
                None | Some(b"same-origin" | b"none") => Ok(Visitor::Own),
                Some(_) => Err("a page of another site".into()),
            };
        };
        let text = String::from_utf8_lossy(origin.as_bytes()).to_ascii_lowercase();
        if origins.next().is_some() {
            return Err(text);
        }
        if headers.get(header::HOST).is_some_and(|host| is_own(&text, host, scheme)) {
            return Ok(Visitor::Own);
        }
        let mut patterns = self.0.iter().filter(|pattern| matches(pattern, &text)).peekable();
        if patterns.peek().is_none() {
            return Err(text);
        }
        Ok(if patterns.any(|pattern| pattern != "*") { Visitor::Listed(origin) } else { Visitor::Anybody })
    }
}

/// What a page is told that may not connect, and whoever has to find out why.
pub(crate) fn refusal(origin: &str) -> String {
    format!(
        "{origin:?} may not connect: it is not this server's own origin as the Host header names it, and not listed \
         in client.allowed_origins\n"
    )
}

/// Whether `host[:port]` is where the page of this origin came from.
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
    // Some proxies add the port that browsers leave out.
    let usual = match scheme {
        "https" => ":443",
        _ => ":80",
    };
    !own.is_empty() && host.strip_suffix(usual).unwrap_or(host).eq_ignore_ascii_case(own)
}

/// Whether `text` is what `pattern` says, in which `*` stands for any characters.
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
    fn a_page_from_where_the_host_header_points_is_the_server_s_own() {
        for (origin, host) in [
            ("http://localhost:8000", "localhost:8000"),
            ("https://push.example.com", "push.example.com"),
            ("https://push.example.com", "Push.Example.com:443"),
            ("http://push.example.com", "push.example.com:80"),
            ("http://[::1]:8000", "[::1]:8000"),
        ] {
            let headers = headers(&[("origin", origin), ("host", host)]);
            assert_eq!(origins(&[]).check(&headers, Scheme::Unknown), Ok(Visitor::Own), "{origin} {host}");
        }
    }

    #[test]
    fn a_page_that_came_without_tls_is_not_the_own_page_of_a_server_with_tls() {
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
    fn a_listed_origin_is_named_back_as_it_was_written() {
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
                Ok(Visitor::Listed(&value)),
                "{listed} {origin}"
            );
        }
        for origin in ["null", "https://anything.example"] {
            let headers = headers(&[("origin", origin), ("host", "push.example.com")]);
            assert_eq!(
                origins(&["https://a.example", "*"]).check(&headers, Scheme::Unknown),
                Ok(Visitor::Anybody),
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
    fn what_a_page_only_embeds_is_foreign_too() {
        assert_eq!(origins(&[]).check(&headers(&[("host", "localhost")]), Scheme::Unknown), Ok(Visitor::Own));
        for (site, own) in
            [("same-origin", true), ("none", true), ("same-site", false), ("cross-site", false)]
        {
            let checked = headers(&[("host", "localhost"), ("sec-fetch-site", site)]);
            assert_eq!(origins(&[]).check(&checked, Scheme::Unknown).is_ok(), own, "{site}");
        }
    }
}
