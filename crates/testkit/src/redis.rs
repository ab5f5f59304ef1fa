//! A real `redis-server` for one test.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use crate::{GLANCE, PATIENCE, Reply, RespClient, free_port};

/// A `redis-server` of one's own on a free port of the loopback address, without persistence unless it is
/// [persistent](Self::persistent); killed on drop.
///
/// It can be killed and started again on the same port, which is what a test of reconnecting needs.
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
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// When `redis-server` is not on the `PATH` or does not come up.
    pub fn start() -> Self {
        Self::start_with(&[] as &[&str])
    }

    /// Starts one with further arguments, in the form that `redis-server` takes them:
    /// `["--requirepass", "secret"]`, `["--user", "ann on >pw ~* &news:* +@all"]`.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn start_with(extra: &[impl AsRef<str>]) -> Self {
        let mut server = Self::absent_with(extra);
        server.restart();
        server
    }

    /// Reserves a port and starts nothing yet: a Redis that is absent until [`Self::restart`].
    pub fn absent() -> Self {
        Self::absent_with(&[] as &[&str])
    }

    /// Starts one that has all its data again after a restart, also when it was killed: every write is on the disk
    /// before it is answered.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn persistent() -> Self {
        let mut server = Self::absent();
        server.persistent = true;
        server.restart();
        server
    }

    /// Starts a Sentinel without a master to watch: see `SENTINEL MONITOR`.
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

    /// Its port, the same after a restart.
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

    /// Whether it was started and not killed since.
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Kills it at once, as a crash would; nothing happens when it is not running.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only for a process that is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it on its port, killing it first when it still runs, and waits until it answers.
    ///
    /// # Panics
    /// When it does not come up; the message holds its log.
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
                "redis-server did not come up on port {}:\n{}",
                self.port,
                self.log()
            );
            std::thread::sleep(GLANCE);
        }
    }

    /// The same with further arguments from now on, in the form of [`Self::start_with`].
    ///
    /// # Panics
    /// As [`Self::restart`].
    pub fn restart_with(&mut self, extra: &[impl AsRef<str>]) {
        self.extra.extend(extra.iter().map(|arg| arg.as_ref().to_owned()));
        self.restart();
    }

    /// What it has logged since it was last started.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// A new connection to it, as its default user.
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

    /// The ids of the clients whose names have this prefix (`CLIENT LIST`); for `CLIENT KILL ID`.
    ///
    /// # Panics
    /// When it is not running, or asks for a password.
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

    /// Whether it answers a PING, be it with a demand for a password; not while it reads its data.
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
