//! Room for the answers to reading commands: histories, presence, channels. It is taken before anything is read, and
//! given back when the answer's last byte has been handed to the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use tidings_wire::code;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::reply::ApiError;

/// Most bytes that one reading command reads. A history goes on in the next page, other answers are refused.
pub(super) const ANSWER: usize = 4 << 20;
/// Most bytes that the answers of all requests take together.
const ANSWERS: usize = 32 << 20;
/// The unit in which they are counted.
const UNIT: usize = 1 << 10;
/// How long a request waits for room.
const PATIENCE: Duration = Duration::from_secs(5);

/// The room that there is.
#[derive(Debug)]
pub(crate) struct Answers {
    free: Arc<Semaphore>,
    /// Commands refused because there was none.
    pub(crate) refused: AtomicU64,
}

impl Default for Answers {
    fn default() -> Self {
        Self { free: Arc::new(Semaphore::new(ANSWERS / UNIT)), refused: AtomicU64::new(0) }
    }
}

/// Room that is taken.
#[derive(Debug, Default)]
pub(super) struct Charge(Option<OwnedSemaphorePermit>);

impl Charge {
    /// Takes over the room of another answer, which goes out with this one.
    pub(super) fn merge(&mut self, other: Self) {
        match (&mut self.0, other.0) {
            (Some(mine), Some(other)) => mine.merge(other),
            (mine @ None, other) => *mine = other,
            (Some(_), None) => {}
        }
    }
}

impl Answers {
    /// Takes the room of one answer, waiting for it for [`PATIENCE`]. Who holds some already does not wait: two that do
    /// might wait for each other.
    ///
    /// # Errors
    /// [`code::TOO_MANY_REQUESTS`] when there is none by then.
    pub(super) async fn reserve(&self, patient: bool) -> Result<Charge, ApiError> {
        let units = u32::try_from(ANSWER / UNIT).unwrap_or(u32::MAX);
        let free = Arc::clone(&self.free);
        let patience = if patient { PATIENCE } else { Duration::ZERO };
        match tokio::time::timeout(patience, free.acquire_many_owned(units)).await {
            Ok(Ok(permit)) => Ok(Charge(Some(permit))),
            _ => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                let why = "the answers of other requests take all the room; try again later";
                let message = format!("{}: {why}", code::TOO_MANY_REQUESTS.text).into();
                Err(ApiError { code: code::TOO_MANY_REQUESTS.number, message })
            }
        }
    }

    /// Bytes that are taken.
    pub(crate) fn taken(&self) -> u64 {
        ((ANSWERS / UNIT - self.free.available_permits()) * UNIT) as u64
    }
}

impl Charge {
    /// Gives back what an answer of that many bytes does not need.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        if let Some(permit) = &mut self.0 {
            let surplus = permit.num_permits().saturating_sub(bytes.div_ceil(UNIT));
            drop(permit.split(surplus));
        }
    }

    /// An answer that holds the room until it is sent.
    pub(super) fn hold(self, answer: Vec<u8>) -> Bytes {
        if self.0.is_none() { answer.into() } else { Bytes::from_owner(Held { answer, _charge: self }) }
    }
}

struct Held {
    answer: Vec<u8>,
    _charge: Charge,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_take_room_until_they_are_sent_and_then_others_are_refused() {
        let answers = Answers::default();
        let mut sent = Vec::new();
        for _ in 0..ANSWERS / ANSWER {
            sent.push(answers.reserve(true).await.unwrap().hold(b"{}".to_vec()));
        }
        assert_eq!(answers.taken(), ANSWERS as u64);
        let refused = answers.reserve(false).await.unwrap_err();
        assert_eq!(refused.code, code::TOO_MANY_REQUESTS.number);
        assert_eq!(answers.refused.load(Ordering::Relaxed), 1);
        let copy = sent.pop().unwrap().slice(1..);
        assert_eq!(answers.taken(), ANSWERS as u64, "a part of it is still to be sent");
        drop(copy);
        let mut charge = answers.reserve(true).await.unwrap();
        charge.shrink_to(10);
        assert_eq!(answers.taken(), (ANSWERS - ANSWER + UNIT) as u64);
        drop((sent, charge));
        assert_eq!(answers.taken(), 0);
    }
}
