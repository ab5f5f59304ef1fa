//! The output of one viewer's connection: responses, views, pings, and the Close frame.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidings_wire::ws::{self, CloseCode, Opcode};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Service;
use crate::broadcast::{End, Form, ViewBroadcast, ViewCursor};
use crate::message;
use crate::outbox::{BroadcastReceiver, Outbox};
use crate::room::RESTART;

/// The longest time that a write may block.
const UNREAD: Duration = Duration::from_secs(30);
/// No answer to a ping, as the client protocol numbers it.
const NO_PONG: CloseCode = CloseCode(3012);

const BUSY: u64 = u64::MAX;

/// Pings the peer and notices a missing answer.
#[derive(Debug)]
pub(super) struct Heartbeat {
    began: Instant,
    interval: Duration,
    patience: Duration,
    /// When the last bytes of the peer arrived, in milliseconds since `began`; [`BUSY`] while input is not read.
    last_input: AtomicU64,
    beat: Bytes,
}

impl Heartbeat {
    pub(super) fn new(service: &Service, form: Form) -> Self {
        let mut beat = Vec::new();
        ws::frame(Opcode::Ping, b"", &mut beat);
        if form == Form::Tables {
            // A page cannot see pings, and a proxy may not count them.
            beat.extend_from_slice(&message::frame("{}"));
        }
        let (interval, patience) = (service.options.ping_interval, service.options.pong_timeout);
        Self { began: Instant::now(), interval, patience, last_input: AtomicU64::new(0), beat: beat.into() }
    }

    /// Bytes of the peer have arrived.
    pub(super) fn on_input(&self) {
        self.last_input.store(self.now(), Ordering::Relaxed);
    }

    /// Input is not read until the next [`Self::on_input`].
    pub(super) fn pause(&self) {
        self.last_input.store(BUSY, Ordering::Relaxed);
    }

    /// Whether bytes of the peer are being handled.
    pub(super) fn is_busy(&self) -> bool {
        self.last_input.load(Ordering::Relaxed) == BUSY
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The output of a connection after its last frame.
#[derive(Debug)]
pub(super) struct Written<W> {
    pub(super) io: W,
    /// Whether the last frame is a Close frame, which the client answers with its own (RFC 6455 §5.5.1).
    pub(super) has_sent_close: bool,
}

/// Writes responses and views until the connection is to be closed, with a Close frame as the last. The output stays open
/// in this direction: the client sends its own Close frame first (RFC 6455 §7.1.1).
pub(super) async fn write<W: AsyncWrite + Unpin>(
    mut io: W,
    outbox: &Outbox,
    pulse: &Heartbeat,
    mut stopping: watch::Receiver<bool>,
) -> Written<W> {
    let mut board: Option<BroadcastReceiver> = None;
    let mut batch = Vec::new();
    let mut ping_at = Instant::now() + pulse.interval;
    // When the answer to a ping is overdue, and when that ping was sent.
    let mut pong: Option<(Instant, u64)> = None;
    loop {
        let waiting = outbox.take();
        batch.extend(waiting.frames);
        board = waiting.board.or(board);
        let end = board.as_mut().and_then(|(board, seen)| take_new(board, seen, &mut batch));
        let now = Instant::now();
        if pong.is_some_and(|(by, sent)| now >= by && pulse.last_input.load(Ordering::Relaxed) < sent) {
            return close(io, Some((NO_PONG, "no answer to a ping"))).await;
        }
        if now >= ping_at {
            batch.push(pulse.beat.clone());
        }
        let unflushed = !batch.is_empty();
        for frame in batch.drain(..) {
            match tokio::time::timeout(UNREAD, io.write_all(&frame)).await {
                Ok(Ok(())) => {}
                // The client has gone, or does not read.
                Ok(Err(_)) | Err(_) => return Written { io, has_sent_close: false },
            }
        }
        // TLS may still hold some of it.
        if unflushed && !matches!(tokio::time::timeout(UNREAD, io.flush()).await, Ok(Ok(()))) {
            return Written { io, has_sent_close: false };
        }
        if now >= ping_at {
            let now = Instant::now();
            ping_at = now + pulse.interval;
            pong = Some((now + pulse.patience, pulse.now()));
        }
        if let Some(closing) = waiting.closing {
            return close(io, closing.as_ref().map(|(code, reason)| (*code, &**reason))).await;
        }
        if let Some(end) = end {
            tokio::time::sleep(end.within.mul_f32(fastrand::f32())).await;
            let reason = end.error.map(|failure| failure.message).unwrap_or_default();
            return close(io, Some((end.code, &reason))).await;
        }
        let wake = pong.map_or(ping_at, |(by, _)| if by > now { by.min(ping_at) } else { ping_at });
        tokio::select! {
            () = outbox.wait_for_output() => {}
            () = changed(&mut board) => {}
            () = tokio::time::sleep_until(wake) => {}
            // The viewers of a room are disconnected by the room.
            () = stop(&mut stopping), if board.is_none() => {
                return close(io, Some((RESTART, "the server is stopping"))).await;
            }
        }
    }
}

/// Takes the frames of the broadcast that are new to this viewer.
fn take_new(
    board: &mut watch::Receiver<ViewBroadcast>,
    seen: &mut ViewCursor,
    batch: &mut Vec<Bytes>,
) -> Option<End> {
    seen.take(&board.borrow_and_update(), batch)
}

async fn changed(board: &mut Option<BroadcastReceiver>) {
    let gone = match board {
        Some((board, _)) => board.changed().await.is_err(),
        None => true,
    };
    if gone {
        std::future::pending::<()>().await;
    }
}

/// Waits until the server stops.
async fn stop(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Sends the Close frame, if the connection ends with one.
async fn close<W: AsyncWrite + Unpin>(mut io: W, with: Option<(CloseCode, &str)>) -> Written<W> {
    let Some((code, reason)) = with else { return Written { io, has_sent_close: false } };
    let mut frame = Vec::new();
    ws::close(code, reason, &mut frame);
    let last = async {
        io.write_all(&frame).await?;
        io.flush().await
    };
    // A client that does not read any more misses it.
    let has_sent_close = matches!(tokio::time::timeout(super::LAST, last).await, Ok(Ok(())));
    Written { io, has_sent_close }
}
