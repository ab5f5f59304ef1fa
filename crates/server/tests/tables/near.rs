//! Private views of large tables with a key: the rows near their page follow changes.

use serde_json::{Value, json};

use crate::live::{column, keyed, upsert};
use crate::table_server::{TableServer, Viewer};

/// More rows than a table has whose private views follow all rows.
const ROWS: usize = 70_000;
const PAGE: usize = 50;

/// The number of each row.
type Naive = Vec<i64>;

/// A private view with another order or other conditions for each number.
fn settings(number: usize) -> Value {
    json!({
        "sort": [{"column": 1, "desc": number.is_multiple_of(2)}],
        "filter": [{"column": 1, "op": ">=", "value": (number / 2 * 1_000).to_string()}],
        "page_size": PAGE,
        "page": if number < 4 { 1 } else { 600 },
    })
}

/// The ids of the rows of that view from a position on, and their number.
fn wanted(naive: &Naive, number: usize, from: usize, count: usize) -> (Vec<String>, usize) {
    let least = (number / 2 * 1_000) as i64;
    let mut rows: Vec<_> = naive.iter().zip(0..).filter(|(value, _)| **value >= least).collect();
    rows.sort_by_key(|(value, id)| (if number.is_multiple_of(2) { -**value } else { **value }, *id));
    let ids = rows.iter().skip(from).take(count).map(|(_, id): &(_, usize)| id.to_string()).collect();
    (ids, rows.len())
}

fn is_right(view: &Value, naive: &Naive, number: usize, from: usize) -> bool {
    let rows = view["data"].as_array().map_or(0, Vec::len);
    let (ids, total) = wanted(naive, number, from, rows);
    view["total_number"] == total && rows > 0 && column(view, 0) == ids
}

/// Requests rows of the private view until they are right.
fn until_window(viewer: &mut Viewer, naive: &Naive, number: usize, from: usize) {
    // All rows are computed again after 24 times the duration of the last computation.
    let end = std::time::Instant::now() + 6 * tidings_testkit::PATIENCE;
    loop {
        viewer.send(&json!({"rows": {"from": from, "count": PAGE, "private": true}}));
        let rows = viewer.until("rows", |message| message["rows"]["from"] == from);
        if column(&rows["rows"], 0) == wanted(naive, number, from, PAGE).0 {
            return;
        }
        assert!(std::time::Instant::now() < end, "the rows from {from} on stay outdated");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn private_views_of_a_large_table_follow_changes_near_their_page_and_later_elsewhere() {
    let server = TableServer::with(&[]);
    let mut naive: Naive = (0..ROWS as i64).map(|id| id * 7_919 % 70_001).collect();
    let mut file = "id,n\n".to_owned();
    for (value, id) in naive.iter().zip(0..) {
        file.push_str(&format!("{id},{value}\n"));
    }
    let (_viewer, table, secret) = keyed(&server, "rows.csv", &file, &["id"]);
    let mut viewers: Vec<_> = (0..6).map(|_| server.viewer(&format!("/tables/ws/{table}"))).collect();
    for (viewer, number) in viewers.iter_mut().zip(0..) {
        viewer.view(|_| true);
        viewer.send(&json!({"private": settings(number)}));
        let from = if number < 4 { 0 } else { 599 * PAGE };
        viewer.until("the private view", |message| is_right(&message["private"], &naive, number, from));
    }
    for round in 0..4_i64 {
        // Rows go to both ends of all orders, and to the middle.
        let changes: Vec<(usize, i64)> = (0..300)
            .map(|at| ((at * 211 + round as usize * 17) % ROWS, [90_000, 50_000, 35_000][at % 3] + round * 7))
            .collect();
        for (id, value) in &changes {
            naive[*id] = *value;
        }
        let rows: Vec<_> = changes.iter().map(|(id, value)| json!([id, value])).collect();
        let (status, answer) = upsert(&server, &table, &secret, &json!(rows));
        assert_eq!(status, 200, "{answer}");
        for (viewer, number) in viewers.iter_mut().zip(0..) {
            let from = if number < 4 { 0 } else { 599 * PAGE };
            viewer.until("the changed private view", |message| {
                is_right(&message["private"], &naive, number, from)
            });
        }
    }
    // The rows around the page are current at once, those far away after a computation over all rows.
    for (viewer, number) in viewers.iter_mut().zip(0..) {
        let page = if number < 4 { 0 } else { 599 * PAGE };
        let near = page + 3 * PAGE;
        viewer.send(&json!({"rows": {"from": near, "count": PAGE, "private": true}}));
        let rows = viewer.until("rows", |message| message["rows"]["from"] == near);
        assert_eq!(column(&rows["rows"], 0), wanted(&naive, number, near, PAGE).0);
        until_window(viewer, &naive, number, 45_000);
    }
    // A private view with rows of its page alone is shown to everyone with all of its rows.
    viewers[5].send(&json!({"share_private": {}}));
    viewers[0].view(|view| is_right(view, &naive, 5, 599 * PAGE));
    viewers[0].send(&json!({"rows": {"from": 45_000, "count": PAGE}}));
    let rows = viewers[0].until("rows", |message| message["rows"]["from"] == 45_000);
    assert_eq!(column(&rows["rows"], 0), wanted(&naive, 5, 45_000, PAGE).0);
}
