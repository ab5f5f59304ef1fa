//! Appending rows to a table, each of them once.
//!
//! Invariant: no row ends it. One that the server refuses is left out, and said.

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use tidings_client::table::{Content, OwnedTable};
use tidings_client::{Backoff, Error};
use tidings_table::{Event, Reader};
use tokio::time::sleep;

use super::dialect::{Rows, Splitter};
use crate::failure::{Failure, say};
use crate::text::grouped;

/// The most bytes in one request, unless a row alone is longer.
const MOST: usize = 1 << 20;
/// How long a request without a response may still be on its way to the table. When the table's size has not changed
/// for that time, the request either was carried out or never will be.
const SETTLED: Duration = Duration::from_secs(1);
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How many rows that are left out are said one by one.
const SAID: u64 = 5;

/// What is to be appended to a table.
pub(super) struct Appender {
    table: OwnedTable,
    waiting: Splitter,
    rows: u64,
    left_out: u64,
    /// Bytes of the table's file with all appended rows: shows whether rows of a request without a response are in it.
    size: u64,
}

impl Appender {
    /// To a table of which the file has so many bytes.
    pub(super) fn new((table, size): (OwnedTable, u64), waiting: Splitter) -> Self {
        Self { table, waiting, rows: 0, left_out: 0, size }
    }

    /// Adds bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.waiting.push(bytes);
    }

    /// How many rows have been appended, as far as the server has said.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// How many rows the server did not take.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Appends all whole rows, and tries for as long as the server cannot be reached.
    ///
    /// # Errors
    /// A server that refuses other than for what the rows are.
    pub(super) async fn lines(&mut self) -> Result<(), Failure> {
        self.all(false).await
    }

    /// Appends everything, whether its last row has ended or not.
    ///
    /// # Errors
    /// As [`Self::lines`].
    pub(super) async fn rest(&mut self) -> Result<(), Failure> {
        self.waiting.end();
        self.all(true).await
    }

    /// Appends everything; the next bytes are the beginning of a file.
    ///
    /// # Errors
    /// As [`Self::lines`].
    pub(super) async fn begin_again(&mut self) -> Result<(), Failure> {
        self.rest().await?;
        self.waiting.begin_again();
        Ok(())
    }

    async fn all(&mut self, at_end: bool) -> Result<(), Failure> {
        while let Some(rows) = self.waiting.next(MOST, at_end) {
            match rows {
                Rows::Lines(lines) => self.append_lines(lines.into()).await?,
                Rows::Cells(cells) => {
                    say("quotes that do not close are taken as they are");
                    let row = serde_json::json!([cells]).to_string();
                    self.append_or_leave_out(Content::Cells(row.into())).await?;
                }
                Rows::TooLong(bytes) => self.leave_out(&format!("it is longer than {bytes} bytes")),
            }
        }
        Ok(())
    }

    /// Appends rows together, or one by one where the server does not take all of them.
    async fn append_lines(&mut self, lines: Bytes) -> Result<(), Failure> {
        match self.once(Content::Lines(lines.clone())).await {
            Ok(()) => return Ok(()),
            Err(error) if !error.is_about_content() => return Err(Failure::new(error)),
            Err(_) => {}
        }
        let mut at = 0;
        while at < lines.len() {
            let mut reader = Reader::new(self.waiting.syntax());
            let length = reader.feed(&lines[at..], |event| match event {
                Event::Row => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            });
            let row = lines.slice(at..at + length.max(1));
            at += row.len();
            if row.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
                self.append_or_leave_out(Content::Lines(row)).await?;
            }
        }
        Ok(())
    }

    async fn append_or_leave_out(&mut self, row: Content) -> Result<(), Failure> {
        match self.once(row).await {
            Err(error) if error.is_about_content() => {
                self.leave_out(&error.to_string());
                Ok(())
            }
            done => done.map_err(Failure::new),
        }
    }

    fn leave_out(&mut self, why: &str) {
        self.left_out += 1;
        if self.left_out <= SAID {
            say(format_args!("a row is left out: {why}"));
        } else if self.left_out.is_power_of_two() {
            say(format_args!("{} rows have been left out so far", grouped(self.left_out)));
        }
    }

    async fn once(&mut self, content: Content) -> Result<(), Error> {
        let length = self.waiting.length(&content);
        let mut patience = Patience::default();
        let size = self.size;
        loop {
            match self.table.append(content.clone()).await {
                Ok(added) => {
                    self.rows += added.rows;
                    self.size = added.size.unwrap_or(size + content.len() as u64);
                    return Ok(());
                }
                Err(error @ (Error::Lost(_) | Error::Silent(_))) => {
                    patience.pause(error).await?;
                    let now = self.settled(&mut patience).await?;
                    if now == size {
                        continue;
                    }
                    self.size = now;
                    if length.is_some_and(|length| now != size + length) {
                        say(
                            "the table has grown by something else meanwhile: some lines may be missing in it",
                        );
                    }
                    return Ok(());
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
