//! A WebSocket: messages out, messages in. The frames are `tidings_wire::ws`.

use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use tidings_wire::ws::handshake::{self, Refused, Request};
use tidings_wire::ws::{self, CloseCode, Event, Kind, Opcode, Reader, Role, Rules};
use tokio::time::{Instant, timeout};

use crate::pipe::Pipe;
use crate::{AGENT, Error, Server, Web};

/// How long the server may take to agree.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest message taken from a server, in bytes. Far above any message limit that makes sense for pushing.
const MAX_MESSAGE: u64 = 64 << 20;
/// How much of what a server says in place of agreeing is kept, in bytes.
const MAX_REFUSAL: usize = 4096;

/// An open WebSocket.
pub struct WebSocket {
    pipe: Pipe,
    reader: Reader,
    message: Vec<u8>,
    random: SystemRandom,
}

/// Why there is no WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandshakeRejection {
    /// There is no answer of HTTP.
    Failed(Error),
    /// The server, or a proxy in front of it, answered something else.
    Answered {
        /// The status of HTTP; 0 when the answer is not one to this request.
        status: u16,
        /// The `Server` header of the response, if any.
        server: Option<String>,
        /// The beginning of the response's text, or the error in the response.
        words: String,
    },
}

impl From<Error> for HandshakeRejection {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl HandshakeRejection {
    /// As an error of a client.
    pub fn into_error(self, address: &Web) -> Error {
        match self {
            Self::Failed(error) => error,
            Self::Answered { status: 0, words, .. } => Error::Protocol { what: "WebSocket", why: words },
            Self::Answered { status, words, .. } => {
                let temporary = matches!(status, 429 | 502..=504);
                let words = if words.is_empty() { format!("{status}") } else { format!("{status}, {words}") };
                Error::Refused { what: format!("a WebSocket at {address}"), words, temporary }
            }
        }
    }
}

impl WebSocket {
    /// Connects to `endpoint` of `web` (a path with its query, before which the prefix is put), offering
    /// `protocols`, with more `headers`.
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
        match timeout(HANDSHAKE_TIMEOUT, agree(&mut pipe, &request)).await {
            Ok(agreed) => agreed?,
            Err(_) => return Err(Error::Silent(HANDSHAKE_TIMEOUT.as_secs()).into()),
        }
        Ok(Self { pipe, reader: Reader::default(), message: Vec::new(), random })
    }

    /// Adds one message to what [`Self::exchange`] will write. The caller bounds how much waits.
    ///
    /// # Errors
    /// [`Error::Lost`] when the system has no random numbers.
    pub fn queue(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Error> {
        self.frame(if kind == Kind::Text { Opcode::Text } else { Opcode::Binary }, payload)
    }

    fn frame(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), Error> {
        // What others wrote goes through here on its way through proxies: its bytes are not to be foreseen
        // (RFC 6455 §10.3).
        let mut mask = [0; 4];
        fill(&self.random, &mut mask)?;
        ws::masked_frame(opcode, payload, mask, self.pipe.outbox());
        Ok(())
    }

    /// The next message that has come whole, without waiting. Pings are answered on the way.
    ///
    /// # Errors
    /// [`Error::Ended`] when the server closed the connection and said why, [`Error::Protocol`] when what it sends
    /// is no WebSocket.
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
                    // In words of its own; shown on one line.
                    return Err(Error::Ended { code: code.0, words: close.reason().to_owned() });
                }
            }
        }
        Ok(None)
    }

    /// Waits until more bytes have come or some of what waits has been written. May be dropped half-way and called
    /// again.
    ///
    /// # Errors
    /// [`Error::Lost`] when the connection has ended.
    pub async fn exchange(&mut self) -> Result<(), Error> {
        self.pipe.exchange().await
    }

    /// The next message.
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

    /// Bytes that the kernel has not taken yet.
    pub fn unsent(&self) -> usize {
        self.pipe.unsent()
    }

    /// When the server last said anything.
    pub fn last_received(&self) -> Instant {
        self.pipe.last_received()
    }

    /// Says goodbye, and waits for a moment until that is written.
    pub async fn close(mut self) {
        let code = CloseCode::NORMAL.0.to_be_bytes();
        if self.frame(Opcode::Close, &code).is_ok() {
            // The peer is left either way.
            let _ = self.pipe.flush(Duration::from_secs(1)).await;
        }
    }
}

fn fill(random: &SystemRandom, bytes: &mut [u8]) -> Result<(), Error> {
    random.fill(bytes).map_err(|_| Error::Lost("the system has no random numbers".to_owned()))
}

/// Sends the request and reads the answer, which leaves the inbox where frames begin.
async fn agree(pipe: &mut Pipe, request: &Request<'_>) -> Result<(), HandshakeRejection> {
    loop {
        match handshake::read_answer(pipe.inbox(), request) {
            Ok(Some(accepted)) => {
                let used = accepted.used;
                let agreed = accepted.protocol.is_some() || request.protocols.is_empty();
                pipe.take(used);
                if agreed {
                    return Ok(());
                }
                let words = format!("the server does not know {}", request.protocols.join(", "));
                return Err(HandshakeRejection::Answered { status: 0, server: None, words });
            }
            Ok(None) => {}
            Err(Refused::Status(status)) => return Err(refusal(pipe, status).await),
            Err(Refused::Invalid(what)) => {
                return Err(HandshakeRejection::Answered { status: 0, server: None, words: what.to_owned() });
            }
        }
        pipe.exchange().await?;
    }
}

/// Reads what a server says in place of agreeing: its name, and the first line of its text where that is for people.
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
    // The first line of a chunked body is a chunk's length.
    let body = if chunked { body.split_once("\r\n").map_or("", |(_, body)| body) } else { body };
    let html = header(head, "content-type").is_some_and(|kind| kind.contains("html"));
    let words = if html { "" } else { body.lines().next().unwrap_or_default().trim() };
    let server = header(head, "server").map(ToOwned::to_owned);
    HandshakeRejection::Answered { status, server, words: words.to_owned() }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
