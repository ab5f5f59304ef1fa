//! The budgets of concurrent queries, which bound their memory.
//!
//! Invariants:
//! - Queries of large tables run one at a time. Concurrent queries of small tables cost at most [`LIGHT_POOL`] in
//!   total, measured by their decompressed text and rows.
//! - Concurrently read pages take at most [`WINDOW_POOL`] in total.
//! - A large query of a private view waits for the others of its kind first, so that a shared view waits for at most one
//!   of them.
//! - A large query never delays the pages and the small queries of other tables.

use std::sync::Arc;

use tidings_table::Summary;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Queries of a higher cost run one at a time.
const HEAVY_COST: u64 = 16 << 20;
/// The budget of all concurrent smaller queries.
const LIGHT_POOL: u64 = 64 << 20;
/// The budget of all concurrently read pages.
const WINDOW_POOL: u64 = 128 << 20;
/// The most text of a page; the engine has the same limit.
const MAX_PAGE: u64 = 8 << 20;
/// The cost of one semaphore permit.
const UNIT: u64 = 64 << 10;
/// The cost of a row besides its text: its sort key and its number.
const ROW_COST: u64 = 32;

/// The budgets of queries.
#[derive(Debug)]
pub(super) struct Queries {
    heavy: Arc<Semaphore>,
    heavy_private: Arc<Semaphore>,
    light: Arc<Semaphore>,
    windows: Arc<Semaphore>,
}

impl Default for Queries {
    fn default() -> Self {
        let pool = |bytes: u64| Arc::new(Semaphore::new((bytes / UNIT) as usize));
        let single = || Arc::new(Semaphore::new(1));
        Self { heavy: single(), heavy_private: single(), light: pool(LIGHT_POOL), windows: pool(WINDOW_POOL) }
    }
}

impl Queries {
    /// Waits until all rows of such a table may be processed. Released when the permit is dropped.
    pub(super) async fn query(&self, of: &Summary) -> OwnedSemaphorePermit {
        let cost = cost(of);
        if cost > HEAVY_COST { take(&self.heavy, 1).await } else { take(&self.light, units(cost)).await }
    }

    /// As [`Self::query`], for a private view.
    pub(super) async fn private_query(
        &self,
        of: &Summary,
    ) -> (Option<OwnedSemaphorePermit>, OwnedSemaphorePermit) {
        let turn = if cost(of) > HEAVY_COST { Some(take(&self.heavy_private, 1).await) } else { None };
        (turn, self.query(of).await)
    }

    /// Waits until a page of such a table may be read. Released when the permit is dropped.
    pub(super) async fn window(&self, of: &Summary) -> OwnedSemaphorePermit {
        // Counted twice: as text, and as the response.
        take(&self.windows, units(2 * of.text.min(MAX_PAGE))).await
    }
}

fn cost(of: &Summary) -> u64 {
    of.text.saturating_add(of.lines.saturating_mul(ROW_COST))
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT).max(1)).unwrap_or(u32::MAX)
}

async fn take(pool: &Arc<Semaphore>, permits: u32) -> OwnedSemaphorePermit {
    Arc::clone(pool).acquire_many_owned(permits).await.expect("the semaphore is never closed")
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn table(text: u64, lines: u64) -> Summary {
        Summary { text, lines, ..Summary::default() }
    }

    /// The output of a future that is ready; `None` for a pending one.
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
        let mut active: Vec<_> = (0..4).map(|_| now(queries.query(&small)).expect("room")).collect();
        assert!(now(queries.query(&small)).is_none());
        // A large query and a page do not wait for them; a second large query waits for the first.
        let large = now(queries.query(&table(1 << 30, 1))).expect("the first");
        assert!(now(queries.query(&table(0, 1 << 20))).is_none());
        assert!(now(queries.window(&table(1 << 30, 1))).is_some());
        drop(large);
        assert!(now(queries.query(&table(0, 1 << 20))).is_some());
        active.pop();
        assert!(now(queries.query(&small)).is_some());
    }

    #[test]
    fn a_shared_view_waits_for_one_large_private_query() {
        let queries = Queries::default();
        let large = table(1 << 30, 1);
        let private = now(queries.private_query(&large)).expect("the first");
        let mut second = pin!(queries.private_query(&large));
        let mut shared = pin!(queries.query(&large));
        let mut context = Context::from_waker(Waker::noop());
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(shared.as_mut().poll(&mut context).is_pending());
        drop(private);
        // The shared query is next, although the private one came first.
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(shared.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn pages_are_budgeted_together() {
        let queries = Queries::default();
        let page = || now(queries.window(&table(u64::MAX, 1)));
        let mut pages: Vec<_> = (0..WINDOW_POOL / (2 * MAX_PAGE)).map(|_| page().expect("room")).collect();
        assert!(now(queries.window(&table(1, 1))).is_none());
        pages.pop();
        assert!(now(queries.window(&table(1, 1))).is_some());
    }
}
