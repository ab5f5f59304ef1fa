//! Bytes in and bytes out of a connection, both at once: what every dialect here runs on.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::stream::{Incoming, Outgoing, reason};
use crate::{Error, Server, stream};

/// How much is read at once, in bytes.
const READ: usize = 64 << 10;

/// A connection with its input and output buffers. The caller bounds their size.
pub(crate) struct Pipe {
    incoming: Incoming,
    outgoing: Outgoing,
    /// Bytes from the server; those before `taken` are done with.
    inbox: Vec<u8>,
    taken: usize,
    /// Bytes to the server; those before `written` have been handed to the kernel.
    outbox: Vec<u8>,
    written: usize,
    /// TLS may still buffer written bytes.
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

    /// What has come and is not done with.
    pub(crate) fn inbox(&self) -> &[u8] {
        &self.inbox[self.taken..]
    }

    /// The first `count` bytes of [`Self::inbox`] are done with.
    pub(crate) fn take(&mut self, count: usize) {
        self.taken += count;
    }

    /// The buffer of bytes to send.
    pub(crate) fn outbox(&mut self) -> &mut Vec<u8> {
        &mut self.outbox
    }

    /// Bytes that the kernel has not taken yet.
    pub(crate) fn unsent(&self) -> usize {
        self.outbox.len() - self.written
    }

    /// When the server last said anything.
    pub(crate) fn last_received(&self) -> Instant {
        self.heard
    }

    /// Waits until more bytes have come or some of what waits has been written, whichever is possible first, so
    /// that neither side can block the other. May be dropped half-way and called again: nothing is lost or written
    /// twice.
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
        // Each branch waits for one thing alone, so that nothing is half done when the other one is first.
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
                // Nothing more can be sent; what the server said before it left may still be there.
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

    /// Takes note of so many bytes written, or of a flush.
    fn sent(&mut self, written: usize) {
        self.unflushed = written > 0;
        self.written += written;
        if self.written == self.outbox.len() {
            self.outbox.clear();
            self.written = 0;
        }
    }

    /// Writes all buffered output, and reads available input meanwhile.
    ///
    /// # Errors
    /// [`Error::Lost`]; [`Error::Silent`] when it takes longer than `patience`.
    pub(crate) async fn flush(&mut self, patience: Duration) -> Result<(), Error> {
        let all = async {
            while self.unsent() > 0 || self.unflushed {
                self.exchange().await?;
            }
            Ok(())
        };
        tokio::time::timeout(patience, all).await.unwrap_or(Err(Error::Silent(patience.as_secs())))
    }
}
