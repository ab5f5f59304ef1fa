//! Calls of a gRPC server: with one message in both directions, and streams of messages ([`streams`]).

mod call_body;
pub(crate) mod streams;

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, TE, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioTimer;
use rustls::ClientConfig;
use tidings_grpc::{Code, MessageEncoding, RequestBody, Status, compression, frame, timeout};

use self::call_body::{CallBody, PipeExecutor};
use super::{OutboundError, classify};

/// The interval of pings on a connection with calls under way, and the longest time until one is answered: a connection whose peer
/// has vanished would otherwise delay every call until the kernel closes it.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of the headers of a response, and of its trailers.
const MAX_HEADERS: u32 = 16 << 10;

/// A client of one gRPC server. All calls share a connection of HTTP/2, which is established by the first one. Cheap to clone.
#[derive(Clone)]
pub struct GrpcOutbound {
    client: Client<HttpsConnector<HttpConnector>, CallBody>,
    /// `http` or `https`, and the authority.
    server: Uri,
    /// The compression of requests.
    encoding: MessageEncoding,
}

impl GrpcOutbound {
    /// A client of the server at `address`, of which the scheme and the path are ignored; with TLS if a configuration is given. An
    /// idle connection is kept for `idle`.
    pub fn new(address: &Uri, tls: Option<ClientConfig>, idle: Duration) -> Self {
        Self::with_windows(address, tls, idle, None)
    }

    /// As [`Self::new`], with these windows of flow control: the bytes that a stream, and that the connection, may receive before
    /// they are read.
    fn with_windows(
        address: &Uri,
        tls: Option<ClientConfig>,
        idle: Duration,
        windows: Option<(u32, u32)>,
    ) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let authority = address.authority().map_or("", |authority| authority.as_str());
        let server = Uri::builder().scheme(scheme).authority(authority).path_and_query("/").build();
        let tls = tls.unwrap_or_else(|| super::tls(false, "").expect("the defaults of rustls"));
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http2();
        let mut client = Client::builder(PipeExecutor);
        if let Some((stream, connection)) = windows {
            client.http2_initial_stream_window_size(stream).http2_initial_connection_window_size(connection);
        }
        let client = client
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(idle)
            .http2_only(true)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .http2_max_header_list_size(MAX_HEADERS)
            .build(connector.wrap_connector(tcp));
        Self { client, server: server.unwrap_or_default(), encoding: MessageEncoding::Identity }
    }

    /// Compresses messages of requests with gzip. Compressed responses are accepted in any case.
    #[must_use]
    pub fn compressed(mut self, is_compressed: bool) -> Self {
        if is_compressed {
            self.encoding = MessageEncoding::Gzip;
        }
        self
    }

    /// Calls the method at `path` (`/SERVICE/METHOD`) with a message. The headers of `request` are metadata. Returns the
    /// message of the response.
    ///
    /// # Errors
    /// [`OutboundError`] for a status other than OK, for a message of more than `most` bytes, and after `within` at the latest.
    pub async fn call(
        &self,
        path: &str,
        mut request: Request<()>,
        message: &[u8],
        within: Duration,
        most: usize,
    ) -> Result<Bytes, OutboundError> {
        self.prepare(path, &mut request);
        let headers = request.headers_mut();
        timeout::write(within, headers);
        let request =
            request.map(|()| CallBody::new(RequestBody::unary(frame::framed(message, self.encoding).into())));
        let exchange = self.exchange(request, most);
        tokio::time::timeout(within, exchange).await.unwrap_or(Err(OutboundError::TimedOut(within)))
    }

    /// Sets the method, the address and the headers of a call.
    fn prepare(&self, path: &str, request: &mut Request<()>) {
        let mut parts = self.server.clone().into_parts();
        parts.path_and_query = Some(path.parse().expect("the path of a method"));
        *request.uri_mut() = Uri::from_parts(parts).expect("a server and a path");
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(tidings_grpc::CONTENT_TYPE));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        self.encoding.write(headers);
        compression::write_accepted(headers);
        let agent = HeaderValue::from_static(concat!("tidings/", env!("CARGO_PKG_VERSION")));
        headers.entry(USER_AGENT).or_insert(agent);
    }

    async fn exchange(&self, request: Request<CallBody>, most: usize) -> Result<Bytes, OutboundError> {
        let answer = self.client.request(request).await.map_err(|error| classify(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(OutboundError::Status(answer.status()));
        }
        // A response without a message has its status in the headers.
        if let Some(status) = Status::read(answer.headers()).filter(|status| status.code != Code::Ok) {
            return Err(OutboundError::Grpc(status));
        }
        let encoding = MessageEncoding::read(answer.headers()).map_err(OutboundError::Grpc)?;
        let collected = match Limited::new(answer.into_body(), frame::PREFIX + most).collect().await {
            Ok(collected) => collected,
            Err(error) if error.is::<LengthLimitError>() => return Err(OutboundError::TooLong(most)),
            Err(error) => return Err(OutboundError::Body(error.to_string())),
        };
        let status = collected.trailers().and_then(Status::read);
        match status.unwrap_or_else(|| Status::new(Code::Internal, "the response has no status")) {
            Status { code: Code::Ok, .. } => {
                frame::single(collected.to_bytes(), encoding, most).map_err(OutboundError::Grpc)
            }
            status => Err(OutboundError::Grpc(status)),
        }
    }
}
