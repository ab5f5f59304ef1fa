//! One hook: its endpoint, the headers that it passes on, and the handling of failures.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Full;
use serde::Serialize;
use tidings_hub::{Failure, Rejection, Requester};
use tidings_wire::code;
use tokio::sync::Semaphore;
use tracing::warn;

use super::request::RequestEncoding;
use super::response::HookOutcome;
use super::{HookCounters, HookKind, grpc};
use tidings_config::{
    HookUrl, ProxyGrpcOptions, StaticHeaders, StatusTransforms, TransformTarget, TransformedDisconnect,
    TransformedError,
};
use tidings_metrics::Label as _;
use tidings_otel::{SpanKind, TraceContext};
use tidings_outbound::{GrpcOutbound, GrpcStreams, Outbound, OutboundError, TlsError, write_address};

/// Most requests of one hook under way.
pub(super) const MAX_CALLS: usize = 256;
/// Longest response, in bytes.
pub(super) const MAX_RESPONSE: usize = 1 << 20;
/// Longest response with values of a shared poll, in bytes.
const MAX_VALUES: usize = 4 << 20;
/// How long an idle connection stays open. Shorter than the idle timeout of common servers (2 s and more), because a
/// request fails if the server closes its connection at the same time. It may have been processed, so it is not repeated.
const IDLE_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long an idle connection of gRPC stays open: HTTP/2 states which requests were not processed when it is closed.
const GRPC_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Shortest time between two log lines of one hook.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The options of a hook.
pub(super) struct HookOptions<'a> {
    pub(super) endpoint: &'a HookUrl,
    /// The options of an endpoint of gRPC.
    pub(super) grpc: &'a ProxyGrpcOptions,
    /// The name of the option with the endpoint, for messages.
    pub(super) option: &'a str,
    pub(super) timeout: Duration,
    pub(super) http_headers: &'a [HeaderName],
    pub(super) emulated_headers: &'a [HeaderName],
    pub(super) static_headers: &'a StaticHeaders,
    pub(super) transforms: &'a StatusTransforms,
    pub(super) include_meta: bool,
    pub(super) binary: bool,
}

/// How requests are sent.
pub(super) enum Transport {
    /// Each is a POST with JSON.
    Http(Outbound),
    /// Each is a call.
    Grpc(GrpcOutbound),
    /// Each opens a stream.
    Streams(GrpcStreams),
}

/// A hook.
pub(super) struct Hook {
    pub(super) kind: HookKind,
    uri: Uri,
    pub(super) transport: Transport,
    pub(super) timeout: Duration,
    http_headers: Vec<HeaderName>,
    emulated_headers: Vec<HeaderName>,
    /// The headers of every request.
    headers: HeaderMap,
    /// What clients get for responses with these statuses.
    transforms: StatusTransforms,
    encoding: RequestEncoding,
    permits: Semaphore,
    pub(super) counters: Arc<HookCounters>,
    /// When the last failure was logged, and the number of failures since then.
    logged: Mutex<(Option<Instant>, u64)>,
}

impl Hook {
    /// Sets up a hook without sending anything.
    ///
    /// # Errors
    /// [`TlsError`] for an `https` endpoint, or one of gRPC with TLS, when TLS cannot be set up.
    pub(super) fn new(
        kind: HookKind,
        options: &HookOptions<'_>,
        counters: &Arc<HookCounters>,
    ) -> Result<Self, TlsError> {
        let uri = options.endpoint.uri().clone();
        let mut headers: HeaderMap = options.static_headers.iter().cloned().collect();
        let transport = if options.endpoint.is_grpc() {
            let tls = grpc::tls(&options.grpc.tls, options.option)?;
            if kind == HookKind::SubscribeStream {
                let streams = GrpcStreams::new(&uri, tls, GRPC_IDLE_TIMEOUT);
                Transport::Streams(streams.compressed(options.grpc.compression))
            } else {
                let calls = GrpcOutbound::new(&uri, tls, GRPC_IDLE_TIMEOUT);
                Transport::Grpc(calls.compressed(options.grpc.compression))
            }
        } else {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
            Transport::Http(Outbound::new(&uri, options.option, IDLE_TIMEOUT)?)
        };
        Ok(Self {
            kind,
            transport,
            uri,
            timeout: options.timeout,
            http_headers: options.http_headers.to_vec(),
            emulated_headers: options.emulated_headers.to_vec(),
            headers,
            transforms: options.transforms.clone(),
            encoding: RequestEncoding { binary: options.binary, include_meta: options.include_meta },
            permits: Semaphore::new(MAX_CALLS),
            counters: Arc::clone(counters),
            logged: Mutex::default(),
        })
    }

    /// The encoding of its requests.
    pub(super) fn encoding(&self) -> RequestEncoding {
        self.encoding
    }

    /// Sends a request about the client `requester`, with its emulated headers, and reads the response with `read`.
    ///
    /// # Errors
    /// The error or disconnect of the application; 111 if too many requests are under way; 100 without a valid response.
    pub(super) async fn call<T>(
        &self,
        requester: &Requester,
        emulated: &[(String, String)],
        body: &impl HookBody,
        read: fn(&[u8]) -> HookOutcome<T>,
    ) -> Result<T, Failure> {
        let Ok(_permit) = self.permits.try_acquire() else {
            self.counters.refused.add(self.kind);
            self.log_failure(&format!("{MAX_CALLS} requests are under way, so that no other was sent"));
            return Err(Rejection::from(code::TOO_MANY_REQUESTS).into());
        };
        self.counters.calls.add(self.kind);
        let timer = self.counters.durations.start(self.kind);
        let mut span = tidings_otel::child(self.kind.span(), SpanKind::Client);
        if span.is_recorded() {
            span.set("http.request.method", "POST");
            span.set("url.full", self.to_string());
        }
        let outcome = self.exchange(requester, emulated, body, span.context(), read).await;
        drop(timer);
        match outcome {
            Ok(outcome) => outcome,
            Err(reason) => {
                span.fail(&reason);
                self.counters.failures.add(self.kind);
                self.log_failure(&reason);
                Err(Rejection::from(code::INTERNAL).into())
            }
        }
    }

    async fn exchange<T>(
        &self,
        requester: &Requester,
        emulated: &[(String, String)],
        body: &impl HookBody,
        context: Option<TraceContext>,
        read: fn(&[u8]) -> HookOutcome<T>,
    ) -> HookOutcome<T> {
        let mut request = Request::new(());
        *request.headers_mut() = self.headers(requester, emulated);
        if let Some(context) = context {
            context.set_header(request.headers_mut());
        }
        let limit = if self.kind == HookKind::SharedPollRefresh { MAX_VALUES } else { MAX_RESPONSE };
        let sent = match &self.transport {
            Transport::Http(outbound) => {
                let json = serde_json::to_vec(body);
                let json = json.map_err(|error| format!("the request cannot be encoded: {error}"))?;
                *request.method_mut() = Method::POST;
                *request.uri_mut() = self.uri.clone();
                outbound.send(request.map(|()| Full::from(Bytes::from(json))), self.timeout, limit).await
            }
            Transport::Grpc(outbound) => {
                let message = body.message(self.kind);
                outbound.call(grpc::path(self.kind), request, &message, self.timeout, limit).await
            }
            Transport::Streams(_) => return Err("a stream is opened, and not called".to_owned()),
        };
        let response = match (sent, &self.transport) {
            (Ok(response), Transport::Http(_)) => response,
            (Ok(message), _) => {
                grpc::to_json(self.kind, message).map_err(|reason| format!("the response {reason}"))?.into()
            }
            (Err(error), transport) => {
                let status = match (&error, transport) {
                    (OutboundError::Status(status) | OutboundError::Redirect(status), Transport::Http(_)) => {
                        Some(*status)
                    }
                    _ => None,
                };
                let failure = status.and_then(|status| self.transformed(status));
                return failure.map(Err).ok_or_else(|| error.to_string());
            }
        };
        read(&response).map_err(|reason| format!("the response {reason}"))
    }

    /// What the client gets for a response with this status, if the configuration states it.
    fn transformed(&self, status: StatusCode) -> Option<Failure> {
        let transform = self.transforms.iter().find(|transform| transform.status_code == status.as_u16())?;
        Some(match transform.target() {
            TransformTarget::Error(TransformedError { code, message, temporary }) => {
                Failure::Error(Rejection { code: *code, text: message.clone(), temporary: *temporary })
            }
            TransformTarget::Disconnect(TransformedDisconnect { code, reason }) => {
                Failure::Disconnect(*code, reason.clone())
            }
        })
    }

    /// The headers of a request: static ones, replaced by emulated ones, replaced by those of the HTTP request, as far as
    /// the configuration lists them. A value that is invalid in a header is omitted.
    pub(super) fn headers(&self, requester: &Requester, emulated: &[(String, String)]) -> HeaderMap {
        let mut headers = self.headers.clone();
        let sent = requester.connection_info.as_ref().map_or(&[][..], |about| &about.headers);
        for (name, from) in [(&self.emulated_headers, emulated), (&self.http_headers, sent)] {
            for name in name {
                let values = from.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name.as_str()));
                let mut values = values.filter_map(|(_, value)| HeaderValue::from_str(value).ok());
                if let Some(first) = values.next() {
                    headers.insert(name, first);
                    headers.extend(values.map(|value| (name.clone(), value)));
                }
            }
        }
        headers
    }

    /// Logs a failure, at most once in [`LOG_INTERVAL`], because a hook that fails usually fails for every client.
    pub(super) fn log_failure(&self, error: &str) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, unlogged) = &mut *logged;
        if last.is_some_and(|at| at.elapsed() < LOG_INTERVAL) {
            *unlogged += 1;
            return;
        }
        *last = Some(Instant::now());
        let more = std::mem::take(unlogged);
        drop(logged);
        warn!(hook = self.kind.label(), address = %self, error, more, "a request to the application failed, or was not sent");
    }
}

/// A request in its two encodings.
pub(super) trait HookBody: Serialize {
    /// The message over gRPC, for a hook of this kind.
    fn message(&self, kind: HookKind) -> Vec<u8>;
}

/// The URL without its query, which may contain a secret.
impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_address(&self.uri, f)
    }
}

#[cfg(test)]
mod tests {
    use tidings_hub::ConnectionInfo;

    use super::*;
    use tidings_config::{Overrides, load};

    /// The headers of a request by a hook with these options of `client.proxy.connect`.
    fn headers(options: &[&str], sent: &[(&str, &str)], emulated: &[(&str, &str)]) -> HeaderMap {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let mut overrides = Overrides::default();
        for option in options.iter().chain(&["endpoint=http://localhost/"]) {
            overrides.set(&format!("client.proxy.connect.{option}")).expect("KEY=VALUE");
        }
        let connect = load(None, [], &overrides).expect("a configuration").client.proxy.connect;
        let options = HookOptions {
            endpoint: connect.endpoint.as_ref().expect("an address"),
            grpc: &connect.grpc,
            option: "client.proxy.connect.endpoint",
            timeout: connect.timeout,
            http_headers: &connect.http_headers,
            emulated_headers: &connect.emulated_headers,
            static_headers: &connect.http.static_headers,
            transforms: &connect.http.status_to_code_transforms,
            include_meta: false,
            binary: false,
        };
        let hook = Hook::new(HookKind::Connect, &options, &Arc::default()).expect("a hook");
        let about = ConnectionInfo { transport: "websocket", headers: pairs(sent), user: None };
        let requester = Requester { connection_info: Some(Arc::new(about)), ..Requester::default() };
        let emulated: Vec<_> = pairs(emulated);
        hook.headers(&requester, &emulated)
    }

    #[tokio::test]
    async fn headers_of_the_request_replace_emulated_ones_and_those_replace_static_ones() {
        let all = [
            "http_headers=Cookie,Authorization",
            "emulated_headers=Authorization,X-Static",
            r#"http.static_headers={"X-Static":"s","Authorization":"server"}"#,
        ];
        let sent = [("cookie", "a=1"), ("cookie", "b=2"), ("authorization", "sent"), ("x-other", "o")];
        let passed = headers(&all, &sent, &[("Authorization", "emulated"), ("cookie", "forged")]);
        let values = |name: &str| {
            passed.get_all(name).iter().map(|v| v.to_str().expect("text").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(values("cookie"), ["a=1", "b=2"]);
        assert_eq!(values("authorization"), ["sent"]);
        assert_eq!(values("x-static"), ["s"]);
        assert_eq!(values("content-type"), ["application/json"]);
        assert!(!passed.contains_key("x-other"));
        let passed = headers(&all, &[], &[("Authorization", "emulated")]);
        assert_eq!(passed.get("authorization").expect("one"), "emulated");
        let passed = headers(&all, &[], &[]);
        assert_eq!(passed.get("authorization").expect("one"), "server");
    }
}
