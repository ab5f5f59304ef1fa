//! A server in the process of the test, and HTTP requests to it. Included by each test of this crate that starts a server.
#![allow(dead_code, reason = "each test uses some of the functions")]

pub(crate) mod stream;
pub(crate) mod websocket;

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use tidings_config::{Config, Overrides, Sources};
use tidings_server::{PassedListeners, Readiness, Reloadable, Server};
use tidings_testkit::{HttpResponse, LineClient, PATIENCE, RespClient, wait_until};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// How long a server may take to stop when it is dropped. Longer than a drain without connections takes.
const DROP_TIMEOUT: Duration = Duration::from_millis(500);

/// The configuration with these options, each `KEY=VALUE`, or the error.
pub(crate) fn load(options: &[&str]) -> Result<Config, String> {
    tidings_config::load(None, [], &overrides(options)).map_err(|e| e.to_string())
}

fn overrides(options: &[&str]) -> Overrides {
    let mut overrides = Overrides::default();
    for option in options {
        overrides.set(option).unwrap_or_else(|e| panic!("{option}: {e}"));
    }
    overrides
}

/// A running server; stopped when dropped.
pub(crate) struct TestServer {
    pub(crate) runtime: Runtime,
    server: Option<Server>,
    announcements: Vec<String>,
}

impl TestServer {
    /// Starts a server on free ports of 127.0.0.1 with these options, each `KEY=VALUE`; a later value of a key replaces an
    /// earlier one.
    pub(crate) fn start(options: &[&str]) -> Self {
        Self::start_with_file(None, options)
    }

    /// As [`Self::start`], with a configuration file, which a reload reads again.
    pub(crate) fn start_with_file(file: Option<&Path>, options: &[&str]) -> Self {
        let ports: &[&str] = &["tcp.listen=127.0.0.1:0", "http.listen=127.0.0.1:0"];
        let sources =
            Sources::new(file.map(Path::to_owned), Vec::new(), overrides(&[ports, options].concat()));
        let config = sources.load().unwrap_or_else(|e| panic!("{e}")).config;
        let runtime = Runtime::new().expect("a runtime");
        let reloadable = Some(Reloadable { sources, loaded: config.clone() });
        let started =
            Server::start_reloadable(config, PassedListeners::default(), reloadable, Box::new(|_| {}));
        let server = runtime.block_on(started).unwrap_or_else(|e| panic!("{e}"));
        let announcements = server.announcements().to_vec();
        Self { runtime, server: Some(server), announcements }
    }

    /// The server itself.
    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().expect("a running server")
    }

    /// The first listener of a kind, as it is announced: `127.0.0.1:5567`, `http://127.0.0.1:8000/`.
    pub(crate) fn announced(&self, kind: &str) -> &str {
        let mut listeners = self.announcements.iter().filter_map(|line| line.split_once(' '));
        listeners.find(|(of, _)| *of == kind).unwrap_or_else(|| panic!("no {kind} listener")).1
    }

    /// The address of the line port.
    pub(crate) fn tcp(&self) -> SocketAddr {
        self.announced("tcp").parse().expect("an address")
    }

    /// The address of the HTTP port.
    pub(crate) fn http(&self) -> SocketAddr {
        let url = self.announced("http");
        let address = url.split_once("://").and_then(|(_, rest)| rest.strip_suffix('/'));
        address.unwrap_or_else(|| panic!("{url}")).parse().expect("an address")
    }

    /// A connection to the HTTP port.
    pub(crate) fn connect(&self) -> TcpStream {
        tidings_testkit::connect_http(self.http())
    }

    /// The response to a GET of this path.
    pub(crate) fn get(&self, path: &str) -> HttpResponse {
        tidings_testkit::get_http(self.http(), path)
    }

    /// The response to a POST with further headers, each `Name: value`.
    pub(crate) fn post(&self, path: &str, headers: &[&str], body: &str) -> HttpResponse {
        tidings_testkit::post_http(self.http(), path, headers, body)
    }

    /// The response to a request that is written out and contains `Connection: close`.
    pub(crate) fn send(&self, request: impl AsRef<[u8]>) -> HttpResponse {
        tidings_testkit::send_http(self.http(), request)
    }

    /// The value of a metric, with its labels as they are written.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        tidings_testkit::metric(self.http(), name)
    }

    /// A plain client of the line port.
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

    /// A RESP client of the line port.
    pub(crate) fn resp(&self) -> RespClient {
        RespClient::connect(self.tcp())
    }

    /// The readiness that `/ready` reports.
    pub(crate) fn readiness(&self) -> Readiness {
        self.server().readiness()
    }

    /// Waits until the broker carries publications.
    pub(crate) fn wait_until_ready(&self) {
        wait_until(PATIENCE, "the server to be ready", || matches!(self.readiness(), Readiness::Ready(_)));
    }

    /// Begins to stop the server; the task ends when the server has stopped.
    pub(crate) fn begin_stop(&mut self) -> JoinHandle<()> {
        self.runtime.spawn(self.server.take().expect("a running server").stop())
    }

    /// Stops the server and waits until it has stopped.
    pub(crate) fn stop(&mut self) {
        let stopping = self.begin_stop();
        self.runtime.block_on(stopping).expect("a stop without a panic");
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            let stop = async { tokio::time::timeout(DROP_TIMEOUT, server.stop()).await };
            let _ = self.runtime.block_on(stop);
        }
    }
}
