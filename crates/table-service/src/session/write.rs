//! What one viewer is to see, written to its socket; and the pulse that tells a dead peer from a silent one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidings_wire::ws::{self, CloseCode, Opcode};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Service;
use crate::board::{Board, End, Form, Seen};
use crate::message;
use crate::outbox::{Outbox, Watched};
use crate::room::RESTART;

/// How long a write may wait for the peer to read.
const UNREAD: Duration = Duration::from_secs(30);
/// No answer to a ping, as the client protocol numbers it.
const NO_PONG: CloseCode = CloseCode(3012);

const BUSY: u64 = u64::MAX;

/// Asks a peer again and again whether it is there.
#[derive(Debug)]
pub(super) struct Pulse {
    began: Instant,
    interval: Duration,
    patience: Duration,
    /// When something was heard of the peer last, in milliseconds from the beginning; [`BUSY`] while the peer is not
    /// listened to.
    heard: AtomicU64,
    beat: Bytes,
}

impl Pulse {
    pub(super) fn new(service: &Service, form: Form) -> Self {
        let mut beat = Vec::new();
        ws::frame(Opcode::Ping, b"", &mut beat);
        if form == Form::Tables {
            // A page cannot see pings, and a proxy may not count them.
            beat.extend_from_slice(&message::frame("{}"));
        }
        let (interval, patience) = (service.options.ping_interval, service.options.pong_timeout);
        Self { began: Instant::now(), interval, patience, heard: AtomicU64::new(0), beat: beat.into() }
    }

    /// Something has come from the peer.
    pub(super) fn heard(&self) {
        self.heard.store(self.now(), Ordering::Relaxed);
    }

    /// The peer is not listened to until it is heard again.
    pub(super) fn busy(&self) {
        self.heard.store(BUSY, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Writes what there is to write until the connection is to be closed, and closes it.
pub(super) async fn write(
    mut io: impl AsyncWrite + Unpin,
    outbox: &Outbox,
    pulse: &Pulse,
    mut stopping: watch::Receiver<bool>,
) {
    let mut board: Option<Watched> = None;
    let mut batch = Vec::new();
    let mut ping_at = Instant::now() + pulse.interval;
    // When the answer to a ping is overdue, and when that ping was sent.
    let mut pong: Option<(Instant, u64)> = None;
    loop {
        let waiting = outbox.take();
        batch.extend(waiting.frames);
        board = waiting.board.or(board);
        let end = board.as_mut().and_then(|(board, seen)| look(board, seen, &mut batch));
        let now = Instant::now();
        if pong.is_some_and(|(by, sent)| now >= by && pulse.heard.load(Ordering::Relaxed) < sent) {
            return close(&mut io, Some((NO_PONG, "no answer to a ping"))).await;
        }
        if now >= ping_at {
            batch.push(pulse.beat.clone());
        }
        let unflushed = !batch.is_empty();
        for frame in batch.drain(..) {
            match tokio::time::timeout(UNREAD, io.write_all(&frame)).await {
                Ok(Ok(())) => {}
                // Gone, or it does not read.
                Ok(Err(_)) | Err(_) => return,
            }
        }
        // TLS may still hold some of it.
        if unflushed && !matches!(tokio::time::timeout(UNREAD, io.flush()).await, Ok(Ok(()))) {
            return;
        }
        if now >= ping_at {
            let now = Instant::now();
            ping_at = now + pulse.interval;
            pong = Some((now + pulse.patience, pulse.now()));
        }
        if let Some(closing) = waiting.closing {
            return close(&mut io, closing.as_ref().map(|(code, reason)| (*code, &**reason))).await;
        }
        if let Some(end) = end {
            tokio::time::sleep(end.within.mul_f32(fastrand::f32())).await;
            let reason = end.error.map(|failure| failure.message).unwrap_or_default();
            return close(&mut io, Some((end.code, &reason))).await;
        }
        let wake = pong.map_or(ping_at, |(by, _)| if by > now { by.min(ping_at) } else { ping_at });
        tokio::select! {
            () = outbox.something() => {}
            () = changed(&mut board) => {}
            () = tokio::time::sleep_until(wake) => {}
            // A room tells its own viewers.
            () = stop(&mut stopping), if board.is_none() => {
                return close(&mut io, Some((RESTART, "the server is stopping"))).await;
            }
        }
    }
}

/// Takes what is new on the board.
fn look(board: &mut watch::Receiver<Board>, seen: &mut Seen, batch: &mut Vec<Bytes>) -> Option<End> {
    seen.take(&board.borrow_and_update(), batch)
}

async fn changed(board: &mut Option<Watched>) {
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

async fn close(io: &mut (impl AsyncWrite + Unpin), with: Option<(CloseCode, &str)>) {
    let last = async {
        if let Some((code, reason)) = with {
            let mut frame = Vec::new();
            ws::close(code, reason, &mut frame);
            io.write_all(&frame).await?;
        }
        io.shutdown().await
    };
    // A peer that does not read any more misses it.
    let _ = tokio::time::timeout(super::LAST, last).await;
}
