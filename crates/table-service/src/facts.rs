//! Column facts, computed on request and cached until the file changes.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tidings_table::{Cancel, ColumnFacts, ColumnType, Control, DateOrder, DecimalMark, Error, Facts, View};

use super::Service;
use super::failure::Failure;
use super::message;
use super::room::Snapshot;

/// Cancels the computation on drop: no request waits for it any more.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The facts of a table as a message. Concurrent requests share one computation.
///
/// # Errors
/// Errors of the disk; 409 when the computation is cancelled.
pub(super) async fn load(service: &Arc<Service>, snapshot: Snapshot) -> Result<Bytes, Failure> {
    let mut cache = snapshot.facts.lock().await;
    let reading = Arc::clone(snapshot.view.reading());
    let received = reading.summary().received;
    let of = (received, snapshot.info.shown.type_choices());
    if let Some((made_of, frame)) = &*cache
        && *made_of == of
    {
        return Ok(frame.clone());
    }
    let _permit = service.queries.query(&reading.summary()).await;
    let stop = CancelOnDrop(Cancel::default());
    let cancel = stop.0.clone();
    let types = of.1.clone();
    let made = tokio::task::spawn_blocking(move || {
        let facts = reading.facts_as(&types, Control::default().cancelled_by(&cancel))?;
        let names = View::plain(&reading, false).header_of(0..facts.columns.len())?;
        let names = names.map(|header| header.cells.into_iter().map(|cell| cell.text).collect::<Vec<_>>());
        Ok::<_, Error>((facts, names.unwrap_or_default()))
    });
    let (facts, names) = made.await.map_err(|_| Failure::internal())??;
    let frame = message::frame(&text(&facts, &names));
    *cache = Some((of, frame.clone()));
    Ok(frame)
}

/// `names`: the names of the columns, of a file with a header.
fn text(facts: &Facts, names: &[String]) -> String {
    let columns: Vec<_> =
        facts.columns.iter().zip(0..).map(|(facts, i)| column(facts, names.get(i))).collect();
    json!({"facts": {"rows": facts.rows, "columns": columns}}).to_string()
}

fn column(facts: &ColumnFacts, name: Option<&String>) -> serde_json::Value {
    // The format of the values, in the notation of column types.
    let format = match (facts.column_type, facts.decimal_mark, facts.order) {
        (ColumnType::Integer | ColumnType::Decimal, DecimalMark::Comma, _) => Some(","),
        (ColumnType::Integer | ColumnType::Decimal, DecimalMark::Point, _) => Some("."),
        (ColumnType::Date, _, DateOrder::DayFirst) => Some("d/m/Y"),
        (ColumnType::Date, _, DateOrder::MonthFirst) => Some("m/d/Y"),
        (ColumnType::Date, _, DateOrder::YearFirst) => Some("Y-m-d"),
        _ => None,
    };
    let bins: Vec<_> = facts.histogram.iter().map(|bin| bin.count).collect();
    json!({
        "name": name,
        "type": facts.column_type.to_string(),
        "format": format,
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
