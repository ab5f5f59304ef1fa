//! A WebSocket echo server for conformance suites (docs/autobahn.md). `cargo run --example ws_echo -- 127.0.0.1:9001`;
//! port 0 selects a free one. It prints its address, and serves each connection on its own thread, with the blocking
//! sockets of the standard library. Messages are compressed if the client offers that.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use tidings_websocket::deflate::{self, Deflater, Inflater};
use tidings_websocket::{self as ws, CloseCode, Event, Kind, Opcode, Reader, Role, Rules, handshake};

/// The longest echoed message: 16 MiB, the longest message of the suites.
const MAX_MESSAGE: u64 = 16 << 20;
/// The longest head of a request.
const MAX_HEAD: usize = 16 << 10;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let listener = TcpListener::bind(address)?;
    println!("ws://{}/", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            if let Err(error) = serve(stream) {
                eprintln!("a connection ended: {error}");
            }
        });
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let Some((received, deflated)) = shake_hands(&mut stream)? else { return Ok(()) };
    let codecs = deflated.then(|| (Deflater::new(1, 0), Inflater::default()));
    let mut echo = Echo { reader: Reader::default(), message: Vec::new(), codecs };
    let (mut input, mut output) = (received, Vec::new());
    let mut chunk = vec![0; 64 << 10];
    loop {
        let goes_on = echo.answer(&input, &mut output);
        stream.write_all(&output)?;
        output.clear();
        if !goes_on {
            return linger(&mut stream, &mut chunk);
        }
        let length = stream.read(&mut chunk)?;
        if length == 0 {
            return Ok(());
        }
        input.clear();
        input.extend_from_slice(&chunk[..length]);
    }
}

struct Echo {
    reader: Reader,
    message: Vec<u8>,
    /// The codecs, if compression was negotiated.
    codecs: Option<(Deflater, Inflater)>,
}

impl Echo {
    /// Appends the answers to `input`; returns whether the connection continues.
    fn answer(&mut self, mut input: &[u8], output: &mut Vec<u8>) -> bool {
        let rules = Rules { role: Role::Server, max_message: MAX_MESSAGE };
        let Self { reader, message, codecs } = self;
        while !input.is_empty() {
            let read = match codecs {
                Some((_, inflater)) => reader.read_deflated(input, &rules, message, inflater),
                None => reader.read(input, &rules, message),
            };
            match read {
                Ok((used, event)) => {
                    input = &input[used..];
                    match event {
                        Event::Partial | Event::Pong(_) => {}
                        Event::Message(kind) => {
                            let opcode = if kind == Kind::Text { Opcode::Text } else { Opcode::Binary };
                            match codecs {
                                Some((deflater, _)) => {
                                    deflater.frame_with(opcode, output, |out| out.extend_from_slice(message));
                                }
                                None => ws::frame(opcode, message, output),
                            }
                            message.clear();
                        }
                        Event::Ping(payload) => ws::frame(Opcode::Pong, &payload, output),
                        Event::Close(close) => {
                            ws::close(close.code().unwrap_or(CloseCode::NORMAL), "", output);
                            return false;
                        }
                    }
                }
                Err(error) => {
                    ws::close(error.close_code(), &error.to_string(), output);
                    return false;
                }
            }
        }
        true
    }
}

/// Closes the sending side and reads the remaining input, so that the peer gets the close frame and no reset.
fn linger(stream: &mut TcpStream, chunk: &mut [u8]) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    while stream.read(chunk)? > 0 {}
    Ok(())
}

/// Responds to a handshake; returns the bytes after it, and whether compression was negotiated; `None` without a
/// handshake.
fn shake_hands(stream: &mut TcpStream) -> io::Result<Option<(Vec<u8>, bool)>> {
    let mut received = Vec::new();
    let end = loop {
        if let Some(at) = received.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        let mut chunk = [0; 4096];
        let length = stream.read(&mut chunk)?;
        if length == 0 || received.len() > MAX_HEAD {
            return Ok(None);
        }
        received.extend_from_slice(&chunk[..length]);
    };
    let head = String::from_utf8_lossy(&received[..end]);
    let headers = |wanted: &'static str| {
        let of_line = |line| str::split_once(line, ':');
        let named = move |(name, _): &(&str, &str)| name.eq_ignore_ascii_case(wanted);
        head.lines().filter_map(of_line).filter(named).map(|(_, value)| value.trim())
    };
    let key = headers("sec-websocket-key").next();
    let Some(key) = key.filter(|key| handshake::is_key(key)) else {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
        return Ok(None);
    };
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n",
        handshake::accept(key)
    );
    let extension = deflate::negotiate(headers("sec-websocket-extensions"));
    if let Some(extension) = extension {
        answer.push_str(&format!("Sec-WebSocket-Extensions: {extension}\r\n"));
    }
    answer.push_str("\r\n");
    stream.write_all(answer.as_bytes())?;
    let deflated = extension.is_some();
    drop(head);
    Ok(Some((received.split_off(end), deflated)))
}
