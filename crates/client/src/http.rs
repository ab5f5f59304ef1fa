//! HTTP requests to a server: complete responses over a persistent connection, and streamed responses.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
pub use hyper::Method;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{AGENT, Error, Web, stream};

/// The timeout until a response begins, and until a complete response has arrived.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest head of a response, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// The largest body of a complete response, in bytes.
const MAX_BODY: usize = 16 << 20;
/// The most bytes of an error response that are read for its message.
const MAX_WORDS: usize = 4096;

/// A request without its address.
#[derive(Clone, Debug)]
pub struct HttpRequest<'a> {
    /// `GET`, `POST`, ….
    pub method: Method,
    /// Path and query, without the prefix of the server's address.
    pub path: &'a str,
    /// Headers besides `Host` and `User-Agent`.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: Bytes,
}

impl<'a> HttpRequest<'a> {
    /// A `GET` without further headers.
    pub fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, headers: &[], body: Bytes::new() }
    }
}

/// A complete response.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl HttpResponse {
    /// The value of a header, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The first line of a body in plain text or JSON; empty for other types.
    pub fn text(&self) -> String {
        let html = self.header("content-type").is_some_and(|kind| kind.contains("html"));
        if html {
            return String::new();
        }
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(1024)]).into_owned();
        text.lines().next().unwrap_or_default().to_owned()
    }
}

/// A client of one HTTP port. Keeps one connection open.
pub struct HttpClient {
    web: Web,
    /// The Unix socket to connect to instead of the host and port.
    socket: Option<PathBuf>,
    connection: Option<DrivenConnection>,
}

/// A connection and its task, which ends with it.
struct DrivenConnection {
    sender: SendRequest<Full<Bytes>>,
    _driver: JoinSet<hyper::Result<()>>,
}

impl HttpClient {
    /// A client that connects with the first request.
    pub fn new(web: Web) -> Self {
        Self { web, socket: None, connection: None }
    }

    /// As [`Self::new`], for an HTTP port that is a Unix socket. Requests are for the host `localhost`.
    pub fn over_unix_socket(path: PathBuf) -> Self {
        let web = Web {
            secure: false,
            websocket: false,
            host: "localhost".to_owned(),
            port: 80,
            base: String::new(),
        };
        Self { web, socket: Some(path), connection: None }
    }

    /// The address.
    pub fn web(&self) -> &Web {
        &self.web
    }

    /// Sends a request and returns the complete response, whatever its status.
    ///
    /// # Errors
    /// [`Error::Unreachable`] and [`Error::Untrusted`] when the request was not sent; [`Error::Lost`] and
    /// [`Error::Timeout`] when it may or may not have been executed; [`Error::Protocol`] for a response longer than 16
    /// MiB.
    pub async fn call(&mut self, call: HttpRequest<'_>) -> Result<HttpResponse, Error> {
        let kept = match self.connection.take() {
            Some(mut connection) => connection.sender.ready().await.is_ok().then_some(connection),
            None => None,
        };
        let mut connection = match kept {
            Some(connection) => connection,
            None => connect(&self.web, self.socket.as_deref()).await?,
        };
        let request = request(&self.web, call)?;
        let answered = timeout(ANSWER_TIMEOUT, async {
            let (head, body) =
                connection.sender.send_request(request).await.map_err(|e| lost(&e))?.into_parts();
            let body = match Limited::new(body, MAX_BODY).collect().await {
                Ok(body) => body.to_bytes(),
                Err(e) if e.is::<LengthLimitError>() => {
                    let why = format!("an answer longer than {MAX_BODY} bytes");
                    return Err(Error::Protocol { what: "the API", why });
                }
                Err(e) => return Err(Error::Lost(e.to_string())),
            };
            Ok(HttpResponse { status: head.status.as_u16(), headers: head.headers, body })
        });
        let reply = answered.await.unwrap_or(Err(Error::Timeout(ANSWER_TIMEOUT.as_secs())))?;
        self.connection = Some(connection);
        Ok(reply)
    }
}

/// A streamed response.
pub struct Stream {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    body: Incoming,
    _connection: DrivenConnection,
}

impl Stream {
    /// Sends a request over a new connection.
    ///
    /// # Errors
    /// As [`HttpClient::call`].
    pub async fn open(web: &Web, call: HttpRequest<'_>) -> Result<Self, Error> {
        let mut connection = connect(web, None).await?;
        let request = request(web, call)?;
        let answer = timeout(ANSWER_TIMEOUT, connection.sender.send_request(request)).await;
        let answer: Response<Incoming> =
            answer.map_err(|_| Error::Timeout(ANSWER_TIMEOUT.as_secs()))?.map_err(|e| lost(&e))?;
        let (head, body) = answer.into_parts();
        Ok(Self { status: head.status.as_u16(), headers: head.headers, body, _connection: connection })
    }

    /// The first line of an error response, if it is plain text or JSON.
    pub async fn text(&mut self) -> String {
        let mut body = Vec::new();
        let rest = async {
            while let Ok(Some(bytes)) = self.next().await
                && body.len() < MAX_WORDS
            {
                body.extend_from_slice(&bytes);
            }
        };
        // The text may be incomplete after the timeout.
        let _ = timeout(Duration::from_secs(1), rest).await;
        HttpResponse { status: self.status, headers: self.headers.clone(), body: body.into() }.text()
    }

    /// The next part of the body; `None` at its end. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Lost`] when the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(e)) => return Err(lost(&e)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

async fn connect(web: &Web, socket: Option<&Path>) -> Result<DrivenConnection, Error> {
    let stream = match socket {
        Some(path) => stream::open_unix(path).await?,
        None => stream::open_duplex(web).await?,
    };
    let (sender, connection) = http1::Builder::new()
        .max_header_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|e| lost(&e))?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    Ok(DrivenConnection { sender, _driver: driver })
}

fn request(web: &Web, call: HttpRequest<'_>) -> Result<Request<Full<Bytes>>, Error> {
    let wrong = |why: String| Error::Refused { what: "a request".to_owned(), text: why, temporary: false };
    let mut request = Request::new(Full::new(call.body));
    *request.method_mut() = call.method;
    *request.uri_mut() =
        web.path(call.path).parse().map_err(|_| wrong(format!("{} is no path", call.path)))?;
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(&web.authority()).map_err(|e| wrong(e.to_string()))?);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    for (name, value) in call.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|e| wrong(e.to_string()))?;
        let value =
            HeaderValue::from_str(value).map_err(|_| wrong(format!("{name} cannot have that value")))?;
        headers.insert(name, value);
    }
    Ok(request)
}

fn lost(error: &hyper::Error) -> Error {
    if error.is_parse() {
        return Error::Protocol { what: "HTTP", why: error.to_string() };
    }
    Error::Lost(error.to_string())
}
