//! A command of the program as a process: started in a clean environment, with collected output, killed on drop.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tidings_testkit::{PATIENCE, Tidings, wait_until};

/// The built program.
pub(crate) const TIDINGS: &str = env!("CARGO_BIN_EXE_tidings");

/// A server with free ports.
pub(crate) fn server(flags: &[&str]) -> Tidings {
    Tidings::start(TIDINGS, flags)
}

/// The program with arguments and without the settings of this process.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(TIDINGS);
    command.args(args);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDINGS_") || name == "NO_COLOR" {
            command.env_remove(name);
        }
    }
    command
}

/// The result of a command.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text on stdout")
    }

    /// Asserts that it failed with this exit code and one line on stderr that contains all of `words`.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "one line on stderr: {self:?}");
        assert!(self.stderr.starts_with("tidings: "), "{self:?}");
        assert_eq!(self.text(), "", "nothing on stdout");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is missing: {self:?}");
        }
    }
}

/// Runs a command to its end, with `input` on its stdin.
pub(crate) fn run(args: &[&str], input: &[u8]) -> Done {
    let mut tool = Tool::start(command(args));
    let mut stdin = tool.stdin.take().expect("a piped stdin");
    let input = input.to_vec();
    let writer = thread::spawn(move || {
        // A command that needs no input may have ended already.
        let _ = stdin.write_all(&input);
    });
    let done = tool.finish();
    writer.join().expect("a writer that does not panic");
    done
}

/// A running command; killed on drop.
pub(crate) struct Tool {
    child: Child,
    /// Taken by a writer; its drop is the end of input.
    pub(crate) stdin: Option<ChildStdin>,
    out: Arc<Mutex<Vec<u8>>>,
    err: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Tool {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (out, err) = (Arc::default(), Arc::default());
        let readers = vec![
            collect(child.stdout.take().expect("a piped stdout"), Arc::clone(&out)),
            collect(child.stderr.take().expect("a piped stderr"), Arc::clone(&err)),
        ];
        Self { stdin: child.stdin.take(), child, out, err, readers }
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.out.lock().unwrap()).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.err.lock().unwrap()).into_owned()
    }

    /// Waits until stdout has this many lines, and returns them.
    pub(crate) fn lines(&self, count: usize) -> Vec<String> {
        wait_until(PATIENCE, &format!("{count} lines on stdout"), || self.stdout().lines().count() >= count);
        self.stdout().lines().map(str::to_owned).collect()
    }

    /// Waits until stderr contains `text`.
    pub(crate) fn wait_for_stderr(&self, text: &str) {
        wait_until(PATIENCE, &format!("{text:?} on stderr"), || self.stderr().contains(text));
    }

    /// Kills it and all processes that it has started. Requires that it was started in its own process group.
    pub(crate) fn kill_group(&self) {
        // Fails only if all have already ended.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a process to signal");
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Done {
        let status = self.wait();
        self.readers.drain(..).for_each(|reader| reader.join().expect("a reader that does not panic"));
        let stdout = self.out.lock().unwrap().clone();
        Done { code: status.code(), stdout, stderr: self.stderr() }
    }

    fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child to ask") {
                return status;
            }
            assert!(
                Instant::now() < end,
                "it still runs; it said {:?} and {:?}",
                self.stdout(),
                self.stderr()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        // Both fail only for a process that has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(from: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        loop {
            let bytes = from.fill_buf().expect("a pipe to read").to_vec();
            if bytes.is_empty() {
                return;
            }
            from.consume(bytes.len());
            into.lock().unwrap().extend(bytes);
        }
    })
}
