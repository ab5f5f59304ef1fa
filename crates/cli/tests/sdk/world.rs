//! What a script of scenarios needs: servers, and a link that can be cut. The script is a process; a line `>cut` on its
//! standard output has the link cut, `>silence` has it swallow everything, `>resume` ends that; the answer is `done`.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidings_testkit::{Proxy, Tidings, metric};

/// The built program.
pub(crate) const TIDINGS: &str = env!("CARGO_BIN_EXE_tidings");
/// The keys in `keyed.toml`.
pub(crate) const SECRET: &str = "a secret for these tests alone, long enough";
pub(crate) const API_KEY: &str = "the backend of these tests";

/// How long all scenarios of a script may take.
const WHOLE: Duration = Duration::from_secs(300);

/// Two servers, and a link to one of them.
pub(crate) struct World {
    /// With the options of `open.toml`.
    open: Tidings,
    /// With the options of `keyed.toml`.
    keyed: Tidings,
    /// In front of `keyed`.
    link: Proxy,
    /// The certificate of both, where they speak TLS.
    certificate: Option<TempDir>,
}

impl World {
    /// Starts them.
    pub(crate) fn start() -> Self {
        Self::made(None, &[])
    }

    /// Starts them with these options as well, each `KEY=VALUE`.
    pub(crate) fn with(more: &[&str]) -> Self {
        Self::made(None, more)
    }

    /// Starts them with TLS.
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

    fn made(certificate: Option<TempDir>, more: &[&str]) -> Self {
        let [open, keyed] = ["open", "keyed"].map(|name| {
            let options = root().join(format!("crates/cli/tests/sdk/{name}.toml"));
            let mut flags = vec!["--config", options.to_str().expect("a path in UTF-8")];
            flags.extend(more.iter().flat_map(|option| ["--set", option]));
            Tidings::start(TIDINGS, &flags)
        });
        let link = Proxy::to(keyed.http());
        Self { open, keyed, link, certificate }
    }

    /// Bytes of publications `before` or `after` they were compressed.
    pub(crate) fn deflated(&self, side: &str) -> u64 {
        self.metric(&format!("tidings_websocket_deflated_bytes_total{{side=\"{side}\"}}"))
    }

    /// Bytes of compressed messages that clients sent.
    pub(crate) fn inflated(&self) -> u64 {
        self.metric("tidings_websocket_inflated_bytes_total{side=\"before\"}")
    }

    /// What a line of `/metrics` that begins like this says, of both servers together.
    fn metric(&self, name: &str) -> u64 {
        [&self.open, &self.keyed].into_iter().map(|server| metric(server.http(), name)).sum()
    }

    /// Where everything is, for a script.
    fn place(&self) -> Value {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        let cut = format!("{scheme}://{}/", self.link.addr());
        json!({
            "servers": { "open": self.open.http_url(), "keyed": self.keyed.http_url(), "cut": cut },
            "secret": SECRET,
            "apiKey": API_KEY,
        })
    }

    /// Runs a script to its end, obeying it.
    ///
    /// # Panics
    /// When it fails: with what it said.
    pub(crate) fn run(&self, mut command: Command, args: &[&str]) {
        if let Some(dir) = &self.certificate {
            let certificate = dir.path().join("cert.pem");
            // What Node trusts besides its own list, and what OpenSSL does, which Python uses.
            command.env("NODE_EXTRA_CA_CERTS", &certificate).env("SSL_CERT_FILE", &certificate);
        }
        let mut child = command
            .arg(self.place().to_string())
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
                    // Nobody reads it when the script has just ended.
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
            other => panic!("the script asks for {other:?}"),
        }
    }
}

/// The repository.
pub(crate) fn root() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the repository is there")
}

/// Where `make test-tools` has put the SDKs.
pub(crate) fn tools() -> PathBuf {
    let tools = std::env::var_os("TIDINGS_TEST_TOOLS").map(PathBuf::from);
    let tools = tools.unwrap_or_else(|| root().join(".test-tools"));
    for folder in ["sdk-node", "sdk-python", "stomp-node", "stomp-python", "browser"] {
        assert!(tools.join(folder).exists(), "{folder} is missing in {tools:?}: run `make test-tools` once");
    }
    tools
}

/// A process that does not outlive the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Both fail only for one that is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lines as they come; disconnected when there are no more.
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
