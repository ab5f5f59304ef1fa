//! A RESP3 connection to the line port: commands out, values in. Bodies are exact bytes. Any RESP3 server works,
//! including Redis.

use std::time::Duration;

use tidings_wire::resp::{self, Value};
use tokio::time::{Instant, timeout};

use crate::pipe::Pipe;
use crate::{Error, Server};

/// The timeout of the greeting.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest accepted value, in bytes: far above useful message limits.
const MAX_VALUE: usize = 64 << 20;

/// A connection after `HELLO` and, with a secret, `AUTH`.
pub struct RespConnection {
    pipe: Pipe,
}

impl RespConnection {
    /// Connects and sends `HELLO 3`, after `AUTH` if there is a secret (which may be a token).
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
            Err(_) => Err(Error::Timeout(GREETING_TIMEOUT.as_secs())),
        }
    }

    async fn greeting(&mut self, mut answers: usize) -> Result<(), Error> {
        while answers > 0 {
            match self.take()? {
                Some(Value::Error(text)) => return Err(refused("the greeting", text)),
                Some(_) => answers -= 1,
                None => self.exchange().await?,
            }
        }
        Ok(())
    }

    /// Appends one command to the output buffer. The caller bounds the size of the buffer.
    pub fn queue(&mut self, args: &[&[u8]]) {
        resp::command(args, self.pipe.outbox());
    }

    /// Bytes of commands that the kernel has not accepted yet.
    pub fn unsent(&self) -> usize {
        self.pipe.unsent()
    }

    /// The time of the last input.
    pub fn last_received(&self) -> Instant {
        self.pipe.last_received()
    }

    /// The next complete value in the input buffer; does not wait.
    ///
    /// # Errors
    /// [`Error::Protocol`] when the bytes are not RESP.
    pub fn take(&mut self) -> Result<Option<Value>, Error> {
        let decoded = resp::decode_value(self.pipe.inbox(), MAX_VALUE).map_err(|e| {
            let other = || Error::Protocol { what: "RESP", why: e.to_string() };
            Error::from_notice(self.pipe.inbox()).unwrap_or_else(other)
        })?;
        let Some((value, used)) = decoded else { return Ok(None) };
        self.pipe.take(used);
        Ok(Some(value))
    }

    /// Waits until input has arrived or output has been written. Cancel safe: no byte is lost or written twice.
    ///
    /// # Errors
    /// [`Error::Lost`] when the connection has ended.
    pub async fn exchange(&mut self) -> Result<(), Error> {
        self.pipe.exchange().await
    }
}

/// The error for a RESP error in response to `what`.
pub fn refused(what: &str, text: String) -> Error {
    let temporary = is_temporary(&text);
    Error::Refused { what: what.to_owned(), text, temporary }
}

/// Whether a RESP error describes a temporary state: the broker is unavailable, the server is loading or overloaded.
fn is_temporary(text: &str) -> bool {
    ["LOADING", "TRYAGAIN", "MASTERDOWN", "CLUSTERDOWN", "BUSY"].iter().any(|code| text.starts_with(code))
        || text.contains("unavailable")
        || text.contains("overloaded")
}
