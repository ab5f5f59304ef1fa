//! The preface of HTTP/2 (RFC 9113 §3.4), by which a connection without TLS selects HTTP/2.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The first bytes of a connection with HTTP/2. No request of HTTP/1.1 begins with the first three of them.
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The number of bytes that decide.
const DECISIVE: usize = 3;

/// A stream whose first bytes can be read in advance.
#[derive(Debug)]
pub(super) struct Rewind<T> {
    io: T,
    first: [u8; DECISIVE],
    /// Bytes of `first` that are read in advance, and those of them that are returned.
    known: usize,
    returned: usize,
}

impl<T> Rewind<T> {
    pub(super) fn new(io: T) -> Self {
        Self { io, first: [0; DECISIVE], known: 0, returned: 0 }
    }

    /// The stream. The bytes that were read in advance must be read.
    pub(super) fn into_inner(self) -> T {
        debug_assert_eq!(self.known, self.returned);
        self.io
    }

    pub(super) fn get_ref(&self) -> &T {
        &self.io
    }
}

impl<T: AsyncRead + Unpin> Rewind<T> {
    /// Waits for the first bytes. Returns whether they begin the preface of HTTP/2.
    ///
    /// # Errors
    /// An error of the stream.
    pub(super) async fn begins_http2(&mut self) -> io::Result<bool> {
        poll_fn(|cx| {
            loop {
                if self.first[..self.known] != PREFACE[..self.known] {
                    return Poll::Ready(Ok(false));
                }
                if self.known == DECISIVE {
                    return Poll::Ready(Ok(true));
                }
                let mut into = ReadBuf::new(&mut self.first[self.known..]);
                ready!(Pin::new(&mut self.io).poll_read(cx, &mut into))?;
                match into.filled().len() {
                    0 => return Poll::Ready(Ok(false)),
                    n => self.known += n,
                }
            }
        })
        .await
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Rewind<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let me = &mut *self;
        let first = &me.first[me.returned..me.known];
        if first.is_empty() {
            return Pin::new(&mut me.io).poll_read(cx, into);
        }
        let n = first.len().min(into.remaining());
        into.put_slice(&first[..n]);
        me.returned += n;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Rewind<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn only_the_preface_selects_http2_and_no_byte_is_lost() {
        for (text, is_http2) in [
            (&PREFACE[..], true),
            (b"PROPFIND / HTTP/1.1\r\n", false),
            (b"POST / HTTP/1.1\r\n", false),
            (b"PR", false),
            (b"", false),
        ] {
            let mut io = Rewind::new(text);
            assert_eq!(io.begins_http2().await.expect("no error"), is_http2, "{text:?}");
            let mut all = Vec::new();
            io.read_to_end(&mut all).await.expect("no error");
            assert_eq!(all, text);
            assert!(io.into_inner().is_empty());
        }
    }
}
