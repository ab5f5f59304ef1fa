//! Appending lines to a table, each of them once.

use std::time::Duration;

use bytes::Bytes;
use memchr::memrchr;
use tidings_client::table::Owned;
use tidings_client::{Backoff, Error};
use tokio::time::sleep;

use crate::failure::{Failure, say};

/// The most bytes in one request, unless a line alone is longer.
const MOST: usize = 1 << 20;
/// The longest line, in bytes; more would not be taken by a server.
const MAX_LINE: usize = 16 << 20;
/// How long a request whose answer was lost may still be on its way to the table. When its size has not changed for
/// so long, it is the size with or without the lines.
const SETTLED: Duration = Duration::from_secs(1);
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What is to be appended to a table.
pub(super) struct Appender {
    table: Owned,
    /// What has come and is not appended: whole lines, and perhaps the beginning of one.
    waiting: Vec<u8>,
    rows: u64,
    /// Bytes of the table's file with all that was appended: what tells whether lines whose answer was lost are in
    /// it.
    size: u64,
}

impl Appender {
    /// To a table of which the file has so many bytes, beginning with what has come already.
    pub(super) fn new((table, size): (Owned, u64), waiting: Vec<u8>) -> Self {
        Self { table, waiting, rows: 0, size }
    }

    /// Where to add what comes.
    pub(super) fn waiting(&mut self) -> &mut Vec<u8> {
        &mut self.waiting
    }

    /// How many rows have been appended, as far as the server has said.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Appends all whole lines, and tries for as long as the server cannot be reached.
    ///
    /// # Errors
    /// A server that refuses; a line longer than 16 MiB.
    pub(super) async fn lines(&mut self) -> Result<(), Failure> {
        while let Some(end) = end_of_lines(&self.waiting) {
            let lines = Bytes::copy_from_slice(&self.waiting[..end]);
            self.rows += self.once(lines).await.map_err(Failure::of)?;
            self.waiting.drain(..end);
        }
        if self.waiting.len() > MAX_LINE {
            return Err(Failure::Failed(format!("a line is longer than {MAX_LINE} bytes")));
        }
        Ok(())
    }

    /// Appends everything, whether its last line has ended or not.
    ///
    /// # Errors
    /// As [`Self::lines`].
    pub(super) async fn rest(&mut self) -> Result<(), Failure> {
        self.end_line();
        self.lines().await
    }

    /// What comes next is a line of its own.
    pub(super) fn end_line(&mut self) {
        if self.waiting.last().is_some_and(|last| *last != b'\n') {
            self.waiting.push(b'\n');
        }
    }

    async fn once(&mut self, lines: Bytes) -> Result<u64, Error> {
        let length = lines.len() as u64;
        let mut patience = Patience::default();
        let size = self.size;
        loop {
            match self.table.append(lines.clone()).await {
                Ok(rows) => {
                    self.size = size + length;
                    return Ok(rows);
                }
                Err(error @ (Error::Lost(_) | Error::Silent(_))) => {
                    patience.pause(error).await?;
                    let now = self.settled(&mut patience).await?;
                    if now == size {
                        continue;
                    }
                    self.size = now;
                    if now != size + length {
                        say(
                            "the table has grown by something else meanwhile: some lines may be missing in it",
                        );
                    }
                    return Ok(0);
                }
                Err(error) => patience.pause(error).await?,
            }
        }
    }

    /// How large the table's file is once nothing more is under way. What the server shows may be a moment behind.
    async fn settled(&mut self, patience: &mut Patience) -> Result<u64, Error> {
        let mut before = None;
        loop {
            match self.table.size().await {
                Ok(size) if before == Some(size) => return Ok(size),
                Ok(size) => before = Some(size),
                Err(error) => patience.pause(error).await?,
            }
            sleep(SETTLED).await;
        }
    }
}

/// Tries again until it works.
struct Patience {
    backoff: Backoff,
    told: bool,
}

impl Default for Patience {
    fn default() -> Self {
        Self { backoff: Backoff::new(LONGEST_WAIT), told: false }
    }
}

impl Patience {
    /// Waits before the next attempt; says once why.
    ///
    /// # Errors
    /// The error, when it does not pass.
    async fn pause(&mut self, error: Error) -> Result<(), Error> {
        if !error.may_pass() {
            return Err(error);
        }
        if !std::mem::replace(&mut self.told, true) {
            say(format_args!("{error}; trying again until it works"));
        }
        sleep(self.backoff.wait()).await;
        Ok(())
    }
}

/// Where the whole lines end that go into one request: the last line break within [`MOST`] bytes, or the first one
/// behind that.
fn end_of_lines(waiting: &[u8]) -> Option<usize> {
    let within = &waiting[..waiting.len().min(MOST)];
    memrchr(b'\n', within).or_else(|| memchr::memchr(b'\n', waiting)).map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_takes_whole_lines_and_not_more_than_it_may() {
        assert_eq!(end_of_lines(b""), None);
        assert_eq!(end_of_lines(b"half"), None);
        assert_eq!(end_of_lines(b"a\nb\nhalf"), Some(4));
        let mut long = vec![b'x'; MOST + 10];
        long.push(b'\n');
        long.extend_from_slice(b"next\n");
        assert_eq!(end_of_lines(&long), Some(MOST + 11));
        let mut many = b"1\n".repeat(MOST);
        assert_eq!(end_of_lines(&many), Some(MOST));
        many.truncate(5);
        assert_eq!(end_of_lines(&many), Some(4));
    }
}
