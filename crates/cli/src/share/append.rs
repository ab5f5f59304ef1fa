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
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What is to be appended to a table.
pub(super) struct Appender {
    table: Owned,
    /// What has come and is not appended: whole lines, and perhaps the beginning of one.
    waiting: Vec<u8>,
    rows: u64,
}

impl Appender {
    /// To `table`, beginning with what has come already.
    pub(super) fn new(table: Owned, waiting: Vec<u8>) -> Self {
        Self { table, waiting, rows: 0 }
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
        let mut backoff = Backoff::new(LONGEST_WAIT);
        let mut told = false;
        let mut pause = async |error: Error| {
            if !error.may_pass() {
                return Err(error);
            }
            if !std::mem::replace(&mut told, true) {
                say(format_args!("{error}; trying again until it works"));
            }
            sleep(backoff.wait()).await;
            Ok(())
        };
        // Without an answer, the size of the file tells whether the lines are in it.
        let mut before = None;
        loop {
            let size = match self.table.size().await {
                Ok(size) => size,
                Err(error) => {
                    pause(error).await?;
                    continue;
                }
            };
            if before.is_some_and(|before| size > before) {
                return Ok(0);
            }
            before = None;
            match self.table.append(lines.clone()).await {
                Ok(rows) => return Ok(rows),
                Err(error) => {
                    if matches!(error, Error::Lost(_) | Error::Silent(_)) {
                        before = Some(size);
                    }
                    pause(error).await?;
                }
            }
        }
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
