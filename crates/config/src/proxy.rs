//! The options of hooks (requests to the application about its clients), and the types of their values: URLs, names of
//! headers, headers. Names and meanings are those of Centrifugo's documentation ("Proxy events to the backend").

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use tidings_auth::JwksUrl;

use super::group::group;
use super::named_proxies::RpcNamespaces;
use super::raw::{Raw, shown};
use super::setting::{MaxLength, Setting, count, expected, millis, quoted};
use super::value::{PemText, StatusTransforms};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;

/// The longest address in bytes.
const MAX_URL: usize = 2048;
/// The most headers of [`StaticHeaders`].
const MAX_HEADERS: usize = 64;

/// Headers of one connection or one body (RFC 9110 §7.6.1, §8), which cannot be set or passed on: a client could
/// otherwise end the request early, or request an encoding that the server does not support. Names that begin with `grpc-` are
/// reserved for the same reason (gRPC over HTTP/2, "Requests").
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
    /// Hooks for clients: requests to the application, each an HTTP POST with JSON and a response in JSON.
    pub struct ClientProxies {}
    groups {
        /// The connect hook.
        connect: ConnectProxyOptions;
        /// The refresh hook.
        refresh: RefreshProxyOptions;
    }
}

group! {
    /// The connect hook: runs for clients without a token, and accepts or refuses the connection.
    pub struct ConnectProxyOptions {
        /// Whether the hook is enabled. It does not run for a client with a token.
        enabled: bool = "false", (), reload;
        /// URL of the hook: `http://`, `https://`, or `grpc://HOST:PORT` for an application that implements the service
        /// `centrifugal.centrifugo.proxy.CentrifugoProxy`.
        endpoint: Option<HookUrl> = "", HOOK, reload;
        /// Longest time for a response, including the time to connect. After it the client gets the temporary error
        /// 100.
        timeout: Duration = "1s", millis(10, MINUTE), reload;
        /// Headers of the client's HTTP request that are passed on. A client of the line port has none.
        http_headers: Vec<HeaderName> = "", (), reload;
        /// Headers in the client's `connect` command that are passed on where its HTTP request has none of that name,
        /// because browsers cannot set headers of WebSockets. A client can send any values: list only headers that the
        /// application verifies, such as `Authorization`, and none that a gateway sets.
        emulated_headers: Vec<HeaderName> = "", (), reload;
        /// Whether the client's data is sent in base64, as `b64data`. Otherwise valid JSON is sent as it is, in `data`.
        binary_encoding: bool = "false", (), reload;
    }
    groups {
        /// HTTP options of the requests.
        http: ProxyHttpOptions;
        /// Options of requests over gRPC.
        grpc: ProxyGrpcOptions;
    }
}

group! {
    /// The refresh hook: runs when a connection expires, in place of a new token of the client, and renews or ends it. While
    /// the hook fails, a connection is renewed for a minute at a time.
    pub struct RefreshProxyOptions {
        /// Whether the hook is enabled. Clients are then not requested to send new tokens.
        enabled: bool = "false", (), reload;
        /// URL of the hook: `http://`, `https://`, or `grpc://HOST:PORT` for an application that implements the service
        /// `centrifugal.centrifugo.proxy.CentrifugoProxy`.
        endpoint: Option<HookUrl> = "", HOOK, reload;
        /// Longest time for a response, including the time to connect.
        timeout: Duration = "1s", millis(10, MINUTE), reload;
        /// Headers of the client's HTTP request that are passed on. A client of the line port has none.
        http_headers: Vec<HeaderName> = "", (), reload;
        /// Whether the request contains the `meta` of the connection, which the application or the token has set.
        include_connection_meta: bool = "false", (), reload;
        /// Whether `encoding` in the request is `binary`, as for other hooks. The request has no data.
        binary_encoding: bool = "false", (), reload;
    }
    groups {
        /// HTTP options of the requests.
        http: ProxyHttpOptions;
        /// Options of requests over gRPC.
        grpc: ProxyGrpcOptions;
    }
}

group! {
    /// Hooks for channels, in namespaces with `subscribe_proxy_enabled`, `publish_proxy_enabled`, `sub_refresh_proxy_enabled`,
    /// `subscribe_stream_proxy_enabled` or `subscription_type = "shared_poll"`: requests to the application, each an HTTP POST with
    /// JSON and a response in JSON.
    pub struct ChannelProxies {
        /// Most streams of subscriptions on one node. Further subscriptions get the temporary error 111.
        subscribe_stream_limit: usize = "10000", count(1, 1_000_000), reload;
    }
    groups {
        /// The subscribe hook.
        subscribe: ProxyOptions;
        /// The publish hook.
        publish: ProxyOptions;
        /// The hook that renews subscriptions which expire. While it fails, they are renewed for a minute at a time.
        sub_refresh: ProxyOptions;
        /// The hook that opens a stream of publications for each subscription, over gRPC alone. `timeout` is the time until the
        /// first message of the stream, which decides about the subscription.
        subscribe_stream: ProxyOptions;
        /// The hook that has the values of shared polls. Its requests are not about one client: headers of clients and
        /// `meta` are not passed on.
        shared_poll_refresh: ProxyOptions;
    }
}

group! {
    /// A hook: one kind of request to the application.
    pub struct ProxyOptions {
        /// URL of the hook: `http://`, `https://`, or `grpc://HOST:PORT` for an application that implements the service
        /// `centrifugal.centrifugo.proxy.CentrifugoProxy`.
        endpoint: Option<HookUrl> = "", HOOK, reload;
        /// Longest time for a response, including the time to connect. After it the client gets the temporary error
        /// 100.
        timeout: Duration = "1s", millis(10, MINUTE), reload;
        /// Headers of the client's HTTP request that are passed on. A client of the line port has none.
        http_headers: Vec<HeaderName> = "", (), reload;
        /// Whether the request contains the `meta` of the connection, which the application or the token has set.
        include_connection_meta: bool = "false", (), reload;
        /// Whether the client's data is sent in base64, as `b64data`. Otherwise valid JSON is sent as it is, in `data`.
        binary_encoding: bool = "false", (), reload;
    }
    groups {
        /// HTTP options of the requests.
        http: ProxyHttpOptions;
        /// Options of requests over gRPC.
        grpc: ProxyGrpcOptions;
    }
}

group! {
    /// HTTP options of the requests to the application.
    pub struct ProxyHttpOptions {
        /// Headers of every request, such as a key that authenticates this server to the application. A passed-on
        /// header of the client with the same name takes precedence. Over gRPC they are metadata.
        static_headers: StaticHeaders = "", (), reload;
        /// What a client gets for statuses other than 200, instead of the temporary error 100: a list of tables with
        /// `status_code`, and `to_error` (`code` from 400 to 1999, `message`, `temporary`) or `to_disconnect` (`code` from 3000 to
        /// 4999, `reason`).
        status_to_code_transforms: StatusTransforms = "", (), reload;
    }
}

group! {
    /// Options of requests to the application over gRPC.
    pub struct ProxyGrpcOptions {
        /// Whether messages of requests are compressed with gzip. Compressed responses are accepted in any case.
        compression: bool = "false", (), reload;
    }
    groups {
        /// TLS of the connection.
        tls: ProxyTlsOptions;
    }
}

group! {
    /// TLS of connections to the application.
    pub struct ProxyTlsOptions {
        /// Whether the connection uses TLS.
        enabled: bool = "false", ();
        /// File with certificates of authorities, in PEM, that verify the application's certificate. Without it, the
        /// authorities of this machine.
        server_ca_pem_file: Option<PathBuf> = "", ();
        /// The same without a file: PEM, or its base64, or a path.
        server_ca_pem: PemText = "", ();
    }
}

group! {
    /// `rpc` commands.
    pub struct RpcOptions {
        /// Text between the namespace of a method and the rest of its name. It has no meaning without `rpc.namespaces`.
        namespace_boundary: String = ":", MaxLength(16), reload;
    }
    groups {
        /// A method that the server answers itself.
        ping: RpcPingOptions;
        /// The hook that answers `rpc` commands.
        proxy: ProxyOptions;
        /// Options of the methods without a namespace.
        without_namespace: RpcMethodOptions;
        /// Namespaces of methods.
        namespaces: RpcNamespaces;
    }
}

group! {
    /// A method that the server answers itself with an empty result, so that a client can measure the time of a round trip.
    pub struct RpcPingOptions {
        /// Whether the server answers it. No hook runs for it then.
        enabled: bool = "false", (), reload;
        /// Name of the method.
        method: String = "ping", MaxLength(255), reload;
    }
}

group! {
    /// Options of the methods of `rpc` commands without a namespace.
    pub struct RpcMethodOptions {
        /// Whether the hook at `rpc.proxy.endpoint` is enabled. Otherwise the reply is error 108.
        proxy_enabled: bool = "true", (), reload;
        /// Name of the hook in `proxies`, or `default` for `rpc.proxy`.
        proxy_name: String = "default", MaxLength(64), reload;
    }
}

/// An example of a hook's URL, for error messages.
const HOOK: &str = "http://localhost:3000/tidings/connect";

/// An HTTP URL: `http` or `https`, a host, and no user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl(Uri);

impl HttpUrl {
    /// The URL.
    pub fn uri(&self) -> &Uri {
        &self.0
    }
}

/// The URL of a hook: that of an HTTP request, or the address of a gRPC server (`grpc://HOST:PORT`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookUrl(Uri);

impl HookUrl {
    /// The URL.
    pub fn uri(&self) -> &Uri {
        &self.0
    }

    /// Whether requests are those of gRPC.
    pub fn is_grpc(&self) -> bool {
        self.0.scheme_str() == Some("grpc")
    }
}

/// Reads a URL with one of these schemes; empty text is none. `example` is for error messages.
fn read_url(raw: &Raw, schemes: &[&str], example: &str) -> Result<Option<Uri>, String> {
    let text = raw.as_text().ok_or_else(|| expected("a URL", raw))?;
    if text.is_empty() {
        return Ok(None);
    }
    // The value is not repeated: it may contain a password.
    let wrong = |what: &str| Err(format!("expected a URL such as {example}, got {what}"));
    if text.len() > MAX_URL {
        return wrong("one of more than 2048 bytes");
    }
    if text.contains("{{") {
        return wrong("a template, and templates are not supported");
    }
    let Ok(uri) = text.parse::<Uri>() else { return wrong("text that is not a URL") };
    match uri.scheme_str() {
        Some(scheme) if schemes.contains(&scheme) => {}
        Some(_) => return wrong(&format!("one with another scheme than {}", schemes.join(" and "))),
        None => return wrong("text without a scheme"),
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return wrong("one with a user, which is not supported");
    }
    if uri.host().is_none_or(str::is_empty) {
        return wrong("one without a host");
    }
    Ok(Some(uri))
}

/// Empty text is no URL. The rule is an example, for error messages.
impl Setting for Option<HookUrl> {
    type Rule = &'static str;

    fn read(raw: &Raw, example: &&'static str) -> Result<Self, String> {
        let url = read_url(raw, &["http", "https", "grpc"], example)?.map(HookUrl);
        match url {
            Some(url) if url.is_grpc() && (url.0.port().is_none() || url.0.path() != "/") => {
                Err("expected the address of a gRPC server such as grpc://localhost:12000, without a path"
                    .into())
            }
            url => Ok(url),
        }
    }

    fn kind(_: &&'static str) -> String {
        "URL (`http://`, `https://`, `grpc://`), or empty".into()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(&self.as_ref().map(|url| url.0.to_string()).unwrap_or_default()))
    }
}

/// Empty text is no URL. The rule is an example, for error messages.
impl Setting for Option<HttpUrl> {
    type Rule = &'static str;

    fn read(raw: &Raw, example: &&'static str) -> Result<Self, String> {
        Ok(read_url(raw, &["http", "https"], example)?.map(HttpUrl))
    }

    fn kind(_: &&'static str) -> String {
        "URL (`http://`, `https://`), or empty".into()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(&self.as_ref().map(|url| url.0.to_string()).unwrap_or_default()))
    }
}

/// Empty text is no address. The rule is an example, for error messages.
impl Setting for Option<JwksUrl> {
    type Rule = &'static str;

    fn read(raw: &Raw, example: &&'static str) -> Result<Self, String> {
        let text = raw.as_text().ok_or_else(|| expected("a URL", raw))?;
        let wrong = |what: &str| format!("expected a URL such as {example}, got {what}");
        let url = JwksUrl::new(text).map_err(wrong)?;
        let is_url = Option::<HttpUrl>::read(&Raw::Text(url.example()), example)?.is_some();
        Ok(is_url.then_some(url))
    }

    fn kind(_: &&'static str) -> String {
        "URL (`http://`, `https://`), which may have variables (`{{realm}}`), or empty".into()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(self.as_ref().map_or("", JwksUrl::as_str)))
    }
}

/// The name of a header that may be passed on; case-insensitive.
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

/// Empty text is no header.
impl Setting for Option<HeaderName> {
    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        let text = raw.as_text().ok_or_else(|| expected("a header's name", raw))?;
        if text.is_empty() { Ok(None) } else { header_name(text).map(Some) }
    }

    fn kind((): &()) -> String {
        "header name, or empty".into()
    }

    fn toml(&self) -> Option<String> {
        Some(quoted(self.as_ref().map_or("", HeaderName::as_str)))
    }
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::try_from(text)
        .map_err(|_| format!("expected a header's name such as Cookie, got \"{}\"", shown(text)))?;
    if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("grpc-") {
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

/// A table in a file, or JSON text anywhere; empty text is no header.
impl Setting for StaticHeaders {
    const IS_SECRET: bool = true;

    type Rule = ();

    fn read(raw: &Raw, (): &()) -> Result<Self, String> {
        // The value is not repeated: it may be a key.
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
                format!("the value of the header {name} contains a byte that is not allowed in headers")
            })?;
            value.set_sensitive(true);
            if headers.iter().any(|(known, _)| *known == name) {
                return Err(format!("the header {name} is given twice"));
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
    fn an_endpoint_is_a_url_without_a_user() {
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
    fn the_endpoint_of_a_hook_may_be_a_grpc_server_with_a_port_and_without_a_path() {
        for (text, is_grpc) in [("grpc://localhost:12000", true), ("http://localhost/connect", false)] {
            let url = Option::<HookUrl>::read(&word(text), &HOOK).expect(text).expect(text);
            assert_eq!(url.is_grpc(), is_grpc);
        }
        for bad in ["grpc://localhost", "grpc://localhost:1/connect", "grpc://u@a:1", "ws://a:1", "a:1"] {
            assert!(Option::<HookUrl>::read(&word(bad), &HOOK).is_err(), "{bad}");
        }
    }

    #[test]
    fn headers_of_a_connection_cannot_be_passed_on() {
        assert_eq!(
            HeaderName::read(&word("X-Real-Ip"), &()).as_ref().map(HeaderName::as_str),
            Ok("x-real-ip")
        );
        for bad in ["Host", "content-LENGTH", "Transfer-Encoding", "Grpc-Timeout", "", "a b", "a:"] {
            assert!(HeaderName::read(&word(bad), &()).is_err(), "{bad}");
        }
    }

    #[test]
    fn static_headers_are_a_table_or_its_json_and_are_not_printed() {
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
