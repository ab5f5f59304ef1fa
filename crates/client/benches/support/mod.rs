//! What the benchmarks of tables have in common: the server on core 0, viewers, results.

use std::error::Error;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use memchr::memmem;
use tidings_testkit::Tidings;

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// The timeout of a response.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Starts the program with this data folder, on core 0. It detects the number of cores before.
pub(crate) fn start(program: &str, data: &str) -> Outcome<Tidings> {
    let server = Tidings::start(program, &["--data-dir", data]);
    let pinned = Command::new("taskset").args(["-a", "-c", "-p", "0", &server.pid().to_string()]).output()?;
    assert!(pinned.status.success(), "taskset: {}", String::from_utf8_lossy(&pinned.stderr));
    Ok(server)
}

/// Prints a result.
pub(crate) fn print(name: &str, value: f64, unit: &str) {
    println!("{name}\t{value}\t{unit}");
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The median, the 99th percentile, and the maximum.
pub(crate) fn spread(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    for (part, word) in [(0.5, "p50"), (0.99, "p99"), (1.0, "greatest")] {
        let at = ((times.len() as f64 * part).ceil() as usize).clamp(1, times.len()) - 1;
        print(&format!("{name}: {word}"), milliseconds(times[at]), "ms");
    }
}

/// The memory of a process in bytes: its own, and including its share of shared memory and files.
pub(crate) fn memory(pid: u32) -> (u64, u64) {
    let value = |file: &str, name: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok());
        line.unwrap_or(0_u64) * 1024
    };
    (value("status", "RssAnon:"), value("smaps_rollup", "Pss:"))
}

/// The WebSocket of a viewer: not the client library's, so that a thousand of them cost little more than their system
/// calls.
pub(crate) struct Viewer {
    pub(crate) stream: TcpStream,
    pub(crate) inbox: Vec<u8>,
}

impl Viewer {
    /// Joins a table.
    pub(crate) fn open(http: SocketAddr, uuid: &str) -> Outcome<Self> {
        let mut stream = TcpStream::connect(http)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET /tables/ws/{uuid} HTTP/1.1\r\nHost: {http}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )?;
        let mut viewer = Self { stream, inbox: Vec::new() };
        loop {
            if let Some(end) = memmem::find(&viewer.inbox, b"\r\n\r\n") {
                assert!(viewer.inbox.starts_with(b"HTTP/1.1 101"), "no WebSocket");
                viewer.inbox.drain(..end + 4);
                return Ok(viewer);
            }
            viewer.read_some()?;
        }
    }

    /// Sends a text message of at most 65,535 bytes. Its mask is zero, which a server need not detect (RFC 6455 §5.3).
    pub(crate) fn say(&mut self, text: &str) -> Outcome<()> {
        let length = u16::try_from(text.len())?;
        let mut frame = match length {
            0..126 => vec![0x81, 0x80 | length as u8],
            _ => [&[0x81, 0xFE][..], &length.to_be_bytes()].concat(),
        };
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(text.as_bytes());
        Ok(self.stream.write_all(&frame)?)
    }

    /// Waits for a message, and removes it and the earlier ones.
    pub(crate) fn until(&mut self, mut wanted: impl FnMut(&[u8]) -> bool) -> Outcome<()> {
        loop {
            while let Some(length) = self.whole() {
                let message = &self.inbox[self.head()..length];
                if message.starts_with(b"{\"error\"") {
                    return Err(String::from_utf8_lossy(message).into());
                }
                let found = wanted(message);
                self.remove(length)?;
                if found {
                    return Ok(());
                }
            }
            self.read_some()?;
        }
    }

    /// Removes the first frame, which has this length, and answers it if it is a ping (RFC 6455 §5.5.2).
    pub(crate) fn remove(&mut self, length: usize) -> Outcome<()> {
        let is_ping = self.inbox[0] & 0x0F == 9;
        self.inbox.drain(..length);
        if is_ping {
            self.stream.write_all(&[0x8A, 0x80, 0, 0, 0, 0])?;
        }
        Ok(())
    }

    fn read_some(&mut self) -> Outcome<()> {
        let mut bytes = [0; 64 << 10];
        let length = self.stream.read(&mut bytes)?;
        if length == 0 {
            return Err("the server has closed a connection".into());
        }
        self.inbox.extend_from_slice(&bytes[..length]);
        Ok(())
    }

    /// Reads until no input is available.
    pub(crate) fn read_all(&mut self) -> Outcome<()> {
        loop {
            match self.read_some() {
                Ok(()) => {}
                Err(e) => match e.downcast_ref::<std::io::Error>() {
                    Some(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                    _ => return Err(e),
                },
            }
        }
    }

    /// The length of the first frame's header (RFC 6455 §5.2; frames of servers are not masked).
    pub(crate) fn head(&self) -> usize {
        match self.inbox.get(1).map_or(0, |byte| byte & 0x7F) {
            126 => 4,
            127 => 10,
            _ => 2,
        }
    }

    /// The end of the first frame, once it is complete.
    pub(crate) fn whole(&self) -> Option<usize> {
        let head = self.head();
        let length = match (head, self.inbox.get(..head)?) {
            (4, bytes) => usize::from(u16::from_be_bytes([bytes[2], bytes[3]])),
            (10, bytes) => usize::try_from(u64::from_be_bytes(bytes[2..10].try_into().ok()?)).ok()?,
            (_, bytes) => usize::from(bytes[1]),
        };
        (self.inbox.len() >= head + length).then_some(head + length)
    }
}
