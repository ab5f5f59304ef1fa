//! How a subscriber comes to its transport: over the line port at once, over the HTTP port with a request.

use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use tidings_client::Web;
use tidings_client::events::escaped;
use tidings_wire::ws::handshake::{self, Request};

use super::chunked::Chunks;
use super::dialect::Transport;
use super::socket::{Socket, Target};

/// How long a server may take to answer a subscriber's request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest head of an answer, in bytes.
const MAX_HEAD: usize = 16 << 10;

/// What a subscriber asks the HTTP port for.
#[derive(Clone, Debug)]
pub(super) enum Approach {
    /// Nothing: it speaks to the line port.
    Line,
    /// A WebSocket: the request.
    WebSocket { request: Vec<u8> },
    /// An event stream: the request.
    Events { request: Vec<u8> },
}

/// A subscriber on its way, with what the server has said behind its answer.
pub(super) struct Arrived {
    pub(super) socket: Socket,
    pub(super) unread: Vec<u8>,
    pub(super) chunks: Chunks,
}

impl Approach {
    /// For `transport` at `web`, with a token where there is one.
    pub(super) fn new(transport: Transport, web: &Web, channel: &str, token: Option<&str>) -> Self {
        match transport {
            Transport::Tcp | Transport::Resp => Self::Line,
            Transport::Ws => Self::websocket(web, &[]),
            Transport::WsProtobuf => Self::protobuf(web),
            Transport::Sse => {
                let target = web.path(&format!("/events?channel={}", escaped(channel)));
                let token =
                    token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
                let request = format!(
                    "GET {target} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n{token}\r\n",
                    web.authority()
                );
                Self::Events { request: request.into_bytes() }
            }
        }
    }

    /// For clients that use Protobuf at `web`: bodies are exact bytes there.
    pub(super) fn protobuf(web: &Web) -> Self {
        Self::websocket(web, &["centrifuge-protobuf"])
    }

    fn websocket(web: &Web, protocols: &[&str]) -> Self {
        // All of them are this program: one key will do.
        let key = handshake::key(fastrand::u128(..).to_be_bytes());
        let (host, target) = (web.authority(), web.path("/connection/websocket"));
        let asked = Request { host: &host, target: &target, key: &key, protocols, headers: &[] };
        let mut request = Vec::new();
        asked.write(&mut request);
        Self::WebSocket { request }
    }

    /// Connects and asks.
    ///
    /// # Errors
    /// Nobody there, or a server that answers something else, in words.
    pub(super) fn arrive(&self, target: &Target) -> Result<Arrived, String> {
        let lost = |e: io::Error| tidings_client::stream::reason(&e);
        let mut socket = Socket::connect(target).map_err(lost)?;
        let (request, status) = match self {
            Self::Line => return Ok(Arrived { socket, unread: Vec::new(), chunks: Chunks::None }),
            Self::WebSocket { request } => (request, "101"),
            Self::Events { request } => (request, "200"),
        };
        socket.set_timeout(ANSWER_TIMEOUT).map_err(lost)?;
        socket.write_all(request).map_err(lost)?;
        let mut answer = Vec::new();
        let mut buf = [0; 4096];
        let end = loop {
            if let Some(end) = memchr::memmem::find(&answer, b"\r\n\r\n") {
                break end;
            }
            match socket.read(&mut buf).map_err(lost)? {
                0 => return Err("the server closed the connection".to_owned()),
                n if answer.len() + n > MAX_HEAD => return Err("the server's answer is too long".to_owned()),
                n => answer.extend_from_slice(&buf[..n]),
            }
        };
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        let line = head.lines().next().unwrap_or_default();
        if line.split(' ').nth(1) != Some(status) {
            return Err(format!("the server answered {line}, not {status}"));
        }
        let mut unread = answer.split_off(end + 4);
        let is_chunked = head.contains("\r\ntransfer-encoding: chunked");
        let mut chunks = if is_chunked { Chunks::new() } else { Chunks::None };
        let kept = chunks.strip(&mut unread)?;
        unread.truncate(kept);
        Ok(Arrived { socket, unread, chunks })
    }
}
