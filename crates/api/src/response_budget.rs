//! The memory for responses to reading commands: histories, presence, lists of channels. Bytes are reserved before the
//! data is read, and released when the last byte of the response has been passed to the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tidings_wire::code;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::ApiError;

/// Most bytes that one command reads. A longer history continues in the next page; other responses are rejected.
pub const MAX_RESPONSE: usize = 4 << 20;
/// Most bytes of the responses of all requests together.
const MAX_RESPONSES: usize = 32 << 20;
/// Bytes per permit of the semaphore.
const UNIT: usize = 1 << 10;
/// How long a request waits for memory.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// The memory for all responses.
#[derive(Debug)]
pub struct ResponseBudget {
    free: Arc<Semaphore>,
    /// Commands that were rejected because no memory was free.
    pub rejected: AtomicU64,
}

impl Default for ResponseBudget {
    fn default() -> Self {
        Self { free: Arc::new(Semaphore::new(MAX_RESPONSES / UNIT)), rejected: AtomicU64::new(0) }
    }
}

/// Reserved memory; released when dropped. The default is none.
#[derive(Debug, Default)]
pub struct Reservation(Option<OwnedSemaphorePermit>);

impl Reservation {
    /// Adds the memory of another response, which is sent together with this one.
    pub fn merge(&mut self, other: Self) {
        match (&mut self.0, other.0) {
            (Some(mine), Some(other)) => mine.merge(other),
            (mine @ None, other) => *mine = other,
            (Some(_), None) => {}
        }
    }
}

impl ResponseBudget {
    /// Reserves the memory of one response. With `wait` it waits for at most [`MAX_WAIT`]. A request that already holds
    /// a reservation must not wait, because two such requests could deadlock.
    ///
    /// # Errors
    /// [`code::TOO_MANY_REQUESTS`] if not enough is free in time.
    pub async fn reserve(&self, wait: bool) -> Result<Reservation, ApiError> {
        let units = u32::try_from(MAX_RESPONSE / UNIT).unwrap_or(u32::MAX);
        let free = Arc::clone(&self.free);
        let timeout = if wait { MAX_WAIT } else { Duration::ZERO };
        match tokio::time::timeout(timeout, free.acquire_many_owned(units)).await {
            Ok(Ok(permit)) => Ok(Reservation(Some(permit))),
            _ => {
                self.rejected.fetch_add(1, Ordering::Relaxed);
                let reason = "the responses to other requests take all memory for responses; try again later";
                let message = format!("{}: {reason}", code::TOO_MANY_REQUESTS.text).into();
                Err(ApiError { code: code::TOO_MANY_REQUESTS.number, message })
            }
        }
    }

    /// Reserved bytes.
    pub fn reserved(&self) -> u64 {
        ((MAX_RESPONSES / UNIT - self.free.available_permits()) * UNIT) as u64
    }
}

impl Reservation {
    /// Releases the memory beyond `bytes`, the length of the response.
    pub fn shrink_to(&mut self, bytes: usize) {
        if let Some(permit) = &mut self.0 {
            let surplus = permit.num_permits().saturating_sub(bytes.div_ceil(UNIT));
            drop(permit.split(surplus));
        }
    }

    /// The body of a response, which holds the reservation until it is dropped.
    pub fn hold(self, body: Vec<u8>) -> Bytes {
        if self.0.is_none() {
            body.into()
        } else {
            Bytes::from_owner(ReservedBody { body, _reservation: self })
        }
    }
}

struct ReservedBody {
    body: Vec<u8>,
    _reservation: Reservation,
}

impl AsRef<[u8]> for ReservedBody {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn responses_hold_memory_until_they_are_sent_and_others_are_rejected_meanwhile() {
        let budget = ResponseBudget::default();
        let mut sent = Vec::new();
        for _ in 0..MAX_RESPONSES / MAX_RESPONSE {
            sent.push(budget.reserve(true).await.unwrap().hold(b"{}".to_vec()));
        }
        assert_eq!(budget.reserved(), MAX_RESPONSES as u64);
        let error = budget.reserve(false).await.unwrap_err();
        assert_eq!(error.code, code::TOO_MANY_REQUESTS.number);
        assert_eq!(budget.rejected.load(Ordering::Relaxed), 1);
        let copy = sent.pop().unwrap().slice(1..);
        assert_eq!(budget.reserved(), MAX_RESPONSES as u64, "a part is not sent yet");
        drop(copy);
        let mut reservation = budget.reserve(true).await.unwrap();
        reservation.shrink_to(10);
        assert_eq!(budget.reserved(), (MAX_RESPONSES - MAX_RESPONSE + UNIT) as u64);
        drop((sent, reservation));
        assert_eq!(budget.reserved(), 0);
    }
}
