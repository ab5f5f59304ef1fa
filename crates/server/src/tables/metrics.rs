//! The metrics of the table service.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidings_table_service::{BucketCounters, Service};

use tidings_metrics::{BYTES, Collect, MetricWriter};

/// Reports the metrics of the table service.
pub(crate) struct TableMetrics(pub(crate) Arc<Service>);

impl Collect for TableMetrics {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let service = &self.0;
        let (counters, (stored, bytes)) = (&service.counters, service.stored());
        out.gauge("tidings_tables", None, "Stored tables; in a bucket, as last counted", stored)?;
        out.gauge(
            "tidings_tables_stored",
            BYTES,
            "Bytes of the files of all stored tables; in a bucket, as last counted",
            bytes,
        )?;
        out.gauge(
            "tidings_tables_open",
            None,
            "Tables in memory, with viewers now or a moment ago",
            load(&counters.open),
        )?;
        out.gauge(
            "tidings_tables_temporary",
            BYTES,
            "Bytes of temporary files: unpacked files, sort keys of views, and removed files that are still read",
            service.unlinked(),
        )?;
        out.counters(
            "tidings_table_evicted",
            "Slow uploads and downloads of tables that were ended in favour of others",
            "transfer",
            service.gave_way(),
        )?;
        out.counters(
            "tidings_table_refused",
            "Uploads and downloads of tables that were rejected, by reason",
            "reason",
            service.refused(),
        )?;
        out.gauge(
            "tidings_table_people_unlisted",
            None,
            "Viewers of tables that are not in a list of people, because it is full",
            load(&counters.unlisted),
        )?;
        out.gauge(
            "tidings_table_private_views",
            None,
            "Private views of viewers of tables",
            load(&counters.private_views),
        )?;
        out.gauge(
            "tidings_table_viewers",
            None,
            "Connections of viewers of tables",
            load(&counters.viewers),
        )?;
        out.gauge(
            "tidings_table_unread",
            BYTES,
            "Bytes of responses to viewers of tables that are not written yet, without the shared view",
            service.unread_bytes(),
        )?;
        out.gauge(
            "tidings_table_live",
            BYTES,
            "Bytes of memory of the keys of tables, and of their sorted and filtered views",
            service.live_bytes(),
        )?;
        out.gauge(
            "tidings_table_groups",
            BYTES,
            "Bytes of memory of the groups of views of tables",
            service.group_bytes(),
        )?;
        out.counters(
            "tidings_table_uploads",
            "Uploads of tables that have ended, by outcome",
            "outcome",
            counters.uploads.iter(),
        )?;
        out.counter(
            "tidings_table_received",
            BYTES,
            "Bytes of files and rows received for tables",
            load(&counters.bytes),
        )?;
        out.counter(
            "tidings_table_rows",
            None,
            "Rows of files uploaded whole, and rows appended",
            load(&counters.rows),
        )?;
        out.counter(
            "tidings_table_rows_updated",
            None,
            "Rows of tables that were replaced by key",
            load(&counters.updated_rows),
        )?;
        out.counter(
            "tidings_table_rows_removed",
            None,
            "Rows of tables that were removed by key",
            load(&counters.removed_rows),
        )?;
        out.counters(
            "tidings_table_compactions",
            "Compactions of the logs of tables with a key, by outcome",
            "outcome",
            counters.compactions.iter(),
        )?;
        out.counter(
            "tidings_table_compacted",
            BYTES,
            "Bytes by which compactions have made the logs of tables with a key smaller",
            load(&counters.compacted_bytes),
        )?;
        out.counter(
            "tidings_table_cell_messages",
            None,
            "Messages about cells of tables that changed in place, each encoded once for all viewers",
            load(&counters.cell_messages),
        )?;
        out.counter(
            "tidings_table_views",
            None,
            "Views of tables that were encoded, each once for all viewers",
            load(&counters.views),
        )?;
        out.counter(
            "tidings_table_errors",
            None,
            "Errors that were sent to viewers of tables",
            load(&counters.errors),
        )?;
        match service.bucket() {
            Some((counters, copies)) => collect_bucket(counters, copies, out),
            None => Ok(()),
        }
    }
}

fn collect_bucket(counters: &BucketCounters, copies: u64, out: &mut MetricWriter<'_>) -> fmt::Result {
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let up = u64::from(counters.up.load(Ordering::Relaxed));
    out.gauge(
        "tidings_tables_bucket_up",
        None,
        "Whether the last request to the bucket of tables got a response",
        up,
    )?;
    out.gauge(
        "tidings_tables_copies",
        BYTES,
        "Bytes of tables of the bucket that are cached on this node's disk",
        copies,
    )?;
    out.counters(
        "tidings_tables_bucket_requests",
        "Requests to the bucket of tables, by whether they got a response (with a status below 500)",
        "outcome",
        counters.requests.iter(),
    )?;
    let (sent, received) = (load(&counters.sent), load(&counters.received));
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
        "Appends that were repeated because another node had appended at the same position",
        load(&counters.conflicts),
    )
}
