//! Appends rows to a table, each of them once.
//!
//! Invariant: no row ends the command. A row that the server rejects is skipped and reported.

use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;
use tidings_client::table::{Content, OwnedTable};
use tidings_client::{Backoff, Error};
use tidings_row_splitter::{RowSplitter, Rows};
use tidings_table::{Event, Reader};
use tokio::time::sleep;

use super::report_skipped;
use crate::failure::{Failure, print_notice};

/// The most bytes in one request, except that one row may be longer.
const MAX_REQUEST: usize = 1 << 20;
/// The time after which a request without a response is no longer in flight. If the size of the table has not changed
/// for this time, the request was either executed or never will be.
const IN_FLIGHT_TIME: Duration = Duration::from_secs(1);
/// The longest delay between two attempts.
const MAX_DELAY: Duration = Duration::from_secs(5);

/// Rows to append to a table.
pub(super) struct Appender {
    table: OwnedTable,
    waiting: RowSplitter,
    rows: u64,
    left_out: u64,
    /// The size of the table's file with all appended rows: reveals whether rows of a request without a response are in
    /// it.
    size: u64,
}

impl Appender {
    /// For a table with a file of this size.
    pub(super) fn new((table, size): (OwnedTable, u64), waiting: RowSplitter) -> Self {
        Self { table, waiting, rows: 0, left_out: 0, size }
    }

    /// Adds bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.waiting.push(bytes);
    }

    /// The number of appended rows, as confirmed by the server.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// The number of skipped rows.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Appends all complete rows, and retries while the server is unreachable.
    ///
    /// # Errors
    /// A rejection that does not depend on the rows.
    pub(super) async fn lines(&mut self) -> Result<(), Failure> {
        self.all(false).await
    }

    /// Appends all rows, including an incomplete last one.
    ///
    /// # Errors
    /// As [`Self::lines`].
    pub(super) async fn rest(&mut self) -> Result<(), Failure> {
        self.waiting.end();
        self.all(true).await
    }

    /// Appends all rows; the next bytes are the beginning of a file.
    ///
    /// # Errors
    /// As [`Self::lines`].
    pub(super) async fn begin_again(&mut self) -> Result<(), Failure> {
        self.rest().await?;
        self.waiting.begin_again();
        Ok(())
    }

    async fn all(&mut self, at_end: bool) -> Result<(), Failure> {
        while let Some(rows) = self.waiting.next(MAX_REQUEST, at_end) {
            match rows {
                Rows::Lines(lines) => self.append_lines(lines.into()).await?,
                Rows::Cells(cells) => {
                    print_notice("quotes that do not close are appended as ordinary characters");
                    let row = serde_json::json!([cells]).to_string();
                    self.append_or_leave_out(Content::Cells(row.into())).await?;
                }
                Rows::TooLong(bytes) => self.leave_out(&format!("it is longer than {bytes} bytes")),
            }
        }
        Ok(())
    }

    /// Appends rows together, or one by one if the server rejects them.
    async fn append_lines(&mut self, lines: Bytes) -> Result<(), Failure> {
        match self.once(Content::Lines(lines.clone())).await {
            Ok(()) => return Ok(()),
            Err(error) if !error.is_content_rejected() => return Err(Failure::new(error)),
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
            Err(error) if error.is_content_rejected() => {
                self.leave_out(&error.to_string());
                Ok(())
            }
            done => done.map_err(Failure::new),
        }
    }

    fn leave_out(&mut self, why: &str) {
        self.left_out += 1;
        report_skipped("row", why, self.left_out);
    }

    async fn once(&mut self, content: Content) -> Result<(), Error> {
        let length = self.waiting.length(&content);
        let mut retry = AppendRetry::default();
        let size = self.size;
        loop {
            match self.table.append(content.clone()).await {
                Ok(added) => {
                    self.rows += added.rows;
                    self.size = added.size.unwrap_or(size + content.len() as u64);
                    return Ok(());
                }
                Err(error @ (Error::Lost(_) | Error::Timeout(_))) => {
                    retry.pause(error).await?;
                    let now = self.settled(&mut retry).await?;
                    if now == size {
                        continue;
                    }
                    self.size = now;
                    if length.is_some_and(|length| now != size + length) {
                        print_notice(
                            "another client has extended the table meanwhile: some lines may be missing in it",
                        );
                    }
                    return Ok(());
                }
                Err(error) => retry.pause(error).await?,
            }
        }
    }

    /// The size of the table's file after all requests in flight. The displayed size may be slightly outdated.
    async fn settled(&mut self, retry: &mut AppendRetry) -> Result<u64, Error> {
        let mut before = None;
        loop {
            match self.table.size().await {
                Ok(size) if before == Some(size) => return Ok(size),
                Ok(size) => before = Some(size),
                Err(error) => retry.pause(error).await?,
            }
            sleep(IN_FLIGHT_TIME).await;
        }
    }
}

/// Retries until success.
struct AppendRetry {
    backoff: Backoff,
    told: bool,
}

impl Default for AppendRetry {
    fn default() -> Self {
        Self { backoff: Backoff::new(MAX_DELAY), told: false }
    }
}

impl AppendRetry {
    /// Waits before the next attempt. Reports the first error.
    ///
    /// # Errors
    /// The error, if it is permanent.
    async fn pause(&mut self, error: Error) -> Result<(), Error> {
        if !error.is_retryable() {
            return Err(error);
        }
        if !std::mem::replace(&mut self.told, true) {
            print_notice(format_args!("{error}; retrying until it succeeds"));
        }
        sleep(self.backoff.wait()).await;
        Ok(())
    }
}
