//! A RESP3 connection: commands out, values in.

use std::time::Duration;

use tidings_wire::resp::{self, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use super::{ClientError, Incoming, Outgoing, ServerArgs, open, reason};

/// How long the server may take to greet.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest value taken from a server, in bytes. Far above any message limit that makes sense for pushing.
const MAX_VALUE: usize = 64 << 20;
/// How much is read at once, in bytes.
const READ: usize = 64 << 10;

/// A connection that has been greeted and, where a key was given, authenticated.
pub(crate) struct Connection {
    incoming: Incoming,
    outgoing: Outgoing,
    /// Bytes from the server; those before `taken` have been decoded.
    inbox: Vec<u8>,
    taken: usize,
    /// Encoded commands; those before `written` have been handed to the kernel.
    outbox: Vec<u8>,
    written: usize,
    heard: Instant,
}

impl Connection {
    /// Connects and greets (`HELLO 3`, with `AUTH` where there is a key).
    ///
    /// # Errors
    /// [`ClientError`]: nobody there, silence, another protocol, or a key that is not accepted.
    pub(crate) async fn open(server: &ServerArgs) -> Result<Self, ClientError> {
        let (incoming, outgoing) = open(&server.server).await?;
        let mut connection = Self {
            incoming,
            outgoing,
            inbox: Vec::with_capacity(READ),
            taken: 0,
            outbox: Vec::new(),
            written: 0,
            heard: Instant::now(),
        };
        match &server.key {
            Some(key) => connection.queue(&[b"HELLO", b"3", b"AUTH", b"default", key.as_bytes()]),
            None => connection.queue(&[b"HELLO", b"3"]),
        }
        match timeout(GREETING_TIMEOUT, connection.greeting()).await {
            Ok(Ok(())) => Ok(connection),
            Ok(Err(e)) => Err(e),
            Err(_) => Err(ClientError::Silent(GREETING_TIMEOUT.as_secs())),
        }
    }

    async fn greeting(&mut self) -> Result<(), ClientError> {
        loop {
            match self.take()? {
                Some(Value::Error(words)) => {
                    return Err(ClientError::Refused { what: "the greeting".to_owned(), words });
                }
                Some(_) => return Ok(()),
                None => self.exchange().await?,
            }
        }
    }

    /// Adds one command to what [`Connection::exchange`] will write. The caller bounds how much waits.
    pub(crate) fn queue(&mut self, args: &[&[u8]]) {
        resp::command(args, &mut self.outbox);
    }

    /// Bytes of commands that the kernel has not taken yet.
    pub(crate) fn unsent(&self) -> usize {
        self.outbox.len() - self.written
    }

    /// When the server last said anything.
    pub(crate) fn heard(&self) -> Instant {
        self.heard
    }

    /// The next value that has arrived whole, without waiting.
    ///
    /// # Errors
    /// [`ClientError::Protocol`] when the bytes are not RESP.
    pub(crate) fn take(&mut self) -> Result<Option<Value>, ClientError> {
        let Some((value, used)) = resp::decode_value(&self.inbox[self.taken..], MAX_VALUE)? else {
            return Ok(None);
        };
        self.taken += used;
        Ok(Some(value))
    }

    /// Waits until more bytes have come or some of what waits has been written, whichever is possible first, so
    /// that neither side can block the other. May be dropped half-way and called again: nothing is lost or written
    /// twice.
    ///
    /// # Errors
    /// [`ClientError::Lost`] when the connection has ended.
    pub(crate) async fn exchange(&mut self) -> Result<(), ClientError> {
        self.inbox.drain(..self.taken);
        self.taken = 0;
        self.inbox.reserve(READ);
        let unsent = self.unsent() > 0;
        let read = tokio::select! {
                read = self.incoming.read_buf(&mut self.inbox) => read,
                written = self.outgoing.write(&self.outbox[self.written..]), if unsent => match written {
                    Ok(n @ 1..) => {
                        self.written += n;
                        if self.written == self.outbox.len() {
                            self.outbox.clear();
                            self.written = 0;
                        }
                        return Ok(());
                    }
                    // Nothing more can be sent; what the server said before it left may still be there.
                    _ => self.incoming.read_buf(&mut self.inbox).await,
                },
        };
        match read {
            Ok(0) => Err(ClientError::Lost("the server closed it".to_owned())),
            Ok(_) => {
                self.heard = Instant::now();
                Ok(())
            }
            Err(e) => Err(ClientError::Lost(reason(&e))),
        }
    }
}
