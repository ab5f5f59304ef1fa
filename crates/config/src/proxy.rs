//! The options of the hooks by which the application is asked what clients may do, and the types of their values:
//! addresses, names of headers, headers. Names and meanings are those of Centrifugo's documentation ("Proxy events to
//! the backend").

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};

use super::group::group;
use super::raw::{Raw, shown};
use super::setting::{Setting, expected, millis, quoted};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;

/// Longest address in bytes.
const MAX_URL: usize = 2048;
/// Most headers of [`StaticHeaders`].
const MAX_HEADERS: usize = 64;

/// Headers that belong to one connection or one body (RFC 9110 §7.6.1, §8), so that no other may be given theirs: who
/// could, would say where another request ends, or get an answer that cannot be read.
const RESERVED: [&str; 14] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

group! {
    /// Hooks for clients: questions to the application, each an HTTP POST with JSON that is answered with JSON.
    pub struct ClientProxies {}
    groups {
        /// Who may connect.
        connect: ConnectProxyOptions;
    }
}

group! {
    /// Who may connect: asked for a client that shows no token.
    pub struct ConnectProxyOptions {
        /// Whether the application is asked. A client that shows a token is judged by that alone.
        enabled: bool = "false", ();
        /// Where it is asked.
        endpoint: Option<HttpUrl> = "", HOOK;
        /// How long an answer may take, with the connection that it may need. Past it the client gets the temporary
        /// error 100.
        timeout: Duration = "1s", millis(10, MINUTE);
        /// Headers of the client's HTTP request that are passed on. A client of the line port has none.
        http_headers: Vec<HeaderName> = "", ();
        /// Headers that the client put into its `connect` command instead, as a browser must, that are passed on where
        /// its HTTP request has none of that name. A client may write into them whatever it likes: name those alone
        /// that the application verifies, such as `Authorization`, and none that a gateway sets.
        emulated_headers: Vec<HeaderName> = "", ();
        /// Whether the client's data is sent in base64, as `b64data`. Otherwise it is sent as JSON, in `data`, where
        /// it is some.
        binary_encoding: bool = "false", ();
    }
    groups {
        /// How HTTP is spoken.
        http: ProxyHttpOptions;
    }
}

group! {
    /// Hooks for channels, in the namespaces that have them switched on (`subscribe_proxy_enabled`,
    /// `publish_proxy_enabled`): questions to the application, each an HTTP POST with JSON that is answered with JSON.
    pub struct ChannelProxies {}
    groups {
        /// Who may subscribe.
        subscribe: ProxyOptions;
        /// Who may publish, and what.
        publish: ProxyOptions;
    }
}

group! {
    /// A hook: how one kind of question is put to the application.
    pub struct ProxyOptions {
        /// Where the application is asked.
        endpoint: Option<HttpUrl> = "", HOOK;
        /// How long an answer may take, with the connection that it may need. Past it the client gets the temporary
        /// error 100.
        timeout: Duration = "1s", millis(10, MINUTE);
        /// Headers of the client's HTTP request that are passed on. A client of the line port has none.
        http_headers: Vec<HeaderName> = "", ();
        /// Whether the application is told the `meta` that it, or the token, gave the connection.
        include_connection_meta: bool = "false", ();
        /// Whether the client's data is sent in base64, as `b64data`. Otherwise it is sent as JSON, in `data`, where
        /// it is some.
        binary_encoding: bool = "false", ();
    }
    groups {
        /// How HTTP is spoken.
        http: ProxyHttpOptions;
    }
}

group! {
    /// How HTTP is spoken with the application.
    pub struct ProxyHttpOptions {
        /// Headers that every question carries, such as a key by which the application knows this server. A client's
        /// header of the same name that is passed on takes their place.
        static_headers: StaticHeaders = "", ();
    }
}

group! {
    /// What is done with `rpc` commands.
    pub struct RpcOptions {}
    groups {
        /// The hook that answers them.
        proxy: ProxyOptions;
        /// What holds for their methods.
        without_namespace: RpcNamespaceOptions;
    }
}

group! {
    /// What holds for the methods of `rpc` commands.
    pub struct RpcNamespaceOptions {
        /// Whether the application answers them, where `rpc.proxy.endpoint` says where it is. Otherwise the answer is
        /// error 108.
        proxy_enabled: bool = "true", ();
    }
}

/// What an address of a hook looks like.
const HOOK: &str = "http://localhost:3000/tidings/connect";

/// An address over HTTP: `http` or `https`, a host, and no user in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl(Uri);

impl HttpUrl {
    /// The address.
    pub fn uri(&self) -> &Uri {
        &self.0
    }
}

/// Empty text is no address. The rule is an example of one.
impl Setting for Option<HttpUrl> {
    type Rule = &'static str;

    fn read(raw: &Raw, example: &&'static str) -> Result<Self, String> {
        let text = raw.as_text().ok_or_else(|| expected("a URL", raw))?;
        if text.is_empty() {
            return Ok(None);
        }
        // What stands in a wrong one is not repeated: it may hold a password.
        let wrong = |what: &str| Err(format!("expected a URL such as {example}, got {what}"));
        if text.len() > MAX_URL {
            return wrong("a longer one than 2048 bytes");
        }
        if text.contains("{{") {
            return wrong("a template, and templates are not supported");
        }
        let Ok(uri) = text.parse::<Uri>() else { return wrong("text that is none") };
        match uri.scheme_str() {
            Some("http" | "https") => {}
            Some(_) => return wrong("one with another scheme than http and https"),
            None => return wrong("text without a scheme"),
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return wrong("one with a user, which is not supported");
        }
        if uri.host().is_none_or(str::is_empty) {
            return wrong("one without a host");
        }
        Ok(Some(HttpUrl(uri)))
    }

    fn kind(_: &&'static str) -> String {
        "URL (`http://`, `https://`), or empty".into()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(&self.as_ref().map(|url| url.0.to_string()).unwrap_or_default()))
    }
}

/// A header's name that may be passed on. Upper and lower case are the same.
impl Setting for HeaderName {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        let text = raw.as_text().ok_or_else(|| expected("a header's name", raw))?;
        header_name(text)
    }

    fn kind((): &()) -> String {
        "header name".into()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(self.as_str()))
    }
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::try_from(text)
        .map_err(|_| format!("expected a header's name such as Cookie, got \"{}\"", shown(text)))?;
    if RESERVED.contains(&name.as_str()) {
        return Err(format!("the header {name} belongs to the connection, so it cannot be set or passed on"));
    }
    Ok(name)
}

/// Headers with their values, which [`Debug`](std::fmt::Debug) does not show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StaticHeaders(Vec<(HeaderName, HeaderValue)>);

impl StaticHeaders {
    /// The headers; no name twice.
    pub fn iter(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        self.0.iter()
    }
}

/// A table in a file, its JSON in text anywhere; empty text is none.
impl Setting for StaticHeaders {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        // What stands in a wrong one is not repeated: it may be a key.
        let wrong = || {
            format!(
                "expected headers with their values, such as {{\"X-Key\": \"value\"}}, got {}",
                raw.sort()
            )
        };
        let pairs: Vec<(String, String)> = match raw {
            Raw::Table(entries) => entries
                .iter()
                .map(|(name, node)| Some((name.clone(), node.raw.as_text()?.to_owned())))
                .collect::<Option<_>>()
                .ok_or_else(wrong)?,
            Raw::Text(text) | Raw::Word(text) if text.trim().is_empty() => Vec::new(),
            Raw::Text(text) | Raw::Word(text) => {
                let map: BTreeMap<String, String> = serde_json::from_str(text).map_err(|_| wrong())?;
                map.into_iter().collect()
            }
            _ => return Err(wrong()),
        };
        if pairs.len() > MAX_HEADERS {
            return Err(format!("expected at most {MAX_HEADERS} headers"));
        }
        let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
        for (name, value) in pairs {
            let name = header_name(&name)?;
            let mut value = HeaderValue::try_from(value).map_err(|_| {
                format!("the value of the header {name} holds a byte that no header may hold")
            })?;
            value.set_sensitive(true);
            if headers.iter().any(|(known, _)| *known == name) {
                return Err(format!("the header {name} stands there twice"));
            }
            headers.push((name, value));
        }
        Ok(Self(headers))
    }

    fn kind((): &()) -> String {
        "table of headers and their values (elsewhere its JSON in text)".into()
    }

    fn toml(&self) -> Option<String> {
        let entry = |(name, value): &(HeaderName, HeaderValue)| {
            format!("{} = {}", quoted(name.as_str()), quoted(&String::from_utf8_lossy(value.as_bytes())))
        };
        Some(format!("{{{}}}", self.0.iter().map(entry).collect::<Vec<_>>().join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::raw::Node;
    use super::*;

    fn word(text: &str) -> Raw {
        Raw::Word(text.into())
    }

    #[test]
    fn an_address_is_a_url_without_a_user() {
        for good in ["http://a", "https://a.b:8443/c?d=e", "http://[::1]:80/jwks.json"] {
            let url = Option::<HttpUrl>::read(&word(good), &HOOK).expect(good).expect(good);
            assert_eq!(url.uri(), &good.parse::<Uri>().expect(good));
        }
        assert_eq!(Option::<HttpUrl>::read(&word(""), &HOOK), Ok(None));
        for bad in [
            "a",
            "/a",
            "a:1",
            "ftp://a",
            "grpc://a:9000",
            "https://u:hunter2@a/",
            "http://",
            "https://a/{{realm}}",
            "http://a b",
        ] {
            let error = Option::<HttpUrl>::read(&word(bad), &HOOK).expect_err(bad);
            assert!(error.starts_with("expected a URL") && !error.contains("hunter2"), "{error}");
        }
        assert!(Option::<HttpUrl>::read(&word(&format!("http://{}", "a".repeat(MAX_URL))), &HOOK).is_err());
    }

    #[test]
    fn headers_that_belong_to_a_connection_cannot_be_passed_on() {
        assert_eq!(
            HeaderName::read(&word("X-Real-Ip"), &()).as_ref().map(HeaderName::as_str),
            Ok("x-real-ip")
        );
        for bad in ["Host", "content-LENGTH", "Transfer-Encoding", "", "a b", "a:"] {
            assert!(HeaderName::read(&word(bad), &()).is_err(), "{bad}");
        }
    }

    #[test]
    fn static_headers_are_a_table_or_its_json_and_are_not_shown() {
        let table = |pairs: &[(&str, &str)]| {
            let node = |value: &str| Node { line: 1, raw: Raw::Text(value.into()) };
            Raw::Table(pairs.iter().map(|(name, value)| ((*name).to_owned(), node(value))).collect())
        };
        let from_table = StaticHeaders::read(&table(&[("X-Key", "hunter2")]), &()).expect("a table");
        let from_json = StaticHeaders::read(&word(r#"{"X-Key": "hunter2"}"#), &()).expect("JSON");
        assert_eq!(from_table, from_json);
        assert_eq!(from_json.toml().as_deref(), Some(r#"{"x-key" = "hunter2"}"#));
        assert!(!format!("{from_json:?}").contains("hunter2"));
        assert_eq!(StaticHeaders::read(&word(" "), &()), Ok(StaticHeaders::default()));
        for bad in [
            word("X-Key: hunter2"),
            word(r#"{"X-Key": 3}"#),
            word(r#"{"X Key": "a"}"#),
            word(r#"{"X-Key": "hunter2\n"}"#),
            word(r#"{"Host": "hunter2"}"#),
            table(&[("X-Key", "a"), ("x-key", "hunter2")]),
            Raw::Switch(true),
        ] {
            let error = StaticHeaders::read(&bad, &()).expect_err("no headers");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
