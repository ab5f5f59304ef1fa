//! Limits of rows that backends append.
//!
//! Invariants:
//! - The permission to append is checked before a byte of the rows is read.
//! - A request has at most [`MAX_BODY`] bytes of rows. All requests together hold at most [`POOL`] bytes, of which
//!   [large](LARGE) ones hold at most [`LARGE_POOL`]. Bytes count from before they arrive until the rows are written. A
//!   request that gets no bytes within [`ARRIVAL_TIMEOUT`] fails with 503.
//! - Converting rows takes a few times their size. [Large](LARGE) rows are converted one request at a time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT, HeaderMap};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tidings_table_room::rows::AppendPermit;
use tokio::sync::Semaphore;

use super::failure::Failure;

/// The most bytes of rows in one request.
pub(super) const MAX_BODY: usize = 16 << 20;
/// The most bytes of rows that all requests hold together, counted in units.
const POOL: usize = 64 << 20;
const LARGE_POOL: usize = 48 << 20;
const UNIT: usize = 64 << 10;
/// The timeout for a share of the pool, and for the arrival of the rows.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(30);
/// Rows of more bytes are converted one request at a time.
const LARGE: usize = 1 << 20;
/// The most bytes that are read of rejected rows. Without reading them, the response would not reach a client that
/// sends all rows before it reads.
const MAX_DRAIN: usize = 2 * MAX_BODY;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// The budget of rows of all requests.
#[derive(Debug)]
pub(super) struct AppendLimiter {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    conversion_lock: Arc<Mutex<()>>,
}

impl Default for AppendLimiter {
    fn default() -> Self {
        let pool = |bytes| Arc::new(Semaphore::new(bytes / UNIT));
        Self { small: pool(POOL - LARGE_POOL), large: pool(LARGE_POOL), conversion_lock: Arc::default() }
    }
}

impl AppendLimiter {
    /// Reads the rows of a permitted request.
    ///
    /// # Errors
    /// 413 for too many rows, 408 when they do not arrive in time, 503 when the budget is exhausted.
    pub(super) async fn take(
        &self,
        headers: &HeaderMap,
        body: &mut Body,
    ) -> Result<(Bytes, AppendPermit), Failure> {
        let too_long = || Failure::new(413, format!("one request may have {MAX_BODY} bytes of rows"));
        let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let length: usize = announced.unwrap_or(MAX_BODY);
        if length > MAX_BODY {
            return Err(too_long());
        }
        let is_large = length > LARGE;
        let pool = if is_large { &self.large } else { &self.small };
        // Acquired at once: requests that each hold a part could deadlock.
        let room = Arc::clone(pool).acquire_many_owned(length.div_ceil(UNIT) as u32);
        let Ok(Ok(room)) = tokio::time::timeout(ARRIVAL_TIMEOUT, room).await else {
            return Err(Failure::new(503, "too many rows are on their way to tables; try again"));
        };
        let arriving = Limited::new(body, length).collect();
        let Ok(arrived) = tokio::time::timeout(ARRIVAL_TIMEOUT, arriving).await else {
            let seconds = ARRIVAL_TIMEOUT.as_secs();
            return Err(Failure::new(408, format!("the rows did not arrive within {seconds} s")));
        };
        let conversion_lock = is_large.then(|| Arc::clone(&self.conversion_lock));
        match arrived {
            Ok(rows) => Ok((rows.to_bytes(), AppendPermit::new(room, conversion_lock))),
            Err(error) if error.is::<LengthLimitError>() => Err(too_long()),
            Err(error) => Err(Failure::bad(format!("the rows did not arrive whole: {error}"))),
        }
    }
}

/// Rejects compressed rows, which would be appended as text.
///
/// # Errors
/// 415, with the remedy.
pub(super) fn check_encoding(headers: &HeaderMap) -> Result<(), Failure> {
    let is_plain = |value: &str| value.split(',').all(|one| one.trim().eq_ignore_ascii_case("identity"));
    let mut packed = headers.get_all(CONTENT_ENCODING).iter();
    match packed.find(|value| !value.to_str().is_ok_and(is_plain)) {
        None => Ok(()),
        Some(_) => Err(Failure::new(415, "rows are taken as they are, without Content-Encoding")),
    }
}

/// Reads and discards the rest of rejected rows.
pub(super) async fn drain(headers: &HeaderMap, body: &mut Body) {
    // A client that waits for 100 (Continue) sends nothing (RFC 9110 §10.1.1).
    if headers.contains_key(EXPECT) {
        return;
    }
    let dropping = async {
        let mut left = MAX_DRAIN;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, dropping).await;
}
