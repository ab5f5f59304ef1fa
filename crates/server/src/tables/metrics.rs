//! What the table service counts.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidings_table_service::{BucketCounters, Service};

use tidings_metrics::{BYTES, Collect, MetricWriter};

/// The table service in the registry of metrics.
pub(crate) struct TableMetrics(pub(crate) Arc<Service>);

impl Collect for TableMetrics {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let service = &self.0;
        let (counters, (stored, bytes)) = (&service.counters, service.stored());
        out.gauge("tidings_tables", None, "Tables kept; in a bucket, as last counted", stored)?;
        out.gauge(
            "tidings_tables_stored",
            BYTES,
            "Bytes of the files of all tables kept; in a bucket, as last counted",
            bytes,
        )?;
        out.gauge(
            "tidings_tables_open",
            None,
            "Tables in memory, which somebody looks at or did a moment ago",
            of(&counters.open),
        )?;
        out.gauge(
            "tidings_tables_nameless",
            BYTES,
            "Bytes of what packed files unpack to, of what views are sorted with, and of removed files that are still read",
            service.nameless(),
        )?;
        out.counters(
            "tidings_table_gave_way",
            "Uploads and downloads of tables that were ended for others because they were slow",
            "transfer",
            service.gave_way(),
        )?;
        out.counters(
            "tidings_table_refused",
            "Uploads and downloads of tables that were refused, by the reason",
            "reason",
            service.refused(),
        )?;
        out.gauge("tidings_table_viewers", None, "Connections of viewers of tables", of(&counters.viewers))?;
        let outcomes = ["whole", "aborted", "failed"];
        out.counters(
            "tidings_table_uploads",
            "Uploads of tables that have ended, by how",
            "outcome",
            outcomes.into_iter().zip(counters.uploads.iter().map(of)),
        )?;
        out.counter(
            "tidings_table_received",
            BYTES,
            "Bytes of files and rows received for tables",
            of(&counters.bytes),
        )?;
        out.counter(
            "tidings_table_rows",
            None,
            "Rows of files uploaded whole, and rows appended",
            of(&counters.rows),
        )?;
        out.counter(
            "tidings_table_views",
            None,
            "Views of tables that were encoded, each for all who see it",
            of(&counters.views),
        )?;
        out.counter(
            "tidings_table_errors",
            None,
            "Errors that viewers of tables were told",
            of(&counters.errors),
        )?;
        match service.bucket() {
            Some((numbers, copies)) => bucket_numbers(numbers, copies, out),
            None => Ok(()),
        }
    }
}

fn bucket_numbers(numbers: &BucketCounters, copies: u64, out: &mut MetricWriter<'_>) -> fmt::Result {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let up = u64::from(numbers.up.load(Ordering::Relaxed));
    out.gauge(
        "tidings_tables_bucket_up",
        None,
        "Whether the last request to the bucket of tables was answered",
        up,
    )?;
    out.gauge(
        "tidings_tables_copies",
        BYTES,
        "Bytes of tables of the bucket that lie on this node's disk",
        copies,
    )?;
    out.counters(
        "tidings_tables_bucket_requests",
        "Requests to the bucket of tables, by whether they were answered (with a status below 500)",
        "outcome",
        ["answered", "failed"].into_iter().zip(numbers.requests.iter().map(of)),
    )?;
    let (sent, received) = (of(&numbers.sent), of(&numbers.received));
    out.counter("tidings_tables_bucket_sent", BYTES, "Bytes sent to the bucket of tables", sent)?;
    out.counter(
        "tidings_tables_bucket_received",
        BYTES,
        "Bytes received from the bucket of tables",
        received,
    )?;
    out.counter(
        "tidings_tables_bucket_conflicts",
        None,
        "Appends that were done again because another node had appended at the same place",
        of(&numbers.conflicts),
    )
}
