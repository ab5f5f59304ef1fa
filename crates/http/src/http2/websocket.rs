//! A WebSocket on a stream of HTTP/2 (RFC 8441), and the task that carries its bytes to and from a shard.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tidings_shard::{PipeEnd, PipeOutput, Socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::SessionGuard;

/// Most bytes per read.
const READ: usize = 8 << 10;

/// A stream after its handshake.
#[derive(Debug)]
pub(crate) struct Http2Stream {
    io: TokioIo<Upgraded>,
    session: OwnSession,
}

/// The session of a stream that no shard owns. When it is dropped, the last bytes of the stream are sent within a time.
#[derive(Debug)]
struct OwnSession(Option<SessionGuard>);

impl Drop for OwnSession {
    fn drop(&mut self) {
        if let Some(session) = &self.0 {
            session.context().abort_late();
        }
    }
}

impl Http2Stream {
    pub(crate) fn new(upgraded: Upgraded, session: SessionGuard) -> Self {
        Self { io: TokioIo::new(upgraded), session: OwnSession(Some(session)) }
    }

    /// A socket for a shard, whose bytes a task carries.
    pub(crate) fn into_socket(self) -> io::Result<Socket> {
        let Self { io, session: mut own } = self;
        let session = own.0.take().ok_or(io::ErrorKind::NotConnected)?;
        let (socket, end) = session.pipe();
        session.context().spawn(async move {
            let _session = session;
            carry(io, end).await;
        });
        Ok(socket)
    }
}

/// Carries bytes in both directions until the stream or the session has ended.
async fn carry(mut io: TokioIo<Upgraded>, mut end: PipeEnd) {
    let mut input_ended = false;
    let mut output = Output::Wait;
    poll_fn(|cx| {
        if !input_ended {
            match poll_input(&mut io, &mut end, cx) {
                Poll::Ready(Ok(())) => input_ended = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        output.poll(&mut io, &mut end, cx)
    })
    .await;
}

/// Reads until the client ends its side, or the shard reads no more.
fn poll_input(io: &mut TokioIo<Upgraded>, end: &mut PipeEnd, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    loop {
        match end.poll_room(cx) {
            Poll::Ready(true) => {}
            Poll::Ready(false) => return Poll::Ready(Ok(())),
            Poll::Pending => return Poll::Pending,
        }
        // On the stack, so that an idle connection has no buffer.
        let mut buffer = [MaybeUninit::uninit(); READ];
        let mut buffer = ReadBuf::uninit(&mut buffer);
        match Pin::new(&mut *io).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                end.finish_input();
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Ok(())) => end.push_input(Bytes::copy_from_slice(buffer.filled())),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// The state of the output.
enum Output {
    /// For more output of the shard.
    Wait,
    /// These bytes are written next.
    Write(Bytes),
    /// The stream ends.
    Shutdown,
}

impl Output {
    /// Writes until the session has ended and everything is handed over, or the stream is broken.
    fn poll(&mut self, io: &mut TokioIo<Upgraded>, end: &mut PipeEnd, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self {
                Self::Wait => match end.poll_output(cx) {
                    Poll::Ready(PipeOutput::Bytes(bytes)) => *self = Self::Write(bytes),
                    Poll::Ready(PipeOutput::End) => *self = Self::Shutdown,
                    Poll::Ready(PipeOutput::Aborted) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                },
                Self::Write(bytes) => match Pin::new(&mut *io).poll_write(cx, bytes) {
                    Poll::Ready(Ok(n)) => {
                        bytes.advance(n);
                        if bytes.is_empty() {
                            *self = Self::Wait;
                        }
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                },
                Self::Shutdown => return Pin::new(&mut *io).poll_shutdown(cx).map(|_| ()),
            }
        }
    }
}

impl AsyncRead for Http2Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, into)
    }
}

impl AsyncWrite for Http2Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // hyper copies the bytes of one write into a chunk, so its size is bounded here.
        let bytes = &bytes[..bytes.len().min(super::body::CHUNK)];
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
