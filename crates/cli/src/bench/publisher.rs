//! A publisher: one connection, with one thread that writes and one that reads responses. It uses RESP on the line
//! port, as a backend would, the client protocol in Protobuf over a WebSocket where there is no line port, or MQTT with other brokers.
//!
//! Invariants: a message is stamped with its due time, not its write time, so that a slow publisher is visible as
//! latency (and not as fewer, faster messages); no byte is written twice.

use std::io::{self, Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tidings_client::Web;
use tidings_mqtt::PacketId;
use tidings_wire::client::reply::Outcome;
use tidings_wire::client::request::{self, Command, Request};
use tidings_wire::client::{Data, Encoding};
use tidings_wire::line::{self, Scan};
use tidings_wire::resp::{self, Value};
use tidings_wire::ws::{self, Opcode};

use super::dialect::{MASK, hello, websocket_frame};
use super::handshake::{Connected, TransportRequest};
use super::mqtt;
use super::payload::{MAX_MESSAGES, Stamp};
use super::run::BenchRun;
use super::socket::{Socket, Target};

/// The most messages in one write.
const BATCH: u64 = 256;
/// The timeout of a read or write, after which the thread checks whether the run has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The timeout of the greeting.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest response, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// The due times of a publisher's messages.
#[derive(Clone, Copy, Debug)]
pub(super) enum Schedule {
    /// As soon as the window has room.
    Window,
    /// At this interval.
    Every(Duration),
}

/// The parameters of a publisher.
#[derive(Clone, Copy, Debug)]
pub(super) struct PublisherTask<'a> {
    pub(super) channel: &'a str,
    /// The size of a message in bytes.
    pub(super) size: usize,
    /// Its number, from 0.
    pub(super) publisher: u8,
    pub(super) pace: Schedule,
    /// The number of messages, if it is limited.
    pub(super) messages: Option<u64>,
}

/// A connected publisher.
pub(super) struct BenchPublisher {
    socket: Socket,
    /// The same connection, for the thread that reads.
    answers: Socket,
    protocol: PublisherProtocol,
    /// The bytes that followed the greeting.
    unread: Vec<u8>,
    /// Whether a ping needs a response, which the writing thread sends.
    pong_due: AtomicBool,
}

/// The protocol of a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PublisherProtocol {
    Resp,
    Protocol,
    Mqtt,
}

impl BenchPublisher {
    /// Connects and greets.
    ///
    /// # Errors
    /// An unreachable server, or one that rejects the publisher, as text.
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
        Self::new(socket, PublisherProtocol::Resp, Vec::new()).map_err(lost)
    }

    /// Connects over a WebSocket at `web`, which has the address `target`, with an optional token.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub(super) fn connect_web(target: &Target, web: &Web, token: Option<&str>) -> Result<Self, String> {
        let lost = |e: io::Error| format!("a publisher cannot be connected: {e}");
        let Connected { mut socket, unread: mut answer, .. } = TransportRequest::protobuf(web)
            .arrive(target)
            .map_err(|e| format!("a publisher cannot be connected: {e}"))?;
        socket.set_timeout(GREETING_TIMEOUT).map_err(lost)?;
        let connect =
            request::Connect { token: token.unwrap_or_default().into(), ..request::Connect::default() };
        let mut greeting = Vec::new();
        frame(&Command { id: 1, request: Request::Connect(connect) }, &mut greeting);
        socket.write_all(&greeting).map_err(lost)?;
        let mut buf = [0; 4096];
        loop {
            let mut welcome = None;
            let used = replies(&answer, |outcome| match outcome {
                Outcome::Connect(_) => welcome = Some(Ok(())),
                Outcome::Error(error) => welcome = Some(Err(error.message.into_owned())),
                _ => {}
            })?;
            answer.drain(..used);
            match welcome {
                Some(Ok(())) => return Self::new(socket, PublisherProtocol::Protocol, answer).map_err(lost),
                Some(Err(words)) => return Err(format!("the server refused a publisher: {words}")),
                None if used > 0 => {}
                None => match socket.read(&mut buf).map_err(lost)? {
                    0 => return Err("the server closed a publisher's connection".to_owned()),
                    n => answer.extend_from_slice(&buf[..n]),
                },
            }
        }
    }

    /// Connects with MQTT.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub(super) fn connect_mqtt(target: &Target, secret: Option<&str>) -> Result<Self, String> {
        let lost = |e: io::Error| format!("a publisher cannot be connected: {e}");
        let mut socket = Socket::connect(target).map_err(lost)?;
        socket.set_timeout(GREETING_TIMEOUT).map_err(lost)?;
        let mut greeting = Vec::new();
        mqtt::connect(secret, &mut greeting);
        socket.write_all(&greeting).map_err(lost)?;
        let mut answer = Vec::new();
        let mut buf = [0; 4096];
        loop {
            let answers = mqtt::answers(&answer);
            let (found, used) =
                answers.map_err(|words| format!("the server refused a publisher: {words}"))?;
            answer.drain(..used);
            if found.is_connected {
                return Self::new(socket, PublisherProtocol::Mqtt, answer).map_err(lost);
            }
            match socket.read(&mut buf).map_err(lost)? {
                0 => return Err("the server closed a publisher's connection".to_owned()),
                n => answer.extend_from_slice(&buf[..n]),
            }
        }
    }

    fn new(socket: Socket, protocol: PublisherProtocol, unread: Vec<u8>) -> io::Result<Self> {
        socket.set_timeout(POLL_INTERVAL)?;
        let answers = socket.try_clone()?;
        Ok(Self { socket, answers, protocol, unread, pong_due: AtomicBool::new(false) })
    }

    /// Publishes until the task is complete or the run is stopped. Returns the number of completely written messages.
    /// Responses are read until all have arrived or the run ends.
    pub(super) fn publish(self, run: &BenchRun, task: &PublisherTask<'_>) -> u64 {
        thread::scope(|scope| {
            scope.spawn(|| take_answers(&self.answers, self.protocol, self.unread, &self.pong_due, run));
            let mut pen = PublicationWriter {
                socket: &self.socket,
                protocol: self.protocol,
                pong_due: &self.pong_due,
                last_id: 1,
            };
            let sent = match pen.write_messages(run, task) {
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

/// Writes messages to a publisher's connection.
struct PublicationWriter<'a> {
    socket: &'a Socket,
    protocol: PublisherProtocol,
    pong_due: &'a AtomicBool,
    /// The number of the last command.
    last_id: u32,
}

impl PublicationWriter<'_> {
    /// Writes messages. Returns their number; an error also contains the cause.
    fn write_messages(&mut self, run: &BenchRun, task: &PublisherTask<'_>) -> Result<u64, (u64, String)> {
        let most = task.messages.unwrap_or(MAX_MESSAGES);
        let begin = Instant::now();
        let mut sent = 0;
        let mut out = Vec::new();
        let mut payload = Vec::new();
        while sent < most {
            let (count, first_due, step) = match task.pace {
                Schedule::Window => match run.take_room(BATCH.min(most - sent)) {
                    Some(count) => (count, run.now(), 0),
                    None => break,
                },
                Schedule::Every(period) => {
                    let waited = self.wait_for(begin, period, sent, run).map_err(|why| (sent, why))?;
                    let Some(due) = waited else { break };
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
                self.publish(task.channel, &payload, &mut out);
            }
            self.pong(&mut out);
            self.write_all(&out, run).map_err(|why| (sent, why))?;
            sent += count;
        }
        Ok(sent)
    }

    /// Appends one publication.
    fn publish(&mut self, channel: &str, body: &[u8], out: &mut Vec<u8>) {
        match self.protocol {
            PublisherProtocol::Mqtt => {
                // The window has fewer messages than there are identifiers.
                self.last_id = self.last_id % u32::from(u16::MAX) + 1;
                let id = u16::try_from(self.last_id).ok().and_then(PacketId::new);
                mqtt::publish(channel, id, body, out);
            }
            PublisherProtocol::Resp => resp::command(&[b"PUBLISH", channel.as_bytes(), body], out),
            PublisherProtocol::Protocol => {
                self.last_id = self.last_id.wrapping_add(1).max(1);
                let publish = request::Publish {
                    channel: channel.into(),
                    data: Some(Data::from(body)),
                    ..request::Publish::default()
                };
                frame(&Command { id: self.last_id, request: Request::Publish(publish) }, out);
            }
        }
    }

    /// Appends the response to a ping, if one is due.
    fn pong(&self, out: &mut Vec<u8>) {
        if self.pong_due.swap(false, Ordering::SeqCst) {
            frame(&Command { id: 0, request: Request::Pong }, out);
        }
    }

    /// Waits until message number `n` is due. Returns its due time relative to `begin`; `None` when the run was
    /// stopped.
    fn wait_for(
        &self,
        begin: Instant,
        period: Duration,
        n: u64,
        run: &BenchRun,
    ) -> Result<Option<Duration>, String> {
        let due =
            Duration::from_nanos(u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).saturating_mul(n));
        loop {
            if run.is_stopped() {
                return Ok(None);
            }
            let mut pong = Vec::new();
            self.pong(&mut pong);
            self.write_all(&pong, run)?;
            match due.checked_sub(begin.elapsed()) {
                None | Some(Duration::ZERO) => return Ok(Some(due)),
                Some(left) => thread::sleep(left.min(POLL_INTERVAL)),
            }
        }
    }

    fn write_all(&self, mut bytes: &[u8], run: &BenchRun) -> Result<(), String> {
        let mut socket = self.socket;
        while !bytes.is_empty() {
            match socket.write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(e) if is_pause(&e) && !run.is_over() => {}
                Err(e) => return Err(format!("a publisher's connection was lost: {e}")),
            }
        }
        Ok(())
    }
}

/// Appends a command of the client protocol in its own frame.
fn frame(command: &Command<'_>, out: &mut Vec<u8>) {
    let mut message = Vec::new();
    Encoding::Protobuf.write_command(command, &mut message);
    ws::masked_frame(Opcode::Binary, &message, MASK, out);
}

/// Passes the replies in the complete frames of `bytes` to `each`. Returns the length of these frames.
fn replies(bytes: &[u8], mut each: impl FnMut(Outcome<'_>)) -> Result<usize, String> {
    let mut used = 0;
    while let Some(frame) = websocket_frame(&bytes[used..], MAX_ANSWER)? {
        used += frame.used;
        if let Some(close) = frame.close() {
            return Err(close);
        }
        for message in Encoding::Protobuf.messages(frame.payload) {
            let reply = message.and_then(|message| Encoding::Protobuf.parse_reply(message));
            each(reply.map_err(|e| e.to_string())?.outcome);
        }
    }
    Ok(used)
}

/// Counts the responses to publications until all have arrived or the run ends.
fn take_answers(
    mut socket: &Socket,
    protocol: PublisherProtocol,
    mut held: Vec<u8>,
    pong_due: &AtomicBool,
    run: &BenchRun,
) {
    let mut buf = vec![0; 64 << 10];
    while !(run.is_over() || run.is_answered()) {
        match socket.read(&mut buf) {
            Ok(0) => return broken(run, "the server closed a publisher's connection".to_owned()),
            Ok(n) => held.extend_from_slice(&buf[..n]),
            Err(e) if is_pause(&e) => continue,
            Err(e) => return broken(run, format!("a publisher's connection was lost: {e}")),
        }
        let mut answers = 0;
        let taken = match protocol {
            PublisherProtocol::Resp => Ok(lines(&held, |refusal| {
                answers += 1;
                if let Some(words) = refusal {
                    broken(run, format!("the server refused a publication: {words}"));
                }
            })),
            PublisherProtocol::Mqtt => mqtt::answers(&held).map(|(found, used)| {
                answers = found.published;
                used
            }),
            PublisherProtocol::Protocol => replies(&held, |outcome| match outcome {
                Outcome::Publish => answers += 1,
                Outcome::Error(error) => {
                    answers += 1;
                    broken(run, format!("the server refused a publication: {}", error.message));
                }
                Outcome::Ping => pong_due.store(true, Ordering::SeqCst),
                _ => {}
            }),
        };
        match taken {
            Ok(used) => drop(held.drain(..used)),
            Err(why) => return broken(run, format!("a publisher's connection ended: {why}")),
        }
        run.answered.fetch_add(answers, Ordering::SeqCst);
        run.progressed();
    }
}

/// Passes the responses in the complete lines of RESP to `each`: an integer, or the text of an error. Returns the
/// length of these lines.
fn lines(bytes: &[u8], mut each: impl FnMut(Option<String>)) -> usize {
    let mut used = 0;
    while let Scan::Line { line, used: length } = line::next(&bytes[used..], 0, MAX_ANSWER) {
        used += length;
        each(line.strip_prefix(b"-").map(|words| String::from_utf8_lossy(words).into_owned()));
    }
    used
}

fn broken(run: &BenchRun, why: String) {
    run.record_error(why);
    run.stop();
}

/// Whether a read or write only timed out.
fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
