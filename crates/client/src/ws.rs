//! A WebSocket client. Frames are encoded by `tidings_wire::ws`.

use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use tidings_wire::ws::handshake::{self, Refused, Request};
use tidings_wire::ws::{self, CloseCode, Event, Kind, Opcode, Reader, Role, Rules};
use tokio::time::{Instant, timeout};

use crate::pipe::Pipe;
use crate::{AGENT, Error, Server, Web};

/// The timeout of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest accepted message, in bytes: far above useful message limits.
const MAX_MESSAGE: u64 = 64 << 20;
/// The most bytes of a rejected handshake's response that are read.
const MAX_REFUSAL: usize = 4096;

/// An open WebSocket.
pub struct WebSocket {
    pipe: Pipe,
    reader: Reader,
    message: Vec<u8>,
    random: SystemRandom,
}

/// The failure of a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeRejection {
    /// There is no HTTP response.
    Failed(Error),
    /// The server, or a proxy in front of it, sent another response.
    Answered {
        /// The HTTP status; 0 when the response does not belong to this request.
        status: u16,
        /// The `Server` header of the response, if any.
        server: Option<String>,
        /// The first line of the response's text, or the error in the response.
        text: String,
    },
}

impl From<Error> for HandshakeRejection {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl HandshakeRejection {
    /// Converts the rejection to an error of the client.
    pub fn into_error(self, address: &Web) -> Error {
        match self {
            Self::Failed(error) => error,
            Self::Answered { status: 0, text, .. } => Error::Protocol { what: "WebSocket", why: text },
            Self::Answered { status, text, .. } => {
                let temporary = matches!(status, 429 | 502..=504);
                let text = if text.is_empty() { format!("{status}") } else { format!("{status}, {text}") };
                Error::Refused { what: format!("a WebSocket at {address}"), text, temporary }
            }
        }
    }
}

impl WebSocket {
    /// Connects to `endpoint` of `web` (a path with its query, without the prefix), with the sub-protocols `protocols`
    /// and more `headers`.
    ///
    /// # Errors
    /// [`HandshakeRejection`].
    pub async fn open(
        web: &Web,
        endpoint: &str,
        protocols: &[&str],
        headers: &[(&str, &str)],
    ) -> Result<Self, HandshakeRejection> {
        let mut pipe = Pipe::open(&Server::Web(web.clone())).await?;
        let random = SystemRandom::new();
        let mut key = [0; 16];
        fill(&random, &mut key)?;
        let (host, target, key) = (web.authority(), web.path(endpoint), handshake::key(key));
        let headers = [&[("User-Agent", AGENT)], headers].concat();
        let request = Request { host: &host, target: &target, key: &key, protocols, headers: &headers };
        request.write(pipe.outbox());
        match timeout(HANDSHAKE_TIMEOUT, perform_handshake(&mut pipe, &request)).await {
            Ok(agreed) => agreed?,
            Err(_) => return Err(Error::Timeout(HANDSHAKE_TIMEOUT.as_secs()).into()),
        }
        Ok(Self { pipe, reader: Reader::default(), message: Vec::new(), random })
    }

    /// Appends one message to the output buffer. The caller bounds the size of the buffer.
    ///
    /// # Errors
    /// [`Error::Lost`] when the system has no random numbers.
    pub fn queue(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Error> {
        self.frame(if kind == Kind::Text { Opcode::Text } else { Opcode::Binary }, payload)
    }

    fn frame(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), Error> {
        // The mask must be unpredictable: a publisher chooses the payload, and proxies may misread it as HTTP (RFC 6455
        // §10.3).
        let mut mask = [0; 4];
        fill(&self.random, &mut mask)?;
        ws::masked_frame(opcode, payload, mask, self.pipe.outbox());
        Ok(())
    }

    /// The next complete message in the input buffer; does not wait. Pings are answered.
    ///
    /// # Errors
    /// [`Error::Closed`] when the server closed the connection with a reason, [`Error::Protocol`] when the input is not
    /// a WebSocket.
    pub fn take(&mut self) -> Result<Option<(Kind, Vec<u8>)>, Error> {
        let rules = Rules { role: Role::Client, max_message: MAX_MESSAGE };
        while !self.pipe.inbox().is_empty() {
            let read = self.reader.read(self.pipe.inbox(), &rules, &mut self.message);
            let (used, event) =
                read.map_err(|e| Error::Protocol { what: "WebSocket", why: e.to_string() })?;
            self.pipe.take(used);
            match event {
                Event::Partial | Event::Pong(_) => {}
                Event::Message(kind) => return Ok(Some((kind, std::mem::take(&mut self.message)))),
                Event::Ping(payload) => self.frame(Opcode::Pong, &payload)?,
                Event::Close(close) => {
                    let Some(code) = close.code() else {
                        return Err(Error::Lost("the server closed it".to_owned()));
                    };
                    // The peer chose the text; it is printed on one line.
                    return Err(Error::Closed { code: code.0, text: close.reason().to_owned() });
                }
            }
        }
        Ok(None)
    }

    /// Waits until input has arrived or output has been written. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Lost`] when the connection has ended.
    pub async fn exchange(&mut self) -> Result<(), Error> {
        self.pipe.exchange().await
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// As [`Self::take`] and [`Self::exchange`].
    pub async fn next(&mut self) -> Result<(Kind, Vec<u8>), Error> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            self.exchange().await?;
        }
    }

    /// Bytes that the kernel has not accepted yet.
    pub fn unsent(&self) -> usize {
        self.pipe.unsent()
    }

    /// The time of the last input.
    pub fn last_received(&self) -> Instant {
        self.pipe.last_received()
    }

    /// Sends a close frame and waits briefly until it is written.
    pub async fn close(mut self) {
        let code = CloseCode::NORMAL.0.to_be_bytes();
        if self.frame(Opcode::Close, &code).is_ok() {
            // The connection ends even if the flush fails.
            let _ = self.pipe.flush(Duration::from_secs(1)).await;
        }
    }
}

fn fill(random: &SystemRandom, bytes: &mut [u8]) -> Result<(), Error> {
    random.fill(bytes).map_err(|_| Error::Lost("the system has no random numbers".to_owned()))
}

/// Sends the request and reads the response. Leaves the inbox at the first frame.
async fn perform_handshake(pipe: &mut Pipe, request: &Request<'_>) -> Result<(), HandshakeRejection> {
    loop {
        match handshake::read_answer(pipe.inbox(), request) {
            Ok(Some(accepted)) => {
                let used = accepted.used;
                let agreed = accepted.protocol.is_some() || request.protocols.is_empty();
                pipe.take(used);
                if agreed {
                    return Ok(());
                }
                let text = format!("the server does not know {}", request.protocols.join(", "));
                return Err(HandshakeRejection::Answered { status: 0, server: None, text });
            }
            Ok(None) => {}
            Err(Refused::Status(status)) => return Err(refusal(pipe, status).await),
            Err(Refused::Invalid(what)) => {
                return Err(HandshakeRejection::Answered { status: 0, server: None, text: what.to_owned() });
            }
        }
        pipe.exchange().await?;
    }
}

/// Reads the response of a rejected handshake: its `Server` header, and the first line of its text if it is plain text
/// or JSON.
async fn refusal(pipe: &mut Pipe, status: u16) -> HandshakeRejection {
    let enough = |inbox: &[u8]| {
        let text = String::from_utf8_lossy(inbox);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return inbox.len() > MAX_REFUSAL };
        let length = header(head, "content-length").and_then(|length| length.parse().ok());
        body.len() >= length.unwrap_or(MAX_REFUSAL).min(MAX_REFUSAL)
    };
    let rest = async { while !enough(pipe.inbox()) && pipe.exchange().await.is_ok() {} };
    // The text may be incomplete after the timeout.
    let _ = timeout(Duration::from_secs(1), rest).await;
    let text = String::from_utf8_lossy(&pipe.inbox()[..pipe.inbox().len().min(MAX_REFUSAL)]).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let chunked = header(head, "transfer-encoding").is_some();
    // In a chunked body the first line is the length of a chunk.
    let body = if chunked { body.split_once("\r\n").map_or("", |(_, body)| body) } else { body };
    let html = header(head, "content-type").is_some_and(|kind| kind.contains("html"));
    let text = if html { "" } else { body.lines().next().unwrap_or_default().trim() };
    let server = header(head, "server").map(ToOwned::to_owned);
    HandshakeRejection::Answered { status, server, text: text.to_owned() }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
