//! A blocking RESP client for a Redis server, or the server's own RESP port, in tests.
//!
//! RESP2 and the RESP3 types that pub/sub uses (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::PATIENCE;

/// A reply or push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`
    Simple(String),
    /// `-ERR …`, without the minus.
    Error(String),
    /// `:1`
    Int(i64),
    /// `$3`: any bytes.
    Bulk(Vec<u8>),
    /// `$-1`, `*-1` or `_`.
    Nil,
    /// `*3`, `~3` or `%3` (a map's keys and values one after the other).
    Array(Vec<Reply>),
    /// `>3`
    Push(Vec<Reply>),
    /// `#t`, `,1.5`, `(1` and similar types: the line as received.
    Other(String),
}

impl Reply {
    /// The text of a simple or bulk string or of an error; otherwise the debug form.
    pub fn text(&self) -> String {
        match self {
            Self::Simple(text) | Self::Error(text) | Self::Other(text) => text.clone(),
            Self::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => format!("{other:?}"),
        }
    }

    /// The elements of an array or a push as text; any other value as a single element.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Self::Array(items) | Self::Push(items) => items
                .iter()
                .map(|item| if let Self::Int(n) = item { n.to_string() } else { item.text() })
                .collect(),
            one => vec![one.text()],
        }
    }

    /// The number of an integer reply.
    ///
    /// # Panics
    /// When it is not an integer.
    pub fn int(&self) -> i64 {
        match self {
            Self::Int(n) => *n,
            other => panic!("an integer was expected, not {other:?}"),
        }
    }
}

/// A blocking RESP connection.
#[derive(Debug)]
pub struct RespClient {
    stream: BufReader<TcpStream>,
}

impl RespClient {
    /// Connects; every later read has the timeout [`PATIENCE`].
    ///
    /// # Errors
    /// As [`TcpStream::connect`].
    pub fn try_connect(addr: impl ToSocketAddrs) -> std::io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::with_capacity(64 * 1024, stream) })
    }

    /// Connects; every later read has the timeout [`PATIENCE`].
    ///
    /// # Panics
    /// Without a listener at the address.
    pub fn connect(addr: impl ToSocketAddrs) -> Self {
        Self::try_connect(addr).expect("connect")
    }

    /// The address of this end.
    pub fn local_addr(&self) -> SocketAddr {
        self.stream.get_ref().local_addr().expect("a connected socket has an address")
    }

    /// Sends a command without waiting for its reply; several may be sent before the first reply is read.
    ///
    /// # Panics
    /// When the connection is closed.
    pub fn send(&mut self, command: &[impl AsRef<[u8]>]) {
        let mut bytes = Vec::with_capacity(64);
        pack(command, &mut bytes);
        self.send_bytes(&bytes);
    }

    /// Sends a command without waiting for its reply, to a server that may have ended.
    ///
    /// # Errors
    /// The error of the operating system when the connection is closed.
    pub fn try_send(&mut self, command: &[impl AsRef<[u8]>]) -> std::io::Result<()> {
        let mut bytes = Vec::with_capacity(64);
        pack(command, &mut bytes);
        self.stream.get_mut().write_all(&bytes)
    }

    /// Sends bytes unchanged.
    ///
    /// # Panics
    /// When the connection is closed.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("write");
    }

    /// Sends one command and returns its reply.
    ///
    /// # Panics
    /// When the connection is closed, or no reply arrives within [`PATIENCE`].
    pub fn command(&mut self, command: &[impl AsRef<[u8]>]) -> Reply {
        self.send(command);
        self.reply()
    }

    /// Sends all commands in one write and returns their replies in order. At most some thousands at once: nothing is
    /// read before everything is written.
    ///
    /// # Panics
    /// As [`Self::command`].
    pub fn pipeline(&mut self, commands: &[Vec<Vec<u8>>]) -> Vec<Reply> {
        let mut bytes = Vec::new();
        for command in commands {
            pack(command, &mut bytes);
        }
        self.send_bytes(&bytes);
        commands.iter().map(|_| self.reply()).collect()
    }

    /// The next reply or push.
    ///
    /// # Panics
    /// When the connection is closed, nothing arrives within [`PATIENCE`], or the bytes are not RESP.
    pub fn reply(&mut self) -> Reply {
        self.try_reply().expect("a reply")
    }

    /// The next reply or push, or the error of the read.
    ///
    /// # Errors
    /// When the connection ends or nothing arrives within [`PATIENCE`].
    ///
    /// # Panics
    /// When the bytes are not RESP.
    pub fn try_reply(&mut self) -> std::io::Result<Reply> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\r\n") {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.len() - 2);
        let line = String::from_utf8(line).expect("a RESP header is ASCII");
        let (kind, rest) = line.split_at_checked(1).expect("a RESP header has a type");
        Ok(match kind {
            "+" => Reply::Simple(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Int(number(rest)),
            "$" | "=" | "!" if number(rest) < 0 => Reply::Nil,
            "$" | "=" | "!" => {
                let mut body = vec![0; usize::try_from(number(rest)).expect("a length") + 2];
                self.stream.read_exact(&mut body)?;
                assert!(body.ends_with(b"\r\n"), "a bulk string ends with its line");
                body.truncate(body.len() - 2);
                Reply::Bulk(body)
            }
            "_" => Reply::Nil,
            "*" | "~" | "%" | ">" if number(rest) < 0 => Reply::Nil,
            "*" | "~" | "%" | ">" => {
                let count = number(rest) * if kind == "%" { 2 } else { 1 };
                let items = (0..count).map(|_| self.try_reply()).collect::<Result<_, _>>()?;
                if kind == ">" { Reply::Push(items) } else { Reply::Array(items) }
            }
            "#" | "," | "(" => Reply::Other(line),
            _ => panic!("not RESP: {line:?}"),
        })
    }

    /// Asserts that nothing arrives for this long.
    ///
    /// # Panics
    /// When something arrives, or the connection ends.
    pub fn expect_silence(&mut self, how_long: Duration) {
        self.stream.get_ref().set_read_timeout(Some(how_long)).expect("a time-out above zero");
        let heard = self.stream.fill_buf().map(<[u8]>::to_vec);
        self.stream.get_ref().set_read_timeout(Some(PATIENCE)).expect("a time-out above zero");
        match heard {
            Ok(bytes) => panic!("silence was expected, not {:?}", String::from_utf8_lossy(&bytes)),
            Err(e) => assert!(
                matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
                "silence was expected, not {e}"
            ),
        }
    }
}

fn number(text: &str) -> i64 {
    text.parse().expect("a RESP number")
}

/// Appends one command as an array of bulk strings.
fn pack(command: &[impl AsRef<[u8]>], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
    for word in command {
        let word = word.as_ref();
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}
