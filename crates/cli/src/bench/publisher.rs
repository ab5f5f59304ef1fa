//! A publisher: one connection in RESP, as a backend would publish, with one thread that writes and one that takes
//! the answers.
//!
//! Invariants: a message is stamped with the moment it was due, not the one it was written at, so that a publisher
//! that falls behind shows as latency (and not as fewer, faster messages); what is written is never written twice.

use std::io::{self, Read as _, Write as _};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use tidings_wire::line::{self, Scan};
use tidings_wire::resp::{self, Value};

use super::dialect::hello;
use super::payload::{MAX_MESSAGES, Stamp};
use super::run::Run;
use super::socket::{Socket, Target};

/// How many messages go into one write at most.
const BATCH: u64 = 256;
/// How long a read or write may take before the thread looks whether the run is over.
const GLANCE: Duration = Duration::from_millis(100);
/// How long the server may take to greet.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// When a publisher's messages are due.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pace {
    /// As soon as the window has room.
    Window,
    /// One after each such time.
    Every(Duration),
}

/// What a publisher is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task<'a> {
    pub(super) channel: &'a str,
    /// Bytes of a message.
    pub(super) size: usize,
    /// Its number, from 0 on.
    pub(super) publisher: u8,
    pub(super) pace: Pace,
    /// How many messages, if that is given.
    pub(super) messages: Option<u64>,
}

/// A connected publisher.
pub(super) struct Publisher {
    socket: Socket,
    /// The same connection, for the thread that reads.
    answers: Socket,
}

impl Publisher {
    /// Connects and greets.
    ///
    /// # Errors
    /// Nobody there, or a server that refuses, in words.
    pub(super) fn connect(target: &Target, key: Option<&str>) -> Result<Self, String> {
        let lost = |e: io::Error| format!("a publisher cannot be connected: {e}");
        let mut socket = Socket::connect(target).map_err(lost)?;
        socket.set_timeout(GREETING_TIMEOUT).map_err(lost)?;
        let mut greeting = Vec::new();
        hello(key, &mut greeting);
        socket.write_all(&greeting).map_err(lost)?;
        let mut answer = Vec::new();
        let mut buf = [0; 4096];
        loop {
            match resp::decode_value(&answer, MAX_ANSWER) {
                Ok(Some((Value::Error(words), _))) => {
                    return Err(format!("the server refused a publisher: {words}"));
                }
                Ok(Some(_)) => break,
                Ok(None) => match socket.read(&mut buf).map_err(lost)? {
                    0 => return Err("the server closed a publisher's connection".to_owned()),
                    n => answer.extend_from_slice(&buf[..n]),
                },
                Err(e) => return Err(format!("the server does not speak RESP: {e}")),
            }
        }
        socket.set_timeout(GLANCE).map_err(lost)?;
        Ok(Self { answers: socket.try_clone().map_err(lost)?, socket })
    }

    /// Publishes until the task is done or the run stopped, and gives how many messages were written whole. The
    /// answers are taken until all have come or the run is over.
    pub(super) fn publish(self, run: &Run, task: &Task<'_>) -> u64 {
        thread::scope(|scope| {
            let Self { mut socket, answers } = self;
            scope.spawn(|| take_answers(answers, run));
            let sent = match write_messages(&mut socket, run, task) {
                Ok(sent) => sent,
                Err((sent, why)) => {
                    broken(run, why);
                    sent
                }
            };
            run.finished.fetch_add(1, Ordering::SeqCst);
            sent
        })
    }
}

/// Writes messages, and gives how many; with an error also why no more.
fn write_messages(socket: &mut Socket, run: &Run, task: &Task<'_>) -> Result<u64, (u64, String)> {
    let most = task.messages.unwrap_or(MAX_MESSAGES);
    let begin = Instant::now();
    let mut sent = 0;
    let mut out = Vec::new();
    let mut payload = Vec::new();
    while sent < most {
        let (count, first_due, step) = match task.pace {
            Pace::Window => match run.take_room(BATCH.min(most - sent)) {
                Some(count) => (count, run.now(), 0),
                None => break,
            },
            Pace::Every(period) => {
                let Some(due) = wait_for(begin, period, sent, run) else { break };
                let behind = begin.elapsed().saturating_sub(due);
                let count = 1 + (behind.as_nanos() / period.as_nanos().max(1)) as u64;
                let count = count.min(BATCH).min(most - sent);
                run.sent.fetch_add(count, Ordering::SeqCst);
                let due = begin.duration_since(run.started) + due;
                (count, due.as_nanos() as u64, period.as_nanos() as u64)
            }
        };
        out.clear();
        for n in 0..count {
            let stamp = Stamp {
                run: run.id,
                publisher: task.publisher,
                sequence: sent + n,
                due: first_due + n * step,
            };
            payload.clear();
            stamp.write(task.size, &mut payload);
            resp::command(&[b"PUBLISH", task.channel.as_bytes(), &payload], &mut out);
        }
        write_all(socket, &out, run).map_err(|why| (sent, why))?;
        sent += count;
    }
    Ok(sent)
}

/// Waits until message number `n` is due, and gives when that is, after `begin`; `None` when the run was stopped.
fn wait_for(begin: Instant, period: Duration, n: u64, run: &Run) -> Option<Duration> {
    let due = Duration::from_nanos(u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).saturating_mul(n));
    loop {
        if run.is_stopped() {
            return None;
        }
        match due.checked_sub(begin.elapsed()) {
            None | Some(Duration::ZERO) => return Some(due),
            Some(left) => thread::sleep(left.min(GLANCE)),
        }
    }
}

fn write_all(socket: &mut Socket, mut bytes: &[u8], run: &Run) -> Result<(), String> {
    while !bytes.is_empty() {
        match socket.write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(e) if is_pause(&e) && !run.is_over() => {}
            Err(e) => return Err(format!("a publisher's connection was lost: {e}")),
        }
    }
    Ok(())
}

/// Counts the answers to publications. Each is one line: an integer, or an error.
fn take_answers(mut socket: Socket, run: &Run) {
    let mut buf = vec![0; 64 << 10];
    let mut held = Vec::new();
    while !(run.is_over() || run.is_answered()) {
        match socket.read(&mut buf) {
            Ok(0) => return broken(run, "the server closed a publisher's connection".to_owned()),
            Ok(n) => held.extend_from_slice(&buf[..n]),
            Err(e) if is_pause(&e) => continue,
            Err(e) => return broken(run, format!("a publisher's connection was lost: {e}")),
        }
        let (mut used, mut answers) = (0, 0);
        while let Scan::Line { line, used: length } = line::next(&held[used..], 0, MAX_ANSWER) {
            used += length;
            answers += 1;
            if let Some(words) = line.strip_prefix(b"-") {
                broken(run, format!("the server refused a publication: {}", String::from_utf8_lossy(words)));
            }
        }
        held.drain(..used);
        run.answered.fetch_add(answers, Ordering::SeqCst);
        run.progressed();
    }
}

fn broken(run: &Run, why: String) {
    run.complain(why);
    run.stop();
}

/// Whether a read or write merely took as long as it may.
fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
