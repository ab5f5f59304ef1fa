//! Many viewers, and slow ones.

use std::time::Duration;

use serde_json::json;

use crate::world::{Sent, World, tsv};

#[test]
fn a_slow_viewer_gets_the_newest_view_and_delays_nobody() {
    const TURNS: u64 = 300;
    let world = World::with(&[]);
    let wide = "x".repeat(500);
    let text: String = (0..30_000).map(|row| format!("{row}\t{wide}\n")).collect();
    let (mut quick, table, _) = world.shared("wide.tsv", &text);
    quick.send(&json!({"page_size": 1000}));
    quick.view(|view| view["page_size"] == 1000);
    let mut slow = world.viewer(&format!("/tables/ws/{table}"));
    // Some 150 MB altogether, far more than sockets hold.
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
    assert!(seen < TURNS / 2, "{seen} of {TURNS} views for one that does not read");
}

#[test]
fn who_asks_for_much_without_reading_gets_all_of_it_later() {
    let world = World::with(&[]);
    let wide = "x".repeat(900);
    let text: String = (0..2000).map(|row| format!("{row}\t{wide}\n")).collect();
    let (mut greedy, ..) = world.shared("wide.tsv", &text);
    // A megabyte each: while nobody reads them, the server does not read on either.
    for _ in 0..300 {
        greedy.text(r#"{"rows":{"from":0,"count":1000}}"#);
    }
    for _ in 0..300 {
        greedy.until("a window", |message| message["rows"].is_object());
    }
}

#[test]
fn a_thousand_viewers_see_a_page_turn() {
    let world = World::with(&[]);
    let (mut first, table, _) = world.shared("rows.tsv", &tsv(1000));
    let path = format!("/tables/ws/{table}");
    let mut viewers: Vec<_> = (0..1000).map(|_| world.viewer(&path)).collect();
    for viewer in &mut viewers {
        assert_eq!(viewer.view(|_| true)["page_no"], 1);
    }
    first.view(|view| view["viewers"] == 1001);
    first.text("7");
    for viewer in &mut viewers {
        assert_eq!(viewer.view(|view| view["page_no"] == 7)["data"][0][0], "000600");
    }
    // And when they all leave at once, nobody is left behind.
    drop(viewers);
    first.view(|view| view["viewers"] == 1);
}

#[test]
fn a_flood_of_page_turns_ends_at_the_last_one_for_everybody() {
    let world = World::with(&[]);
    let (mut first, table, _) = world.shared("rows.tsv", &tsv(10_000));
    let mut second = world.viewer(&format!("/tables/ws/{table}"));
    for turn in 0..2000_u64 {
        let by = if turn % 2 == 0 { &mut first } else { &mut second };
        by.send(&json!({"page": turn % 99 + 1}));
    }
    // An answer for the asker alone comes behind all that it asked before.
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
    // Nothing of the flood comes after it.
    while let Some(sent) = first.next_within(Duration::from_millis(300)) {
        let Sent::Json(view) = sent else { panic!("{sent:?}") };
        assert_eq!((&view["page_no"], &view["search"]), (&last["page_no"], &last["search"]));
    }
}
