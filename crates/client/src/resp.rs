//! A RESP3 connection to the line port: commands out, values in. Bodies are exact bytes there, and any server of
//! that dialect will do, Redis itself included.

use std::time::Duration;

use tidings_wire::resp::{self, Value};
use tokio::time::{Instant, timeout};

use crate::pipe::Pipe;
use crate::{Error, Server};

/// How long the server may take to greet.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest value taken from a server, in bytes. Far above any message limit that makes sense for pushing.
const MAX_VALUE: usize = 64 << 20;

/// A connection that has been greeted and, where there is a secret, authenticated.
pub struct Connection {
    pipe: Pipe,
}

impl Connection {
    /// Connects and greets: `HELLO 3`, behind an `AUTH` where there is a secret (which takes tokens too).
    ///
    /// # Errors
    /// [`Error`]: no server at the address, no response in time, another protocol, or a rejected secret.
    pub async fn open(server: &Server, secret: Option<&str>) -> Result<Self, Error> {
        let mut connection = Self { pipe: Pipe::open(server).await? };
        if let Some(secret) = secret {
            connection.queue(&[b"AUTH", b"default", secret.as_bytes()]);
        }
        connection.queue(&[b"HELLO", b"3"]);
        let answers = if secret.is_some() { 2 } else { 1 };
        match timeout(GREETING_TIMEOUT, connection.greeting(answers)).await {
            Ok(Ok(())) => Ok(connection),
            Ok(Err(e)) => Err(e),
            Err(_) => Err(Error::Silent(GREETING_TIMEOUT.as_secs())),
        }
    }

    async fn greeting(&mut self, mut answers: usize) -> Result<(), Error> {
        while answers > 0 {
            match self.take()? {
                Some(Value::Error(words)) => return Err(refused("the greeting", words)),
                Some(_) => answers -= 1,
                None => self.exchange().await?,
            }
        }
        Ok(())
    }

    /// Adds one command to what [`Connection::exchange`] will write. The caller bounds how much waits.
    pub fn queue(&mut self, args: &[&[u8]]) {
        resp::command(args, self.pipe.outbox());
    }

    /// Bytes of commands that the kernel has not taken yet.
    pub fn unsent(&self) -> usize {
        self.pipe.unsent()
    }

    /// When the server last said anything.
    pub fn last_received(&self) -> Instant {
        self.pipe.last_received()
    }

    /// The next value that has arrived whole, without waiting.
    ///
    /// # Errors
    /// [`Error::Protocol`] when the bytes are not RESP.
    pub fn take(&mut self) -> Result<Option<Value>, Error> {
        let decoded = resp::decode_value(self.pipe.inbox(), MAX_VALUE)
            .map_err(|e| Error::Protocol { what: "RESP", why: e.to_string() })?;
        let Some((value, used)) = decoded else { return Ok(None) };
        self.pipe.take(used);
        Ok(Some(value))
    }

    /// Waits until more bytes have come or some of what waits has been written. May be dropped half-way and called
    /// again: nothing is lost or written twice.
    ///
    /// # Errors
    /// [`Error::Lost`] when the connection has ended.
    pub async fn exchange(&mut self) -> Result<(), Error> {
        self.pipe.exchange().await
    }
}

/// What a RESP error to `what` means.
pub fn refused(what: &str, words: String) -> Error {
    let temporary = is_temporary(&words);
    Error::Refused { what: what.to_owned(), words, temporary }
}

/// Whether a RESP error names a state of the server that passes: its broker is away, it is loading or
/// overloaded.
fn is_temporary(words: &str) -> bool {
    ["LOADING", "TRYAGAIN", "MASTERDOWN", "CLUSTERDOWN", "BUSY"].iter().any(|code| words.starts_with(code))
        || words.contains("unavailable")
        || words.contains("overloaded")
}
