//! Column facts, made when somebody asks for them and kept until the file changes.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tidings_table::{Cancel, ColumnFacts, ColumnType, Control, Facts};

use super::Service;
use super::failure::Failure;
use super::message;
use super::room::Look;

/// Stops the making of facts when nobody waits for them any more.
struct Stop(Cancel);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The facts of a table as a message. Who asks while they are made waits for the same ones.
///
/// # Errors
/// The disk's; 409 when the asker goes.
pub(super) async fn of(service: &Arc<Service>, look: Look) -> Result<Bytes, Failure> {
    let mut cache = look.facts.lock().await;
    let reading = Arc::clone(look.view.reading());
    let received = reading.summary().received;
    if let Some((of, frame)) = &*cache
        && *of == received
    {
        return Ok(frame.clone());
    }
    let _permit = match received > super::HEAVY {
        true => {
            Some(Arc::clone(&service.heavy).acquire_owned().await.expect("a semaphore that nobody closes"))
        }
        false => None,
    };
    let stop = Stop(Cancel::default());
    let cancel = stop.0.clone();
    let made = tokio::task::spawn_blocking(move || reading.facts(Control::default().cancelled_by(&cancel)));
    let facts = made.await.map_err(|_| Failure::internal())??;
    let frame = message::frame(&text(&facts));
    *cache = Some((received, frame.clone()));
    Ok(frame)
}

fn text(facts: &Facts) -> String {
    let columns: Vec<_> = facts.columns.iter().map(column).collect();
    json!({"facts": {"rows": facts.rows, "columns": columns}}).to_string()
}

fn column(facts: &ColumnFacts) -> serde_json::Value {
    let name = match facts.column_type {
        ColumnType::Empty => "empty",
        ColumnType::Integer => "integer",
        ColumnType::Decimal => "decimal",
        ColumnType::Date => "date",
        ColumnType::Boolean => "boolean",
        ColumnType::Text => "text",
    };
    let bins: Vec<_> = facts.histogram.iter().map(|bin| bin.count).collect();
    json!({
        "type": name,
        "empty": facts.kinds.empty,
        "distinct": facts.distinct.count,
        "exact": facts.distinct.exact,
        "min": facts.min,
        "max": facts.max,
        "mean": facts.mean,
        "histogram": bins,
        "top": facts.top,
    })
}
