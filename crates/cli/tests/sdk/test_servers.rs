//! The environment of a scenario script: servers, and a link that can be cut. The script is a process. A line `>cut` on
//! its standard output cuts the link, `>silence` makes the link discard everything, `>resume` ends that,
//! `>kill` kills the second node; the response is `done`.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidings_testkit::{Proxy, RedisServer, Tidings, metric};

use crate::application::Application;

/// The built program.
pub(crate) const TIDINGS: &str = env!("CARGO_BIN_EXE_tidings");
/// The keys in `keyed.toml`.
pub(crate) const SECRET: &str = "a secret for these tests alone, long enough";
pub(crate) const API_KEY: &str = "the backend of these tests";

/// The timeout of all scenarios of a script.
const WHOLE: Duration = Duration::from_secs(300);

/// Two servers, and a link to one of them.
pub(crate) struct TestServers {
    /// A server with the options of `open.toml`.
    open: Tidings,
    /// A server with the options of `keyed.toml`.
    keyed: Tidings,
    /// Another node with these options on the same Redis, until it is killed.
    second: RefCell<Option<Tidings>>,
    /// The link to `keyed`, or to the second node where there is one.
    link: Proxy,
    /// The application behind the shared polls of `keyed`.
    application: Application,
    /// The certificate of both servers, with TLS.
    certificate: Option<TempDir>,
    /// The Redis of two nodes.
    _redis: Option<RedisServer>,
}

impl TestServers {
    /// Starts the servers.
    pub(crate) fn start() -> Self {
        Self::made(None, &[])
    }

    /// Starts the servers with these additional options, each `KEY=VALUE`.
    pub(crate) fn with(more: &[&str]) -> Self {
        Self::made(None, more)
    }

    /// Starts the servers with TLS.
    pub(crate) fn start_tls() -> Self {
        let dir = TempDir::new().expect("a folder");
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        std::fs::write(dir.path().join("cert.pem"), made.cert.pem()).expect("a file");
        std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).expect("a file");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let certificate = format!("tls.cert_pem_file={}", path("cert.pem"));
        let key = format!("tls.key_pem_file={}", path("key.pem"));
        Self::made(Some(dir), &["tls.enabled=true", &certificate, &key])
    }

    /// Starts the servers, with two nodes of the keyed one on one Redis: clients are connected to both in turn, those
    /// with the link to the second one, and the API is called at the first one.
    pub(crate) fn two_nodes() -> Self {
        let redis = RedisServer::start();
        let broker = format!("broker={}", redis.url());
        let servers = Self::made(None, &[]);
        let values = servers.application.option();
        let [keyed, second] = [(); 2].map(|()| node("keyed", &["--set", &broker, "--set", &values]));
        let link = Proxy::to(second.http());
        Self { keyed, second: RefCell::new(Some(second)), link, _redis: Some(redis), ..servers }
    }

    fn made(certificate: Option<TempDir>, more: &[&str]) -> Self {
        let application = Application::start();
        let values = application.option();
        let mut flags: Vec<_> = more.iter().flat_map(|option| ["--set", option]).collect();
        let open = node("open", &flags);
        flags.extend(["--set", &values]);
        let keyed = node("keyed", &flags);
        let link = Proxy::to(keyed.http());
        Self { open, keyed, second: RefCell::default(), link, application, certificate, _redis: None }
    }

    /// Bytes of publications `before` or `after` compression.
    pub(crate) fn deflated(&self, side: &str) -> u64 {
        self.metric(&format!("tidings_websocket_deflated_bytes_total{{side=\"{side}\"}}"))
    }

    /// Bytes of compressed messages that clients sent.
    pub(crate) fn inflated(&self) -> u64 {
        self.metric("tidings_websocket_inflated_bytes_total{side=\"before\"}")
    }

    /// The sum of a line of `/metrics` over both servers.
    fn metric(&self, name: &str) -> u64 {
        [&self.open, &self.keyed].into_iter().map(|server| metric(server.http(), name)).sum()
    }

    /// The addresses for a script.
    fn addresses(&self) -> Value {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        let cut = format!("{scheme}://{}/", self.link.addr());
        let keyed = match &*self.second.borrow() {
            Some(second) => json!([self.keyed.http_url(), second.http_url()]),
            None => self.keyed.http_url().into(),
        };
        json!({
            "servers": { "open": self.open.http_url(), "keyed": keyed, "cut": cut },
            "api": self.keyed.http_url(),
            "lines": { "open": self.open.tcp().to_string(), "keyed": self.keyed.tcp().to_string() },
            "secret": SECRET,
            "apiKey": API_KEY,
        })
    }

    /// Runs a script to its end, and executes its requests.
    ///
    /// # Panics
    /// When it fails, with its output.
    pub(crate) fn run(&self, mut command: Command, args: &[&str]) {
        if let Some(dir) = &self.certificate {
            let certificate = dir.path().join("cert.pem");
            // The certificates that Node trusts besides its own list, and that OpenSSL trusts, which Python uses.
            command.env("NODE_EXTRA_CA_CERTS", &certificate).env("SSL_CERT_FILE", &certificate);
        }
        let mut child = command
            .arg(self.addresses().to_string())
            .args(args)
            // Restricts a manual run to the scenarios whose names contain this text.
            .args(std::env::var_os("TIDINGS_SCENARIO"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let mut stdin = child.stdin.take().expect("a piped stdin");
        let stdout = lines(child.stdout.take().expect("a piped stdout"));
        let stderr = lines(child.stderr.take().expect("a piped stderr"));
        let mut child = Killed(child);
        let end = Instant::now() + WHOLE;
        let mut said = String::new();
        while let Ok(line) = stdout.recv_timeout(end.saturating_duration_since(Instant::now())) {
            match line.strip_prefix('>') {
                None => said.push_str(&(line + "\n")),
                Some(order) => {
                    self.obey(order);
                    // Fails if the script has just ended.
                    let _ = stdin.write_all(b"done\n");
                }
            }
        }
        assert!(Instant::now() < end, "{command:?}: no end after {WHOLE:?}\n{said}");
        let status = child.0.wait().expect("a child to wait for");
        let errors: Vec<String> = stderr.into_iter().collect();
        assert!(status.success(), "{command:?}: {status}\n{said}{}", errors.join("\n"));
    }

    fn obey(&self, order: &str) {
        match order {
            "cut" => self.link.cut(),
            "silence" => self.link.black_hole(),
            "resume" => self.link.resume(),
            // Without a signal that it could handle.
            "kill" => drop(self.second.take()),
            other => match other.strip_prefix("values ") {
                Some(values) => self.application.set(values),
                None => panic!("the script asks for {other:?}"),
            },
        }
    }
}

/// Starts a server with the options of a file of this folder and further flags.
fn node(options: &str, flags: &[&str]) -> Tidings {
    let file = root().join(format!("crates/cli/tests/sdk/{options}.toml"));
    let mut all = vec!["--config", file.to_str().expect("a path in UTF-8")];
    all.extend(flags);
    Tidings::start(TIDINGS, &all)
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the repository is there")
}

/// A process that is killed on drop.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only for a process that has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lines as they arrive; disconnected at the end of the input.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
