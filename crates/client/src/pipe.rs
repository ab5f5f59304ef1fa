//! The buffered input and output of a connection, below every protocol of this crate.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::error::reason;
use crate::stream::{Incoming, Outgoing};
use crate::{Error, Server, stream};

/// The size of one read, in bytes.
const READ: usize = 64 << 10;

/// A connection with its input and output buffers. The caller bounds their size.
pub(crate) struct Pipe {
    incoming: Incoming,
    outgoing: Outgoing,
    /// Input; the bytes before `taken` were consumed.
    inbox: Vec<u8>,
    taken: usize,
    /// Output; the bytes before `written` were passed to the kernel.
    outbox: Vec<u8>,
    written: usize,
    /// Whether TLS may still buffer written bytes.
    unflushed: bool,
    heard: Instant,
}

impl Pipe {
    /// Connects.
    ///
    /// # Errors
    /// As [`stream::open`].
    pub(crate) async fn open(server: &Server) -> Result<Self, Error> {
        let (incoming, outgoing) = stream::open(server).await?;
        Ok(Self {
            incoming,
            outgoing,
            inbox: Vec::with_capacity(READ),
            taken: 0,
            outbox: Vec::new(),
            written: 0,
            unflushed: false,
            heard: Instant::now(),
        })
    }

    /// The input that was not consumed yet.
    pub(crate) fn inbox(&self) -> &[u8] {
        &self.inbox[self.taken..]
    }

    /// Consumes the first `count` bytes of [`Self::inbox`].
    pub(crate) fn take(&mut self, count: usize) {
        self.taken += count;
    }

    /// The output buffer.
    pub(crate) fn outbox(&mut self) -> &mut Vec<u8> {
        &mut self.outbox
    }

    /// Bytes that the kernel has not accepted yet.
    pub(crate) fn unsent(&self) -> usize {
        self.outbox.len() - self.written
    }

    /// The time of the last input.
    pub(crate) fn last_received(&self) -> Instant {
        self.heard
    }

    /// Waits until input has arrived or output has been written, whichever is possible first, so that neither direction
    /// blocks the other. Cancel safe: no byte is lost or written twice.
    ///
    /// # Errors
    /// [`Error::Lost`] when the connection has ended.
    pub(crate) async fn exchange(&mut self) -> Result<(), Error> {
        self.inbox.drain(..self.taken);
        self.taken = 0;
        self.inbox.reserve(READ);
        let unsent = self.unsent() > 0;
        let (incoming, outgoing) = (&mut self.incoming, &mut self.outgoing);
        let rest = &self.outbox[self.written..];
        // Each branch awaits one operation, so that the other branch never cancels a half-finished one.
        let send = async {
            if unsent {
                return outgoing.write(rest).await;
            }
            outgoing.flush().await.map(|()| 0)
        };
        let read = tokio::select! {
            read = incoming.read_buf(&mut self.inbox) => read,
            sent = send, if unsent || self.unflushed => match sent {
                Ok(0) if unsent => incoming.read_buf(&mut self.inbox).await,
                Ok(written) => {
                    self.sent(written);
                    return Ok(());
                }
                // Output is no longer possible. The server's last input may still be readable.
                Err(_) => incoming.read_buf(&mut self.inbox).await,
            },
        };
        match read {
            Ok(0) => Err(Error::Lost("the server closed it".to_owned())),
            Ok(_) => {
                self.heard = Instant::now();
                Ok(())
            }
            Err(e) => Err(Error::Lost(reason(&e))),
        }
    }

    /// Records written bytes, or a flush.
    fn sent(&mut self, written: usize) {
        self.unflushed = written > 0;
        self.written += written;
        if self.written == self.outbox.len() {
            self.outbox.clear();
            self.written = 0;
        }
    }

    /// Writes all buffered output, and reads input meanwhile.
    ///
    /// # Errors
    /// [`Error::Lost`]; [`Error::Timeout`] after `limit`.
    pub(crate) async fn flush(&mut self, limit: Duration) -> Result<(), Error> {
        let all = async {
            while self.unsent() > 0 || self.unflushed {
                self.exchange().await?;
            }
            Ok(())
        };
        tokio::time::timeout(limit, all).await.unwrap_or(Err(Error::Timeout(limit.as_secs())))
    }
}
