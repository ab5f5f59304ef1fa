//! A server in this process, on free ports.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidings_server::config::{self, Overrides};
use tidings_server::{Readiness, Server};
use tidings_testkit::{LineClient, PATIENCE, RespClient, wait_until};
use tokio::runtime::Runtime;

/// A running server; stopped at once when dropped.
pub(crate) struct Up {
    runtime: Runtime,
    server: Option<Server>,
}

/// Starts a server with these options over the defaults.
pub(crate) fn up(options: &[(&str, &str)]) -> Up {
    let mut overrides = Overrides::default();
    for (key, value) in [("tcp.listen", "127.0.0.1:0"), ("http.listen", "127.0.0.1:0"), ("shards", "2")] {
        if options.iter().all(|(k, _)| *k != key) {
            overrides.set(&format!("{key}={value}")).expect("an option");
        }
    }
    for (key, value) in options {
        overrides.set(&format!("{key}={value}")).expect("an option");
    }
    let config = config::load(None, [], &overrides).expect("a good configuration");
    let runtime = Runtime::new().expect("a runtime");
    let server = runtime.block_on(Server::start(config)).expect("a server");
    Up { runtime, server: Some(server) }
}

/// Starts a server as the articles' part III has it.
pub(crate) fn quiet(options: &[(&str, &str)]) -> Up {
    let mut all = vec![("tcp.echo", "false"), ("tcp.auto_subscribe", "")];
    all.extend_from_slice(options);
    up(&all)
}

impl Up {
    fn server(&self) -> &Server {
        self.server.as_ref().expect("running")
    }

    fn address(&self, kind: &str) -> SocketAddr {
        let line = self.server().announcements().iter().find(|l| l.starts_with(kind)).expect("a listener");
        let address = line.rsplit_once(' ').expect("an address").1;
        address.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address")
    }

    pub(crate) fn tcp(&self) -> SocketAddr {
        self.address("tcp")
    }

    pub(crate) fn line(&self) -> LineClient {
        LineClient::connect(self.tcp())
    }

    /// A plain client that is subscribed to `channel`.
    pub(crate) fn subscriber(&self, channel: &str) -> LineClient {
        let mut client = self.line();
        client.send(&format!("SUBSCRIBE {channel}"));
        client.expect("CONFIRMED");
        client
    }

    pub(crate) fn resp(&self) -> RespClient {
        RespClient::connect(self.tcp())
    }

    pub(crate) fn readiness(&self) -> Readiness {
        self.server().node().readiness()
    }

    pub(crate) fn wait_until_ready(&self) {
        wait_until(PATIENCE, "the server to be ready", || matches!(self.readiness(), Readiness::Ready(_)));
    }

    /// The status and the body of a GET.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let address = self.address("http");
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, b)| b).to_owned();
        (status, body)
    }

    /// The sum of a counter over the shards.
    pub(crate) fn sum(&self, of: impl Fn(&tidings_shard::Metrics) -> &AtomicU64) -> u64 {
        self.server().node().shards.iter().map(|m| of(m).load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn connections(&self) -> usize {
        self.server().node().process.connections.load(Ordering::Relaxed)
    }

    /// Bytes in all queues.
    pub(crate) fn queued(&self) -> usize {
        self.server().node().process.queued.load(Ordering::Relaxed)
    }

    /// Stops in the orderly way.
    pub(crate) fn stop(mut self) {
        let server = self.server.take().expect("running");
        self.runtime.block_on(server.stop());
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            let stop = async { tokio::time::timeout(Duration::from_millis(500), server.stop()).await };
            let _ = self.runtime.block_on(stop);
        }
    }
}
