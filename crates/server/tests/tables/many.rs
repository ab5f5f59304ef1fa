//! Many viewers, and slow ones.

use std::time::Duration;

use serde_json::json;

use crate::table_server::{Sent, TableServer, tsv};

#[test]
fn a_slow_viewer_gets_the_newest_view_without_delaying_others() {
    const TURNS: u64 = 300;
    let server = TableServer::with(&[]);
    let wide = "x".repeat(500);
    let text: String = (0..30_000).map(|row| format!("{row}\t{wide}\n")).collect();
    let (mut quick, table, _) = server.shared("wide.tsv", &text);
    quick.send(&json!({"page_size": 1000}));
    quick.view(|view| view["page_size"] == 1000);
    let mut slow = server.viewer(&format!("/tables/ws/{table}"));
    // About 150 MB in total, far more than the socket buffers hold.
    for turn in 0..TURNS {
        let page = turn % 30 + 1;
        quick.send(&json!({"page": page}));
        quick.view(|view| view["page_no"] == page);
    }
    quick.send(&json!({"page": 17}));
    let newest = quick.view(|view| view["page_no"] == 17);
    let mut seen = 0;
    while slow.view(|_| true)["version"] != newest["version"] {
        seen += 1;
    }
    assert!(seen < TURNS / 2, "{seen} of {TURNS} views for a viewer that does not read");
}

#[test]
fn responses_to_a_viewer_that_does_not_read_are_sent_later() {
    let server = TableServer::with(&[]);
    let wide = "x".repeat(900);
    let text: String = (0..2000).map(|row| format!("{row}\t{wide}\n")).collect();
    let (mut greedy, ..) = server.shared("wide.tsv", &text);
    // 1 MB each. While the viewer does not read them, the server does not read from the viewer.
    for _ in 0..300 {
        greedy.text(r#"{"rows":{"from":0,"count":1000}}"#);
    }
    for _ in 0..300 {
        greedy.until("a window", |message| message["rows"].is_object());
    }
}

#[test]
fn a_thousand_viewers_get_a_page_change() {
    let server = TableServer::with(&[]);
    let (mut first, table, _) = server.shared("rows.tsv", &tsv(1000));
    let path = format!("/tables/ws/{table}");
    let mut viewers: Vec<_> = (0..1000).map(|_| server.viewer(&path)).collect();
    for viewer in &mut viewers {
        assert_eq!(viewer.view(|_| true)["page_no"], 1);
    }
    first.view(|view| view["viewers"] == 1001);
    first.text("7");
    for viewer in &mut viewers {
        assert_eq!(viewer.view(|view| view["page_no"] == 7)["data"][0][0], "000600");
    }
    // When all viewers leave at once, the count returns to zero.
    drop(viewers);
    first.view(|view| view["viewers"] == 1);
}

#[test]
fn after_many_page_changes_all_viewers_have_the_last_one() {
    let server = TableServer::with(&[]);
    let (mut first, table, _) = server.shared("rows.tsv", &tsv(10_000));
    let mut second = server.viewer(&format!("/tables/ws/{table}"));
    for turn in 0..2000_u64 {
        let by = if turn % 2 == 0 { &mut first } else { &mut second };
        by.send(&json!({"page": turn % 99 + 1}));
    }
    // A response to the requester arrives after the effects of its earlier requests.
    for viewer in [&mut first, &mut second] {
        viewer.send(&json!({"rows": {"from": 0, "count": 1}}));
        viewer.until("a window", |message| message["rows"].is_object());
    }
    first.send(&json!({"search": "row 77"}));
    let a = first.view(|view| view["search"] == "row 77");
    let b = second.view(|view| view["search"] == "row 77");
    assert!(a["total_number"] == b["total_number"] && a["total_number"] == 111, "{a}");
    second.send(&json!({"page": 2}));
    first.view(|view| view["page_no"] == 2);
    let last = second.view(|view| view["page_no"] == 2);
    // No view of the earlier changes follows.
    while let Some(sent) = first.next_within(Duration::from_millis(300)) {
        let Sent::Json(view) = sent else { panic!("{sent:?}") };
        // Messages about people are no views.
        if view["uuid"].is_null() {
            continue;
        }
        assert_eq!((&view["page_no"], &view["search"]), (&last["page_no"], &last["search"]));
    }
}
