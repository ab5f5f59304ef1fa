//! The output of one viewer's connection: responses, views, pings, and the Close frame.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidings_wire::ws::{self, CloseCode, Opcode};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Service;
use crate::broadcast::{BroadcastEnd, ViewBroadcast, ViewCursor, ViewFormat};
use crate::message;
use crate::outbox::{BroadcastReceiver, Outbox};
use crate::room::CLOSE_RESTART;

/// The timeout of a write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// The close code for a missing pong, as in the client protocol.
const CLOSE_NO_PONG: CloseCode = CloseCode(3012);

const BUSY: u64 = u64::MAX;

/// Pings the peer and detects a missing response.
#[derive(Debug)]
pub(super) struct Heartbeat {
    began: Instant,
    interval: Duration,
    pong_timeout: Duration,
    /// The time of the last input, in milliseconds since `began`; [`BUSY`] while input is not read.
    last_input: AtomicU64,
    beat: Bytes,
}

impl Heartbeat {
    pub(super) fn new(service: &Service, form: ViewFormat) -> Self {
        let mut beat = Vec::new();
        ws::frame(Opcode::Ping, b"", &mut beat);
        if form == ViewFormat::Tables {
            // For pages, which cannot see pings, and for proxies, which may not count them.
            beat.extend_from_slice(&message::frame("{}"));
        }
        let (interval, pong_timeout) = (service.options.ping_interval, service.options.pong_timeout);
        Self {
            began: Instant::now(),
            interval,
            pong_timeout,
            last_input: AtomicU64::new(0),
            beat: beat.into(),
        }
    }

    /// Records input of the peer.
    pub(super) fn on_input(&self) {
        self.last_input.store(self.now(), Ordering::Relaxed);
    }

    /// Pauses the detection until the next [`Self::on_input`].
    pub(super) fn pause(&self) {
        self.last_input.store(BUSY, Ordering::Relaxed);
    }

    /// Whether input of the peer is being handled.
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
    /// Whether the last frame is a Close frame, to which the client responds (RFC 6455 §5.5.1).
    pub(super) has_sent_close: bool,
    /// The code and the reason for which the server closes the connection.
    pub(super) close: Option<(u16, String)>,
}

/// Writes responses and views until the connection is to be closed, with a Close frame as the last frame. The output is
/// not shut down: the client sends its Close frame first (RFC 6455 §7.1.1).
pub(super) async fn write<W: AsyncWrite + Unpin>(
    mut io: W,
    outbox: &Outbox,
    pulse: &Heartbeat,
    mut stopping: watch::Receiver<bool>,
) -> Written<W> {
    let mut broadcast: Option<BroadcastReceiver> = None;
    let mut batch = Vec::new();
    let mut ping_at = Instant::now() + pulse.interval;
    // The deadline of the pending pong, and the time of its ping.
    let mut pong: Option<(Instant, u64)> = None;
    loop {
        let waiting = outbox.take();
        batch.extend(waiting.frames);
        batch.extend(waiting.private);
        let unread = waiting.unread;
        broadcast = waiting.broadcast.or(broadcast);
        let end = broadcast.as_mut().and_then(|(broadcast, seen)| take_new(broadcast, seen, &mut batch));
        let now = Instant::now();
        if pong.is_some_and(|(by, sent)| now >= by && pulse.last_input.load(Ordering::Relaxed) < sent) {
            return close(io, Some((CLOSE_NO_PONG, "no answer to a ping"))).await;
        }
        if now >= ping_at {
            batch.push(pulse.beat.clone());
        }
        let unflushed = !batch.is_empty();
        for frame in batch.drain(..) {
            match tokio::time::timeout(WRITE_TIMEOUT, io.write_all(&frame)).await {
                Ok(Ok(())) => {}
                // The client has disconnected, or does not read.
                Ok(Err(_)) | Err(_) => return Written { io, has_sent_close: false, close: None },
            }
        }
        // TLS may still buffer some of it.
        if unflushed && !matches!(tokio::time::timeout(WRITE_TIMEOUT, io.flush()).await, Ok(Ok(()))) {
            return Written { io, has_sent_close: false, close: None };
        }
        drop(unread);
        if now >= ping_at {
            let now = Instant::now();
            ping_at = now + pulse.interval;
            pong = Some((now + pulse.pong_timeout, pulse.now()));
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
            () = changed(&mut broadcast) => {}
            () = tokio::time::sleep_until(wake) => {}
            // The viewers of a room are disconnected by the room.
            () = stop(&mut stopping), if broadcast.is_none() => {
                return close(io, Some((CLOSE_RESTART, "the server is stopping"))).await;
            }
        }
    }
}

/// Takes the frames of the broadcast that this viewer has not received.
fn take_new(
    broadcast: &mut watch::Receiver<ViewBroadcast>,
    seen: &mut ViewCursor,
    batch: &mut Vec<Bytes>,
) -> Option<BroadcastEnd> {
    seen.take(&broadcast.borrow_and_update(), batch)
}

async fn changed(broadcast: &mut Option<BroadcastReceiver>) {
    let gone = match broadcast {
        Some((broadcast, _)) => broadcast.changed().await.is_err(),
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
    let Some((code, reason)) = with else {
        return Written { io, has_sent_close: false, close: None };
    };
    let mut frame = Vec::new();
    ws::close(code, reason, &mut frame);
    let last = async {
        io.write_all(&frame).await?;
        io.flush().await
    };
    // A client that does not read any more does not receive it.
    let has_sent_close = matches!(tokio::time::timeout(super::LAST_WRITE_TIMEOUT, last).await, Ok(Ok(())));
    Written { io, has_sent_close, close: Some((code.0, reason.to_owned())) }
}
