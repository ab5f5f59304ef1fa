//! One transaction: the next rows of a partition, their commands, and the deletion of those that are done.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::Work;
use super::connection::{Failure, within};
use crate::{MAX_BATCH, MAX_PARAMS};

/// The time after which a batch ends before its next row, so that the rows that are done are deleted.
const BATCH_TIME: Duration = Duration::from_secs(5);
/// Most rows that are counted.
const MAX_BACKLOG: i64 = 100_000;
/// Begins a transaction. Its locks are free when a node has not responded for the time.
const BEGIN: &str =
    "BEGIN; SET LOCAL statement_timeout = '30s'; SET LOCAL idle_in_transaction_session_timeout = '5min'";

/// The end of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchEnd {
    /// There are probably more rows.
    MoreRows,
    /// There are no more rows, or another node reads this partition.
    NoMoreRows,
    /// The command of the next row must be repeated later.
    Blocked,
}

/// Reads one partition over one connection.
pub(super) struct Batch<'a> {
    pub(super) work: &'a Work,
    pub(super) client: &'a Client,
    pub(super) partition: usize,
}

impl Batch<'_> {
    /// Runs the commands of the next rows.
    ///
    /// # Errors
    /// [`Failure`]; then the connection must be closed, which ends its transaction.
    pub(super) async fn run(&self) -> Result<BatchEnd, Failure> {
        let partition = i32::try_from(self.partition).unwrap_or(i32::MAX);
        let table = &self.work.source.table;
        let any = format!("SELECT 1 FROM {table} WHERE partition = $1 LIMIT 1");
        if within(self.client.query_typed(&any, &[(&partition, Type::INT4)])).await?.is_empty() {
            return Ok(BatchEnd::NoMoreRows);
        }
        within(self.client.batch_execute(BEGIN)).await?;
        let end =
            if self.lock(partition).await? { self.run_rows(partition).await? } else { BatchEnd::NoMoreRows };
        within(self.client.batch_execute("COMMIT")).await?;
        Ok(end)
    }

    /// Locks the partition until the end of the transaction, unless another node has locked it.
    async fn lock(&self, partition: i32) -> Result<bool, Failure> {
        let name = format!("tidings consumer {} {partition}", self.work.source.table);
        let lock = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))";
        let rows = within(self.client.query_typed(lock, &[(&name, Type::TEXT)])).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    async fn run_rows(&self, partition: i32) -> Result<BatchEnd, Failure> {
        let Work { source, .. } = self.work;
        // The parameters of a row that is too long are not read; rows end where they are too long together.
        let next = format!(
            "SELECT id, version, method, length, CASE WHEN length <= $3 THEN params END FROM (SELECT id::int8 AS id, \
             xmin::text AS version, left(method::text, 100) AS method, payload::text AS params, \
             octet_length(payload::text)::int8 AS length, \
             (sum(octet_length(payload::text)) OVER (ORDER BY id))::int8 AS total \
             FROM {table} WHERE partition = $1 ORDER BY id LIMIT $2) AS next \
             WHERE total - length <= $4 ORDER BY id",
            table = source.table
        );
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 4] = [
            (&partition, Type::INT4),
            (&source.limit, Type::INT8),
            (&MAX_PARAMS, Type::INT8),
            (&MAX_BATCH, Type::INT8),
        ];
        let rows = within(self.client.query_typed(&next, &parameters)).await?;
        let read = rows.len();
        let began = Instant::now();
        let mut done: Vec<i64> = Vec::with_capacity(read);
        let mut is_blocked = false;
        for row in rows {
            if began.elapsed() > BATCH_TIME || *self.work.stopped.borrow() {
                break;
            }
            let id = row.get(0);
            if !self.run_row(id, &row).await {
                is_blocked = true;
                break;
            }
            done.push(id);
        }
        if !done.is_empty() {
            let delete = format!("DELETE FROM {} WHERE id = ANY($1)", source.table);
            within(self.client.query_typed(&delete, &[(&done, Type::INT8_ARRAY)])).await?;
        }
        Ok(match done.len() {
            _ if is_blocked => BatchEnd::Blocked,
            0 => BatchEnd::NoMoreRows,
            _ => BatchEnd::MoreRows,
        })
    }

    /// Runs the command of a row. Returns whether the row is done.
    async fn run_row(&self, id: i64, row: &Row) -> bool {
        let Work { source, target, counters, .. } = self.work;
        let (version, method, length): (String, String, i64) = (row.get(1), row.get(2), row.get(3));
        let command = match row.get::<_, Option<String>>(4) {
            None => Err(format!("the payload has {length} bytes, more than {MAX_PARAMS}")),
            Some(params) => Ok((&*method, Bytes::from(params))),
        };
        // The version differs where a table is emptied and its ids begin again.
        let key = format!("consumer {} {id} {version}", source.runner.name());
        source.runner.run((target, counters), &id.to_string(), command, key).await
    }

    /// The number of rows of the partition, up to [`MAX_BACKLOG`].
    ///
    /// # Errors
    /// As [`Self::run`].
    pub(super) async fn backlog(&self) -> Result<u64, Failure> {
        let partition = i32::try_from(self.partition).unwrap_or(i32::MAX);
        let count = format!(
            "SELECT count(*) FROM (SELECT 1 FROM {} WHERE partition = $1 LIMIT {MAX_BACKLOG}) AS waiting",
            self.work.source.table
        );
        let rows = within(self.client.query_typed(&count, &[(&partition, Type::INT4)])).await?;
        Ok(rows.first().and_then(|row| u64::try_from(row.get::<_, i64>(0)).ok()).unwrap_or_default())
    }
}
