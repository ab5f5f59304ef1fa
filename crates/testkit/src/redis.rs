//! A real `redis-server` for one test.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use crate::{GLANCE, PATIENCE, Reply, RespClient, free_port};

/// A `redis-server` on a free port of the loopback address, without persistence unless it is
/// [persistent](Self::persistent); killed on drop.
///
/// It can be killed and started again on the same port, for tests of reconnecting.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    extra: Vec<String>,
    sentinel: bool,
    persistent: bool,
    dir: TempDir,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts a server and waits until it responds.
    ///
    /// # Panics
    /// When `redis-server` is not in the `PATH` or does not start.
    pub fn start() -> Self {
        Self::start_with(&[] as &[&str])
    }

    /// Starts a server with further arguments, in the form of `redis-server`: `["--requirepass", "secret"]`,
    /// `["--user", "ann on >pw ~* &news:* +@all"]`.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_with(extra: &[impl AsRef<str>]) -> Self {
        let mut server = Self::absent_with(extra);
        server.restart();
        server
    }

    /// Reserves a port without starting a server until [`Self::restart`].
    pub fn absent() -> Self {
        Self::absent_with(&[] as &[&str])
    }

    /// Starts a server that keeps all its data over a restart, also when it is killed: every write is on the disk
    /// before its reply.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn persistent() -> Self {
        let mut server = Self::absent();
        server.persistent = true;
        server.restart();
        server
    }

    /// Starts a Sentinel without a monitored master: see `SENTINEL MONITOR`.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn sentinel() -> Self {
        let mut server = Self::absent();
        server.sentinel = true;
        server.restart();
        server
    }

    fn absent_with(extra: &[impl AsRef<str>]) -> Self {
        Self {
            port: free_port(),
            extra: extra.iter().map(|arg| arg.as_ref().to_owned()).collect(),
            sentinel: false,
            persistent: false,
            dir: TempDir::with_prefix("tidings-redis-").expect("a temporary directory"),
            child: None,
        }
    }

    /// The port, which is the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its URL, without credentials: `redis://127.0.0.1:6379`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr())
    }

    /// Whether it is running.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Kills it at once, like a crash. No effect if it is not running.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only for a process that has already ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it on its port and waits until it responds. Kills it first if it is running.
    ///
    /// # Panics
    /// When it does not start; the message contains its log.
    pub fn restart(&mut self) {
        self.kill();
        let log = File::create(self.dir.path().join("log")).expect("a log file");
        let mut command = Command::new("redis-server");
        if self.sentinel {
            // A Sentinel keeps its state in its configuration file, and does not start without one.
            let conf = self.dir.path().join("sentinel.conf");
            std::fs::write(&conf, "").expect("a configuration file");
            command.arg(conf).arg("--sentinel");
        } else if self.persistent {
            command.args(["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
        } else {
            command.args(["--save", "", "--appendonly", "no"]);
        }
        let child = command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no"])
            .arg("--dir")
            .arg(self.dir.path())
            .args(&self.extra)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("redis-server on the PATH");
        self.child = Some(child);
        let end = Instant::now() + PATIENCE;
        while !self.answers() {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(
                ended.is_none() && Instant::now() < end,
                "redis-server did not start on port {}:\n{}",
                self.port,
                self.log()
            );
            std::thread::sleep(GLANCE);
        }
    }

    /// Restarts it with further arguments, in the form of [`Self::start_with`].
    ///
    /// # Panics
    /// As [`Self::restart`].
    pub fn restart_with(&mut self, extra: &[impl AsRef<str>]) {
        self.extra.extend(extra.iter().map(|arg| arg.as_ref().to_owned()));
        self.restart();
    }

    /// The log since its last start.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A new connection to it, as the default user.
    ///
    /// # Panics
    /// When it is not running.
    pub fn client(&self) -> RespClient {
        RespClient::connect(self.addr())
    }

    /// Runs one command on a new connection: `redis.cli(&["PUBLISH", "updates", "hi"])`.
    ///
    /// # Panics
    /// When it is not running.
    pub fn cli(&self, command: &[impl AsRef<[u8]>]) -> Reply {
        self.client().command(command)
    }

    /// The ids of the clients with this prefix in their names (`CLIENT LIST`); for `CLIENT KILL ID`.
    ///
    /// # Panics
    /// When it is not running, or requires a password.
    pub fn client_ids(&self, name_begins: &str) -> Vec<String> {
        let list = self.cli(&["CLIENT", "LIST"]).text();
        let field = |line: &str, key: &str| {
            line.split(' ').find_map(|pair| pair.strip_prefix(key).map(ToOwned::to_owned)).unwrap_or_default()
        };
        list.lines()
            .filter(|line| field(line, "name=").starts_with(name_begins))
            .map(|line| field(line, "id="))
            .collect()
    }

    /// Whether it responds to a PING, even with an error that requires a password; `false` while it loads its data.
    fn answers(&self) -> bool {
        let Ok(mut client) = RespClient::try_connect(self.addr()) else { return false };
        client.send(&["PING"]);
        match client.try_reply() {
            Ok(Reply::Error(error)) => !error.starts_with("LOADING"),
            Ok(Reply::Simple(_)) => true,
            _ => false,
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
