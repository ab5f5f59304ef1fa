//! The limits of rows that backends append.
//!
//! Invariants:
//! - The permission to append is checked before a byte of the rows is read.
//! - A request has at most [`MAX_BODY`] bytes of rows, and all together hold [`ALL`], of which [large](LARGE) ones take
//!   at most [`ALL_LARGE`]; bytes count from before they arrive until the rows are written. A request that finds
//!   no room for [`ARRIVAL`] gets 503.
//! - Rows are turned into those of a file in a few times their own size; of [large](LARGE) ones that is done one
//!   request after the other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT, HeaderMap};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failure::Failure;

/// Most bytes of rows in one request.
pub(super) const MAX_BODY: usize = 16 << 20;
/// Most bytes of rows that all requests hold together, counted in units.
const ALL: usize = 64 << 20;
const ALL_LARGE: usize = 48 << 20;
const UNIT: usize = 64 << 10;
/// How long rows may wait for room, and how long they may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(30);
/// Larger rows than these are converted one after the other.
const LARGE: usize = 1 << 20;
/// How much is read of refused rows, and for how long, so that the response reaches a client that sends all rows before it
/// reads.
const DRAIN: usize = 2 * MAX_BODY;
const DRAINING: Duration = Duration::from_secs(10);

/// The room that there is for rows.
#[derive(Debug)]
pub(super) struct AppendLimiter {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    turn: Arc<Mutex<()>>,
}

/// The room that rows take, until this is dropped.
#[derive(Debug)]
pub(super) struct AppendPermit {
    _room: OwnedSemaphorePermit,
    turn: Option<Arc<Mutex<()>>>,
}

impl Default for AppendLimiter {
    fn default() -> Self {
        let pool = |bytes| Arc::new(Semaphore::new(bytes / UNIT));
        Self { small: pool(ALL - ALL_LARGE), large: pool(ALL_LARGE), turn: Arc::default() }
    }
}

impl AppendPermit {
    /// Waits until no other large rows are being converted, if these are large. For a thread that may wait.
    pub(super) fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        self.turn.as_ref().map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AppendLimiter {
    /// Reads the rows of a permitted request.
    ///
    /// # Errors
    /// 413 for too many rows, 408 when they do not arrive, 503 when there is no room for them.
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
        // All of it at once: requests that each hold a part would block each other.
        let room = Arc::clone(pool).acquire_many_owned(length.div_ceil(UNIT) as u32);
        let Ok(Ok(room)) = tokio::time::timeout(ARRIVAL, room).await else {
            return Err(Failure::new(503, "too many rows are on their way to tables; try again"));
        };
        let arriving = Limited::new(body, length).collect();
        let Ok(arrived) = tokio::time::timeout(ARRIVAL, arriving).await else {
            let seconds = ARRIVAL.as_secs();
            return Err(Failure::new(408, format!("the rows did not arrive within {seconds} s")));
        };
        let turn = is_large.then(|| Arc::clone(&self.turn));
        match arrived {
            Ok(rows) => Ok((rows.to_bytes(), AppendPermit { _room: room, turn })),
            Err(error) if error.is::<LengthLimitError>() => Err(too_long()),
            Err(error) => Err(Failure::bad(format!("the rows did not arrive whole: {error}"))),
        }
    }
}

/// Refuses rows that are packed: they would be taken for what they are not.
///
/// # Errors
/// 415, with what to do.
pub(super) fn check_encoding(headers: &HeaderMap) -> Result<(), Failure> {
    let is_plain = |value: &str| value.split(',').all(|one| one.trim().eq_ignore_ascii_case("identity"));
    let mut packed = headers.get_all(CONTENT_ENCODING).iter();
    match packed.find(|value| !value.to_str().is_ok_and(is_plain)) {
        None => Ok(()),
        Some(_) => Err(Failure::new(415, "rows are taken as they are, without Content-Encoding")),
    }
}

/// Reads what is left of rows that are refused, and drops it.
pub(super) async fn drain(headers: &HeaderMap, body: &mut Body) {
    // A client that waits for 100 (Continue) sends nothing (RFC 9110 §10.1.1).
    if headers.contains_key(EXPECT) {
        return;
    }
    let dropping = async {
        let mut left = DRAIN;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    let _ = tokio::time::timeout(DRAINING, dropping).await;
}
