//! One connection of the client protocol: commands out, replies and pushes in.
//!
//! Invariants: a connection is closed when the server sends nothing for its ping interval plus ten seconds; pings are
//! answered if the server requires it.

use std::time::Duration;

use tidings_wire::client::request::{self, Command, Request};
use tidings_wire::client::{Data, Encoding};
use tidings_wire::line::{self, Scan};
use tidings_wire::ws::Kind;
use tokio::time::{Instant, timeout, timeout_at};

use crate::message::{ConnectResult, Message, Push, Reply};
use crate::pipe::Pipe;
use crate::ws::WebSocket;
use crate::{AGENT_NAME, Error, Server};

/// The timeout of `connect`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The allowed delay of a ping of the server.
const PING_DELAY: Duration = Duration::from_secs(10);
/// The interval of the client's pings to a server that does not ping.
const OWN_PING: Duration = Duration::from_secs(15);
/// The timeout of the response to such a ping.
const OWN_PING_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest accepted line of JSON, in bytes.
const MAX_LINE: usize = 64 << 20;
/// The WebSocket sub-protocol of Protobuf messages.
const PROTOBUF: &str = "centrifuge-protobuf";

/// The parameters of the `connect` command.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// A connection token; `None` for an anonymous client.
    pub token: Option<String>,
    /// Application data; JSON on a JSON connection.
    pub data: Option<Vec<u8>>,
    /// Positions in the channels to which the server subscribed the client before, by channel.
    pub subs: Vec<(String, crate::Position)>,
}

/// An open connection after a successful `connect`.
pub struct Connection {
    link: Link,
    encoding: Encoding,
    /// The current frame; the messages before `taken` were returned.
    frame: Vec<u8>,
    taken: usize,
    last_id: u32,
    ping: Duration,
    pong: bool,
    /// The time and the number of the client's own ping, while its response is pending.
    pending_ping: Option<(Instant, u32)>,
}

/// The transport of messages.
enum Link {
    WebSocket(Box<WebSocket>),
    Lines { pipe: Box<Pipe>, searched: usize },
}

impl Connection {
    /// Connects to a WebSocket (in `encoding`) or to the line port (always in JSON lines).
    ///
    /// # Errors
    /// [`Error`]: no server at the address, no response in time, another protocol, or a rejected client.
    pub async fn open(
        server: &Server,
        encoding: Encoding,
        hello: &ConnectOptions,
    ) -> Result<(Self, ConnectResult), Error> {
        let (link, encoding) = match server {
            Server::Web(web) => {
                let protocols: &[&str] = if encoding == Encoding::Protobuf { &[PROTOBUF] } else { &[] };
                let socket = WebSocket::open(web, "/connection/websocket", protocols, &[]).await;
                (Link::WebSocket(Box::new(socket.map_err(|denied| denied.into_error(web))?)), encoding)
            }
            Server::Mqtt { .. } => {
                let why = "mqtt:// has MQTT alone".to_owned();
                return Err(Error::Protocol { what: "the client protocol", why });
            }
            Server::Tcp(_) | Server::Tls(_) | Server::Unix(_) => {
                let pipe = Box::new(Pipe::open(server).await?);
                (Link::Lines { pipe, searched: 0 }, Encoding::Json)
            }
        };
        let mut connection = Self {
            link,
            encoding,
            frame: Vec::new(),
            taken: 0,
            last_id: 0,
            ping: OWN_PING,
            pong: false,
            pending_ping: None,
        };
        match timeout(CONNECT_TIMEOUT, connection.connect(hello)).await {
            Ok(Ok(welcome)) => Ok((connection, welcome)),
            Ok(Err(e)) => Err(e),
            Err(_) => Err(Error::Timeout(CONNECT_TIMEOUT.as_secs())),
        }
    }

    async fn connect(&mut self, hello: &ConnectOptions) -> Result<ConnectResult, Error> {
        let subs = hello.subs.iter().map(|(channel, position)| {
            let sub = request::Subscribe {
                recover: true,
                epoch: (&position.epoch).into(),
                offset: position.offset,
                ..request::Subscribe::default()
            };
            (channel.into(), sub)
        });
        let id = self.send(Request::Connect(request::Connect {
            token: hello.token.as_deref().unwrap_or_default().into(),
            data: hello.data.as_deref().map(Data::from),
            subs: subs.collect::<Vec<_>>().into(),
            name: AGENT_NAME.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            ..request::Connect::default()
        }))?;
        loop {
            match self.next().await? {
                Message::Reply(of, Ok(Reply::Connected(welcome))) if of == id => {
                    if welcome.ping > 0 {
                        self.ping = Duration::from_secs(welcome.ping.into()) + PING_DELAY;
                    }
                    self.pong = welcome.pong;
                    self.pending_ping = None;
                    return Ok(*welcome);
                }
                Message::Reply(of, Err(refusal)) if of == id => {
                    return Err(Error::refused("the connection", &refusal));
                }
                _ => {}
            }
        }
    }

    /// The encoding of messages on this connection.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Appends one command to the output buffer. Returns the number of its reply. The caller bounds the size of the
    /// buffer.
    ///
    /// # Errors
    /// [`Error::Lost`] when the connection cannot send.
    pub fn send(&mut self, request: Request<'_>) -> Result<u32, Error> {
        self.last_id = self.last_id.wrapping_add(1).max(1);
        let id = self.last_id;
        self.write(&Command { id, request })?;
        Ok(id)
    }

    fn write(&mut self, command: &Command<'_>) -> Result<(), Error> {
        match &mut self.link {
            Link::WebSocket(socket) => {
                let mut message = Vec::new();
                self.encoding.write_command(command, &mut message);
                let kind = if self.encoding == Encoding::Json { Kind::Text } else { Kind::Binary };
                socket.queue(kind, &message)
            }
            Link::Lines { pipe, .. } => {
                self.encoding.write_command(command, pipe.outbox());
                pipe.outbox().push(b'\n');
                Ok(())
            }
        }
    }

    /// Bytes of commands that the kernel has not accepted yet.
    pub fn unsent(&self) -> usize {
        match &self.link {
            Link::WebSocket(socket) => socket.unsent(),
            Link::Lines { pipe, .. } => pipe.unsent(),
        }
    }

    /// The time of the last input.
    pub fn last_received(&self) -> Instant {
        match &self.link {
            Link::WebSocket(socket) => socket.last_received(),
            Link::Lines { pipe, .. } => pipe.last_received(),
        }
    }

    /// The next message in the input buffer; does not wait. Pings are answered and not returned.
    ///
    /// # Errors
    /// [`Error::Closed`] when the server closes the connection with a reason, [`Error::Protocol`] when the input is not
    /// the client protocol.
    pub fn take(&mut self) -> Result<Option<Message>, Error> {
        loop {
            while let Some(message) = self.message()? {
                match message {
                    Message::Ping => {
                        if self.pong {
                            self.write(&Command { id: 0, request: Request::Pong })?;
                        }
                    }
                    Message::Push(Push::Disconnect { code, reason }) => {
                        let code = u16::try_from(code).unwrap_or(u16::MAX);
                        return Err(Error::Closed { code, text: reason });
                    }
                    Message::Reply(id, _) if self.pending_ping.is_some_and(|(_, number)| number == id) => {
                        self.pending_ping = None;
                    }
                    message => return Ok(Some(message)),
                }
            }
            if !self.next_frame()? {
                return Ok(None);
            }
        }
    }

    /// The next message of the current frame.
    fn message(&mut self) -> Result<Option<Message>, Error> {
        let encoding = self.encoding;
        let wrong = |why: String| Error::Protocol { what: "the client protocol", why };
        let mut messages = encoding.messages(&self.frame[self.taken..]);
        let Some(message) = messages.next() else { return Ok(None) };
        let reply =
            message.and_then(|message| encoding.parse_reply(message)).map_err(|e| wrong(e.to_string()))?;
        let owned = Message::owned(reply, encoding);
        self.taken = self.frame.len() - messages.rest().len();
        Ok(Some(owned))
    }

    /// Reads the next complete frame.
    fn next_frame(&mut self) -> Result<bool, Error> {
        self.taken = 0;
        self.frame.clear();
        match &mut self.link {
            Link::WebSocket(socket) => match socket.take()? {
                Some((_, frame)) => self.frame = frame,
                None => return Ok(false),
            },
            Link::Lines { pipe, searched } => match line::next(pipe.inbox(), *searched, MAX_LINE) {
                Scan::Line { line, used } => {
                    if line.first().is_some_and(|byte| *byte != b'{') {
                        if let Some(notice) = Error::from_notice(&[line, b"\n"].concat()) {
                            return Err(notice);
                        }
                        let mut why = String::from_utf8_lossy(&line[..line.len().min(100)]).into_owned();
                        if line.starts_with(b"HTTP/") {
                            why.push_str(" (an HTTP port: write ws:// or http:// before its address)");
                        }
                        return Err(Error::Protocol { what: "JSON lines", why });
                    }
                    self.frame = line.to_vec();
                    pipe.take(used);
                    *searched = 0;
                }
                Scan::Partial => {
                    *searched = pipe.inbox().len();
                    return Ok(false);
                }
                Scan::TooLong => {
                    let why = format!("a line longer than {MAX_LINE} bytes");
                    return Err(Error::Protocol { what: "JSON lines", why });
                }
            },
        }
        Ok(true)
    }

    /// Waits until input has arrived or output has been written. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Lost`] when the connection has ended, [`Error::Timeout`] when a ping of the server is overdue.
    pub async fn exchange(&mut self) -> Result<(), Error> {
        let deadline = match self.pending_ping {
            Some((at, _)) => at + OWN_PING_TIMEOUT,
            None => self.last_received() + self.ping,
        };
        let exchanged = match &mut self.link {
            Link::WebSocket(socket) => timeout_at(deadline, socket.exchange()).await,
            Link::Lines { pipe, .. } => timeout_at(deadline, pipe.exchange()).await,
        };
        match exchanged {
            Ok(done) => done,
            Err(_) if self.pending_ping.is_some() => Err(Error::Timeout(OWN_PING_TIMEOUT.as_secs())),
            // A server that does not ping is pinged.
            Err(_) if self.ping == OWN_PING => {
                let id = self.send(Request::Ping)?;
                self.pending_ping = Some((Instant::now(), id));
                Ok(())
            }
            Err(_) => Err(Error::Timeout(self.ping.as_secs())),
        }
    }

    /// Waits for the next message. Cancel safe.
    ///
    /// # Errors
    /// As [`Self::take`] and [`Self::exchange`].
    pub async fn next(&mut self) -> Result<Message, Error> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            self.exchange().await?;
        }
    }

    /// Waits for the reply to the command with this number. Earlier messages go to `others`.
    ///
    /// # Errors
    /// As [`Self::next`]; [`Error::Timeout`] after `limit`.
    pub async fn reply_to(
        &mut self,
        id: u32,
        limit: Duration,
        mut others: impl FnMut(Message),
    ) -> Result<Result<Reply, crate::ServerError>, Error> {
        let wait = async {
            loop {
                match self.next().await? {
                    Message::Reply(of, answer) if of == id => return Ok(answer),
                    other => others(other),
                }
            }
        };
        timeout(limit, wait).await.unwrap_or(Err(Error::Timeout(limit.as_secs())))
    }

    /// Closes the connection and waits until the close frame is written.
    pub async fn close(self) {
        match self.link {
            Link::WebSocket(socket) => socket.close().await,
            Link::Lines { mut pipe, .. } => {
                // The connection ends even if the flush fails.
                let _ = pipe.flush(Duration::from_secs(1)).await;
            }
        }
    }
}
