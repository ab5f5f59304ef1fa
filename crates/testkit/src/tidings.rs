//! The built program, started as by a user.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{GLANCE, PATIENCE, wait_until};

/// The most bytes of standard error that are kept, from its beginning.
const MAX_STDERR: usize = 4 << 20;

/// The command line `binary serve`, with further arguments and variables.
#[derive(Debug)]
pub struct Builder {
    binary: PathBuf,
    args: Vec<OsString>,
    env: Vec<(String, String)>,
}

impl Builder {
    /// Adds flags: `["--tcp", "127.0.0.1:0"]`.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable in its environment: `("TIDINGS_TCP_ECHO", "false")`.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it and waits until it prints `ready`.
    ///
    /// # Panics
    /// When it ends or is not ready within [`PATIENCE`]; the message contains its standard error.
    pub fn start(self) -> Tidings {
        let mut tidings = self.spawn();
        let end = Instant::now() + PATIENCE;
        while !tidings.stdout_lines().iter().any(|line| line == "ready") {
            let ended = tidings.child.try_wait().expect("a child to ask");
            assert!(
                ended.is_none() && Instant::now() < end,
                "not ready ({ended:?}); its output is {:?} and\n{}",
                tidings.stdout_lines(),
                tidings.stderr()
            );
            std::thread::sleep(GLANCE);
        }
        tidings
    }

    /// Starts it and waits until it has ended: for flags and files that it must reject. Returns its exit code, its
    /// standard output and its standard error.
    ///
    /// # Panics
    /// When it is still running after [`PATIENCE`], or a signal ended it.
    pub fn run_to_end(self) -> (i32, String, String) {
        let mut tidings = self.spawn();
        let code = tidings.wait();
        (code, tidings.stdout_lines().join("\n"), tidings.stderr())
    }

    /// Variables that prevent the use of default ports, which may be in use: for each listener that neither the
    /// arguments nor the environment of the test sets. A configuration file sets its own listeners.
    fn free_ports(&self) -> Vec<(&'static str, &'static str)> {
        let names = |listener: &str, variable: &str| {
            let (flag, option) = (format!("--{listener}"), format!("{listener}.listen="));
            let mut args = self.args.iter().map(|arg| arg.to_string_lossy());
            let mut env = self.env.iter().map(|(name, _)| name.as_str());
            args.any(|arg| arg == "--config" || arg == flag.as_str() || arg.starts_with(&option))
                || env.any(|name| {
                    name == "TIDINGS_CONFIG" || name.strip_suffix("_LISTEN").unwrap_or(name) == variable
                })
        };
        let listeners = [("tcp", "TIDINGS_TCP"), ("http", "TIDINGS_HTTP")].into_iter();
        listeners
            .filter(|(listener, variable)| !names(listener, variable))
            .map(|(_, name)| (name, "127.0.0.1:0"))
            .collect()
    }

    /// Starts it in an empty directory, without the settings of this process and without default ports.
    fn spawn(self) -> Tidings {
        let dir = TempDir::with_prefix("tidings-test-").expect("a temporary directory");
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TIDINGS_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .arg("serve")
            .args(&self.args)
            // Its data is removed with the directory.
            .env_remove("STATE_DIRECTORY")
            .env("XDG_DATA_HOME", dir.path().join("data"))
            .envs(self.free_ports())
            .envs(self.env)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{} does not start: {e}", self.binary.display()));
        let (out, err) = (Arc::default(), Arc::default());
        let stdout = child.stdout.take().expect("a piped stdout");
        let stderr = child.stderr.take().expect("a piped stderr");
        let readers = vec![
            std::thread::spawn({
                let out = Arc::clone(&out);
                move || collect_lines(stdout, &out)
            }),
            std::thread::spawn({
                let err = Arc::clone(&err);
                move || collect_bytes(stderr, &err)
            }),
        ];
        Tidings { child, out, err, readers, _dir: dir }
    }
}

/// The running program; killed on drop. If the test is panicking, its standard error is printed.
#[derive(Debug)]
pub struct Tidings {
    child: Child,
    out: Arc<Mutex<Vec<String>>>,
    err: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
    _dir: TempDir,
}

impl Tidings {
    /// Prepares a start of the program at this path: `env!("CARGO_BIN_EXE_tidings")` in the tests of the `cli` crate.
    pub fn builder(binary: impl AsRef<Path>) -> Builder {
        Builder { binary: binary.as_ref().to_owned(), args: Vec::new(), env: Vec::new() }
    }

    /// Starts `binary serve --tcp 127.0.0.1:0 --http 127.0.0.1:0` with further flags.
    ///
    /// # Panics
    /// As [`Builder::start`].
    pub fn start(binary: impl AsRef<Path>, flags: &[&str]) -> Self {
        Self::builder(binary).args(["--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0"]).args(flags).start()
    }

    /// The lines of its standard output so far.
    pub fn stdout_lines(&self) -> Vec<String> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.err.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits until its log contains `text`.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`].
    pub fn wait_for_log(&self, text: &str) {
        wait_until(PATIENCE, &format!("{text:?} in the log"), || self.stderr().contains(text));
    }

    /// The addresses that it printed after this word: `tcp` or `http`.
    pub fn listeners(&self, kind: &str) -> Vec<String> {
        let lines = self.stdout_lines();
        lines
            .iter()
            .filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' ').map(ToOwned::to_owned))
            .collect()
    }

    /// The address of its first TCP port.
    ///
    /// # Panics
    /// When it has none.
    pub fn tcp(&self) -> SocketAddr {
        let listeners = self.listeners("tcp");
        listeners.iter().find_map(|text| text.parse().ok()).expect("a TCP port")
    }

    /// The URL of its first HTTP port, with a trailing slash.
    ///
    /// # Panics
    /// When it has none.
    pub fn http_url(&self) -> String {
        self.listeners("http").into_iter().next().expect("an HTTP port")
    }

    /// The address of its first HTTP port.
    ///
    /// # Panics
    /// When it has none.
    pub fn http(&self) -> SocketAddr {
        let url = self.http_url();
        let (_, addr) = url.split_once("://").unwrap_or_else(|| panic!("no scheme in {url}"));
        let addr = addr.trim_end_matches('/');
        addr.parse().unwrap_or_else(|e| panic!("no address in {url}: {e}"))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its memory in bytes with a proportional share of shared memory (PSS, from `/proc/PID/smaps_rollup`).
    ///
    /// # Panics
    /// When it has ended.
    pub fn pss(&self) -> u64 {
        self.proc_kilobytes("smaps_rollup", "Pss:")
    }

    /// Its resident memory in bytes (`VmRSS` in `/proc/PID/status`).
    ///
    /// # Panics
    /// When it has ended.
    pub fn rss(&self) -> u64 {
        self.proc_kilobytes("status", "VmRSS:")
    }

    /// Sends it a signal: [`crate::Signal`].
    ///
    /// # Panics
    /// When it has ended.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a process to signal");
    }

    /// Sends `SIGTERM`, waits for the end and returns the exit code.
    ///
    /// # Panics
    /// When it is still running after [`PATIENCE`], or a signal ended it.
    pub fn terminate(&mut self) -> i32 {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for its end and returns the exit code. Its output is then complete.
    ///
    /// # Panics
    /// When it is still running after [`PATIENCE`], or a signal ended it.
    pub fn wait(&mut self) -> i32 {
        let status = self.wait_status(PATIENCE);
        self.readers.drain(..).for_each(|reader| reader.join().expect("a reader that does not panic"));
        status.code().unwrap_or_else(|| panic!("it was ended by a signal: {status}"))
    }

    fn wait_status(&mut self, deadline: Duration) -> ExitStatus {
        let end = Instant::now() + deadline;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child to ask") {
                return status;
            }
            assert!(Instant::now() < end, "it still runs after {deadline:?}");
            std::thread::sleep(GLANCE);
        }
    }

    /// The number of kilobytes after `key` in one of its files under `/proc`, in bytes.
    fn proc_kilobytes(&self, file: &str, key: &str) -> u64 {
        let path = format!("/proc/{}/{file}", self.pid());
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
        value.unwrap_or_else(|| panic!("no {key} in {path}")) * 1024
    }
}

impl Drop for Tidings {
    fn drop(&mut self) {
        // Both fail only for a process that has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- standard error of tidings ---\n{}---", self.stderr());
        }
    }
}

fn collect_lines(from: impl Read, into: &Mutex<Vec<String>>) {
    for line in BufReader::new(from).lines() {
        let Ok(line) = line else { return };
        into.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

fn collect_bytes(mut from: impl Read, into: &Mutex<Vec<u8>>) {
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut chunk) {
        let mut kept = into.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_STDERR.saturating_sub(kept.len());
        kept.extend_from_slice(&chunk[..n.min(room)]);
    }
}
