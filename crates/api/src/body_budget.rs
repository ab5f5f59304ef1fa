//! The memory for the bodies of requests. Bytes are reserved before a body is received, and released when its command has been
//! parsed.
//!
//! Invariant: one key never has all of it, so that slow requests of one key do not stop those of others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Most bytes of all bodies at a time; twice the longest body if that is more.
const MAX_BODIES: usize = 64 << 20;
/// Bytes per permit of the semaphores.
const UNIT: usize = 1 << 10;

/// The memory for the bodies of all requests to one port.
#[derive(Debug)]
pub struct BodyBudget {
    all: Semaphore,
    /// The share of each key that has sent a request, by its name. Names come from the configuration.
    keys: Mutex<HashMap<Arc<str>, Arc<Semaphore>>>,
    /// Units of a share: half of all.
    share: usize,
}

/// Reserved memory; released when dropped.
#[derive(Debug)]
pub struct BodyReservation<'a> {
    of_key: OwnedSemaphorePermit,
    of_all: SemaphorePermit<'a>,
}

impl BodyBudget {
    /// The memory for bodies of at most `max_body` bytes.
    pub fn new(max_body: usize) -> Self {
        let share = (MAX_BODIES / 2).max(max_body).div_ceil(UNIT);
        Self { all: Semaphore::new(2 * share), keys: Mutex::default(), share }
    }

    /// Reserves `bytes`, at most `max_body`, for a request with the key of this name. Waits for at most `within`; `None` if not
    /// enough is free in time.
    pub async fn reserve(
        &self,
        key: &Arc<str>,
        bytes: usize,
        within: Duration,
    ) -> Option<BodyReservation<'_>> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let share = self.share(key);
        let reserve = async {
            let of_key = share.acquire_many_owned(units).await.ok()?;
            let of_all = self.all.acquire_many(units).await.ok()?;
            Some(BodyReservation { of_key, of_all })
        };
        tokio::time::timeout(within, reserve).await.ok().flatten()
    }

    fn share(&self, key: &Arc<str>) -> Arc<Semaphore> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let share = keys.entry(Arc::clone(key)).or_insert_with(|| Arc::new(Semaphore::new(self.share)));
        Arc::clone(share)
    }
}

impl BodyReservation<'_> {
    /// Releases the memory beyond `bytes`, the length of the body.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.of_all.num_permits().saturating_sub(bytes.div_ceil(UNIT));
        drop(self.of_all.split(surplus));
        drop(self.of_key.split(surplus));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(10);

    #[tokio::test]
    async fn one_key_never_takes_the_memory_of_others() {
        let budget = BodyBudget::new(MAX_BODIES);
        let (reader, writer): (Arc<str>, Arc<str>) = ("reader".into(), "writer".into());
        let mut first = budget.reserve(&reader, MAX_BODIES, SHORT).await.expect("free memory");
        assert!(budget.reserve(&reader, 1, SHORT).await.is_none());
        let other = budget.reserve(&writer, MAX_BODIES, SHORT).await;
        assert!(other.is_some());
        // What a body does not need is free for the next one.
        first.shrink_to(MAX_BODIES / 2);
        let second = budget.reserve(&reader, MAX_BODIES / 2, SHORT).await;
        assert!(second.is_some());
        drop((first, second, other));
        assert!(budget.reserve(&reader, MAX_BODIES, SHORT).await.is_some());
    }

    #[tokio::test]
    async fn a_body_of_any_permitted_length_finds_memory() {
        for max_body in [0, 1, 1 << 20, 3 * MAX_BODIES] {
            let budget = BodyBudget::new(max_body);
            assert!(budget.reserve(&Arc::from("k"), max_body, SHORT).await.is_some(), "{max_body}");
        }
    }
}
