//! One connection of the client protocol in JSON, over lines or a WebSocket, that can be cut without a close.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use tidings_wire::ws::{self, Event, Opcode, Reader, Role, Rules};

/// The longest silence of a peer.
const SILENCE: Duration = Duration::from_secs(3);

pub(crate) enum Wire {
    Lines { stream: TcpStream, rest: Vec<u8> },
    WebSocket { stream: TcpStream, reader: Reader, message: Vec<u8> },
}

fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, SILENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    Ok(stream)
}

impl Wire {
    pub(crate) fn lines(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::Lines { stream: dial(address)?, rest: Vec::new() })
    }

    pub(crate) fn websocket(address: SocketAddr) -> io::Result<Self> {
        let mut stream = dial(address)?;
        write!(
            stream,
            "GET /connection/websocket HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        if !head.starts_with(b"HTTP/1.1 101") {
            return Err(io::Error::other("no handshake"));
        }
        Ok(Self::WebSocket { stream, reader: Reader::default(), message: Vec::new() })
    }

    pub(crate) fn send(&mut self, command: &str) -> io::Result<()> {
        match self {
            Self::Lines { stream, .. } => stream.write_all(format!("{command}\n").as_bytes()),
            Self::WebSocket { stream, .. } => {
                let mut frame = Vec::new();
                ws::masked_frame(Opcode::Text, command.as_bytes(), [7, 1, 9, 3], &mut frame);
                stream.write_all(&frame)
            }
        }
    }

    /// Reads available messages. Waits at most `patience` for the first byte.
    pub(crate) fn messages(&mut self, patience: Duration, out: &mut Vec<Value>) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        let (Self::Lines { stream, .. } | Self::WebSocket { stream, .. }) = &mut *self;
        stream.set_read_timeout(Some(patience.max(Duration::from_millis(1))))?;
        let count = match stream.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        let mut bytes = &buffer[..count];
        match self {
            Self::Lines { rest, .. } => {
                rest.extend_from_slice(bytes);
                while let Some(end) = rest.iter().position(|b| *b == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    out.push(serde_json::from_slice(&line)?);
                }
            }
            Self::WebSocket { reader, message, .. } => {
                let rules = Rules { role: Role::Client, max_message: 1 << 26 };
                while !bytes.is_empty() {
                    let (used, event) = reader.read(bytes, &rules, message).map_err(io::Error::other)?;
                    bytes = &bytes[used..];
                    match event {
                        Event::Message(_) => {
                            for line in message.split(|b| *b == b'\n') {
                                out.push(serde_json::from_slice(line)?);
                            }
                            message.clear();
                        }
                        Event::Close(_) => return Err(io::ErrorKind::ConnectionAborted.into()),
                        Event::Partial | Event::Ping(_) | Event::Pong(_) => {}
                    }
                }
            }
        }
        Ok(())
    }
}
