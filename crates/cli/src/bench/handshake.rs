//! The start of a subscriber's connection: immediate on the line port, with a request on the HTTP port.

use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use tidings_client::Web;
use tidings_client::events::percent_encode;
use tidings_wire::ws::handshake::{self, Request};

use super::chunked::ChunkState;
use super::dialect::Transport;
use super::socket::{Socket, Target};

/// The timeout of the response to a subscriber's request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest head of a response, in bytes.
const MAX_HEAD: usize = 16 << 10;

/// The request of a subscriber.
#[derive(Clone, Debug)]
pub(super) enum TransportRequest {
    /// None: the subscriber uses the line port.
    Line,
    /// The request of a WebSocket handshake.
    WebSocket { request: Vec<u8> },
    /// The request of an event stream.
    Events { request: Vec<u8> },
}

/// A connected subscriber, with the bytes that followed the response.
pub(super) struct Connected {
    pub(super) socket: Socket,
    pub(super) unread: Vec<u8>,
    pub(super) chunks: ChunkState,
}

impl TransportRequest {
    /// For `transport` at `web`, with an optional token.
    pub(super) fn new(transport: Transport, web: &Web, channel: &str, token: Option<&str>) -> Self {
        match transport {
            Transport::Tcp | Transport::Resp | Transport::Mqtt => Self::Line,
            Transport::Ws => Self::websocket(web, &[]),
            Transport::WsProtobuf => Self::protobuf(web),
            Transport::Sse => {
                let target = web.path(&format!("/events?channel={}", percent_encode(channel)));
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

    /// For Protobuf clients at `web`: Protobuf preserves the bytes of bodies.
    pub(super) fn protobuf(web: &Web) -> Self {
        Self::websocket(web, &["centrifuge-protobuf"])
    }

    fn websocket(web: &Web, protocols: &[&str]) -> Self {
        // All clients are this program, so one key is sufficient.
        let key = handshake::key(fastrand::u128(..).to_be_bytes());
        let (host, target) = (web.authority(), web.path("/connection/websocket"));
        let asked = Request { host: &host, target: &target, key: &key, protocols, headers: &[] };
        let mut request = Vec::new();
        asked.write(&mut request);
        Self::WebSocket { request }
    }

    /// Connects and sends the request.
    ///
    /// # Errors
    /// An unreachable server, or an unexpected response, as text.
    pub(super) fn arrive(&self, target: &Target) -> Result<Connected, String> {
        let lost = |e: io::Error| tidings_client::error::reason(&e);
        let mut socket = Socket::connect(target).map_err(lost)?;
        let (request, status) = match self {
            Self::Line => return Ok(Connected { socket, unread: Vec::new(), chunks: ChunkState::None }),
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
        let mut chunks = if is_chunked { ChunkState::new() } else { ChunkState::None };
        let kept = chunks.strip(&mut unread)?;
        unread.truncate(kept);
        Ok(Connected { socket, unread, chunks })
    }
}
