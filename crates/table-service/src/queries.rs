//! How much is computed of tables at once, so that the memory of all queries together is bounded.
//!
//! Invariants:
//! - Queries of large tables run one after the other; those of small ones together take at most [`LIGHT`], by the text and
//!   the rows that they look at, unpacked.
//! - Pages that are read at once take at most [`WINDOWS`] together.
//! - A large query never delays the pages and the small queries of other tables.

use std::sync::Arc;

use tidings_table::Summary;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Queries that cost more run one after the other.
const HEAVY: u64 = 16 << 20;
/// What all smaller queries that run at once may cost together.
const LIGHT: u64 = 64 << 20;
/// What pages that are read at once may take together.
const WINDOWS: u64 = 128 << 20;
/// The most text of a page, as the engine bounds it.
const PAGE: u64 = 8 << 20;
/// What a permit of the semaphores stands for.
const UNIT: u64 = 64 << 10;
/// What a row costs besides its text: its key and its number.
const ROW: u64 = 32;

/// The budgets of queries.
#[derive(Debug)]
pub(super) struct Queries {
    heavy: Arc<Semaphore>,
    light: Arc<Semaphore>,
    windows: Arc<Semaphore>,
}

impl Default for Queries {
    fn default() -> Self {
        let pool = |bytes: u64| Arc::new(Semaphore::new((bytes / UNIT) as usize));
        Self { heavy: Arc::new(Semaphore::new(1)), light: pool(LIGHT), windows: pool(WINDOWS) }
    }
}

impl Queries {
    /// Waits until all rows of such a table may be looked at; until the permit is dropped.
    pub(super) async fn query(&self, of: &Summary) -> OwnedSemaphorePermit {
        let cost = of.text.saturating_add(of.lines.saturating_mul(ROW));
        if cost > HEAVY { take(&self.heavy, 1).await } else { take(&self.light, units(cost)).await }
    }

    /// Waits until a page of such a table may be read; until the permit is dropped.
    pub(super) async fn window(&self, of: &Summary) -> OwnedSemaphorePermit {
        // As text, and as the answer that is made of it.
        take(&self.windows, units(2 * of.text.min(PAGE))).await
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT).max(1)).unwrap_or(u32::MAX)
}

async fn take(pool: &Arc<Semaphore>, permits: u32) -> OwnedSemaphorePermit {
    Arc::clone(pool).acquire_many_owned(permits).await.expect("a semaphore that nobody closes")
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn table(text: u64, lines: u64) -> Summary {
        Summary { text, lines, ..Summary::default() }
    }

    /// What comes at once; `None`: it waits.
    fn now<T>(what: impl Future<Output = T>) -> Option<T> {
        match pin!(what).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn small_queries_are_budgeted_by_their_text_and_rows_together() {
        let queries = Queries::default();
        let small = table(8 << 20, 256 << 10);
        let mut under_way: Vec<_> = (0..4).map(|_| now(queries.query(&small)).expect("room")).collect();
        assert!(now(queries.query(&small)).is_none());
        // A large one, and a page, do not wait for them; a second large one waits for the first.
        let large = now(queries.query(&table(1 << 30, 1))).expect("the first");
        assert!(now(queries.query(&table(0, 1 << 20))).is_none());
        assert!(now(queries.window(&table(1 << 30, 1))).is_some());
        drop(large);
        assert!(now(queries.query(&table(0, 1 << 20))).is_some());
        under_way.pop();
        assert!(now(queries.query(&small)).is_some());
    }

    #[test]
    fn pages_are_budgeted_together() {
        let queries = Queries::default();
        let page = || now(queries.window(&table(u64::MAX, 1)));
        let mut pages: Vec<_> = (0..WINDOWS / (2 * PAGE)).map(|_| page().expect("room")).collect();
        assert!(now(queries.window(&table(1, 1))).is_none());
        pages.pop();
        assert!(now(queries.window(&table(1, 1))).is_some());
    }
}
