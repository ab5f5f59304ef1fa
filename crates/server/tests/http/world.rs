//! A running server, and HTTP by hand.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};

use tidings_server::Server;
use tidings_server::config::{self, Overrides};
use tidings_testkit::PATIENCE;
use tokio::runtime::Runtime;

/// A server of this process, stopped when it is dropped.
pub(crate) struct World {
    pub(crate) runtime: Runtime,
    server: Option<Server>,
    announcements: Vec<String>,
}

impl World {
    /// Starts a server with free ports on 127.0.0.1 and these options, each `KEY=VALUE`.
    pub(crate) fn with(options: &[&str]) -> Self {
        let mut overrides = Overrides::default();
        let ports = ["tcp.listen=127.0.0.1:0", "http.listen=127.0.0.1:0"];
        for option in ports.iter().chain(options) {
            overrides.set(option).unwrap_or_else(|e| panic!("{option}: {e}"));
        }
        let config = config::load(None, [], &overrides).unwrap_or_else(|e| panic!("{e}"));
        let runtime = Runtime::new().expect("a runtime");
        let server = runtime.block_on(Server::start(config)).unwrap_or_else(|e| panic!("{e}"));
        let announcements = server.announcements().to_vec();
        Self { runtime, server: Some(server), announcements }
    }

    /// The first listener of a kind, as it is announced: `127.0.0.1:5567`, `http://127.0.0.1:8000/`.
    pub(crate) fn announced(&self, kind: &str) -> &str {
        let mut listeners = self.announcements.iter().filter_map(|line| line.split_once(' '));
        listeners.find(|(of, _)| *of == kind).unwrap_or_else(|| panic!("no {kind} listener")).1
    }

    pub(crate) fn tcp(&self) -> SocketAddr {
        self.announced("tcp").parse().expect("an address")
    }

    pub(crate) fn http(&self) -> SocketAddr {
        let url = self.announced("http");
        let address = url.strip_prefix("http://").and_then(|rest| rest.strip_suffix('/'));
        address.unwrap_or_else(|| panic!("{url}")).parse().expect("an address")
    }

    /// What is answered to a GET of this path.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    /// What is answered to a request that says `Connection: close`, written out.
    pub(crate) fn ask(&self, request: &str) -> Answer {
        let mut peer = self.connect();
        peer.write_all(request.as_bytes()).expect("a request sent");
        Answer::read(&mut peer)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let peer = TcpStream::connect(self.http()).expect("a connection");
        peer.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        peer
    }

    /// Begins to stop the server, and gives the task that ends when it has.
    pub(crate) fn stop(&mut self) -> tokio::task::JoinHandle<()> {
        self.runtime.spawn(self.server.take().expect("a server that runs").stop())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop());
        }
    }
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    /// Reads until the peer closes.
    pub(crate) fn read(peer: &mut impl std::io::Read) -> Self {
        let mut text = String::new();
        peer.read_to_string(&mut text).unwrap_or_else(|e| panic!("no whole answer, but {text:?}: {e}"));
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status in {head:?}"));
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// Reads the head alone; what follows stays to be read.
    pub(crate) fn read_head(peer: &mut impl std::io::Read) -> Self {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            let read = peer.read(&mut byte).unwrap_or_else(|e| panic!("no whole head, but {head:?}: {e}"));
            assert_eq!(read, 1, "an end after {:?}", String::from_utf8_lossy(&head));
            head.push(byte[0]);
        }
        Self::read(&mut &head[..])
    }

    /// A header's value, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut headers = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        headers.find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }
}

/// Waits for a condition as [`tidings_testkit::wait_until`] does, for as long as anything may take.
pub(crate) fn eventually(what: &str, condition: impl FnMut() -> bool) {
    tidings_testkit::wait_until(PATIENCE, what, condition);
}
