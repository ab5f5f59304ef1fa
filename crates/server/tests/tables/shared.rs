//! All viewers of a table share one view.

use serde_json::{Value, json};

use crate::table_server::{TableServer, tsv};

#[test]
fn all_viewers_see_the_same_page() {
    let server = TableServer::with(&[]);
    let (mut first, table, _) = server.shared("rows.tsv", &tsv(250));
    let mut second = server.viewer(&format!("/tables/ws/{table}"));
    let view = second.json();
    assert_eq!(view["page_no"], 1);
    assert_eq!(view["total_number"], 250);
    assert_eq!(view["data"].as_array().map(Vec::len), Some(100));
    assert_eq!(view["data"][0], json!(["000000", "row 0", "0"]));
    assert_eq!(view["header"], json!(["id", "name", "value"]));
    assert_eq!(
        (&view["name"], &view["loading"], &view["viewers"]),
        (&json!("rows.tsv"), &json!(false), &json!(2))
    );
    assert_eq!(view["size"], tsv(250).len());
    second.send(&json!({"page": 3}));
    for viewer in [&mut first, &mut second] {
        let view = viewer.view(|view| view["page_no"] == 3);
        assert_eq!(view["data"].as_array().map(Vec::len), Some(50));
        assert_eq!(view["data"][0][0], "000200");
    }
    // A bare number of the article's protocol does the same.
    first.text("2");
    for viewer in [&mut first, &mut second] {
        assert_eq!(viewer.view(|view| view["page_no"] == 2)["data"][0][0], "000100");
    }
}

#[test]
fn a_view_has_exactly_the_specified_fields() {
    let server = TableServer::with(&[]);
    let (mut viewer, ..) = server.shared("rows.tsv", "a\tb\n1\t2\n3\n");
    viewer.text("1");
    let view = viewer.view(|_| true);
    let fields: Vec<_> = view.as_object().expect("an object").keys().map(String::as_str).collect();
    let mut expected = [
        "uuid",
        "page_no",
        "total_number",
        "data",
        "page_size",
        "header",
        "name",
        "size",
        "loading",
        "viewers",
        "version",
        "sort",
        "filter",
        "search",
        "group",
        "dialect",
        "ragged",
        "types",
        "changed_by",
        "history",
        "columns",
        "previous",
    ];
    expected.sort_unstable();
    let mut fields = fields;
    fields.sort_unstable();
    assert_eq!(fields, expected);
    assert_eq!(view["ragged"], 1);
    assert_eq!(view["dialect"]["delimiter"], "\t");
}

#[test]
fn versions_grow_with_every_view() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, _) = server.shared("rows.tsv", &tsv(1000));
    let mut last = 0;
    for page in 1..=10 {
        viewer.send(&json!({"page": page}));
        let version = viewer.view(|view| view["page_no"] == page)["version"].as_u64().expect("a number");
        assert!(version > last);
        last = version;
    }
    let view = server.viewer(&format!("/tables/ws/{table}")).json();
    assert!(view["version"].as_u64() > Some(last));
}

#[test]
fn sorting_filters_and_search_apply_to_all_viewers() {
    let server = TableServer::with(&[]);
    let (mut requester, table, _) = server.shared("rows.tsv", &tsv(1000));
    let mut other = server.viewer(&format!("/tables/ws/{table}"));
    let mut both = |message: Value, is_match: &dyn Fn(&Value) -> bool| {
        requester.send(&message);
        let view = requester.view(is_match);
        other.view(is_match);
        view
    };
    let by = json!([{"column": 2, "desc": true}]);
    let view = both(json!({"sort": by}), &|view| view["sort"] == by);
    assert_eq!(view["data"][0][2], "999");
    let of = json!([{"column": 1, "op": "contains", "value": "row 1"}]);
    let view = both(json!({"filter": of}), &|view| view["filter"] == of);
    assert_eq!((&view["total_number"], &view["page_no"]), (&json!(111), &json!(1)));
    let view = both(json!({"search": "row 19"}), &|view| view["search"] == "row 19");
    assert_eq!(view["total_number"], 11);
    let view = both(json!({"page_size": 4}), &|view| view["page_size"] == 4);
    assert_eq!(view["data"].as_array().map(Vec::len), Some(4));
    both(json!({"page": 3}), &|view| view["page_no"] == 3);
    let view = both(json!({"page_size": 2}), &|view| view["page_size"] == 2);
    assert_eq!(view["page_no"], 5);
    both(json!({"search": ""}), &|view| view["total_number"] == 111);
    both(json!({"filter": []}), &|view| view["total_number"] == 1000);
    let view = both(json!({"sort": []}), &|view| view["sort"] == json!([]));
    assert_eq!(view["data"][0][0], "000000");
}

#[test]
fn a_private_window_is_sent_to_the_requester_only() {
    let server = TableServer::with(&[]);
    let (mut requester, table, _) = server.shared("rows.tsv", &tsv(1000));
    let mut other = server.viewer(&format!("/tables/ws/{table}"));
    other.view(|_| true);
    requester.send(&json!({"rows": {"from": 990, "count": 100}}));
    let rows = requester.until("a window", |message| message["rows"].is_object());
    assert_eq!(rows["rows"]["data"].as_array().map(Vec::len), Some(10));
    assert_eq!(rows["rows"]["data"][0][0], "000990");
    assert_eq!((&rows["rows"]["from"], &rows["rows"]["total_number"]), (&json!(990), &json!(1000)));
    // The next messages of the other viewer contain no window.
    requester.send(&json!({"page": 2}));
    loop {
        let message = other.json();
        assert!(message.get("rows").is_none(), "{message}");
        if message["page_no"] == 2 {
            break;
        }
    }
}

#[test]
fn errors_are_sent_to_the_requester_only_and_the_view_stays() {
    let server = TableServer::with(&[]);
    let (mut requester, table, _) = server.shared("rows.tsv", &tsv(250));
    let mut other = server.viewer(&format!("/tables/ws/{table}"));
    for message in [
        r#"{"page":4}"#,
        "0",
        "-3",
        "no",
        "{",
        r#"{"fly":1}"#,
        r#"{"sort":[{"column":3}]}"#,
        r#"{"filter":[{"column":0,"op":"regex","value":"("}]}"#,
        r#"{"rows":{"from":0,"count":1000000}}"#,
        r#"{"page_size":0}"#,
        r#"{"dialect":{"encoding":"klingon"}}"#,
    ] {
        requester.text(message);
        let (code, reason) = requester.error();
        assert_eq!(code, 400, "{message}: {reason}");
    }
    requester.send(&json!({"page": 3}));
    requester.view(|view| view["page_no"] == 3);
    loop {
        let message = other.json();
        assert!(message.get("error").is_none(), "{message}");
        if message["page_no"] == 3 {
            break;
        }
    }
}

#[test]
fn an_unknown_table_is_an_error_and_close_4404() {
    let server = TableServer::with(&[]);
    for path in ["/tables/ws/", "/parser/ws/"] {
        for table in ["0c6ec8e5-1b7e-4c0f-9d6c-3f1f8f5d7a10", "nonsense", "..%2f..%2fetc"] {
            let mut viewer = server.viewer(&format!("{path}{table}"));
            assert_eq!(viewer.error().0, 404);
            assert_eq!(viewer.close_code(), 4404);
        }
    }
}

#[test]
fn the_number_of_viewers_is_kept_current() {
    let server = TableServer::with(&[]);
    let (mut first, table, _) = server.shared("rows.tsv", &tsv(3));
    let second = server.viewer(&format!("/tables/ws/{table}"));
    first.view(|view| view["viewers"] == 2);
    drop(second);
    first.view(|view| view["viewers"] == 1);
}

#[test]
fn a_file_can_be_read_in_another_dialect_without_an_upload() {
    let server = TableServer::with(&[]);
    let (mut viewer, ..) = server.shared("odd.csv", "a;b,c\n1;2,3\n4;5,6\n");
    let mut read = |dialect: Value| {
        viewer.send(&json!({"dialect": dialect}));
        let delimiter = dialect["delimiter"].clone();
        viewer.view(move |view| view["dialect"]["delimiter"] == delimiter)
    };
    let view = read(json!({"delimiter": ",", "header": true}));
    assert_eq!((&view["header"], &view["data"][0]), (&json!(["a;b", "c"]), &json!(["1;2", "3"])));
    let view = read(json!({"delimiter": ";", "header": false}));
    assert_eq!((&view["header"], &view["data"][0]), (&Value::Null, &json!(["a", "b,c"])));
}

#[test]
fn column_facts_are_sent_on_request() {
    let server = TableServer::with(&[]);
    let (mut viewer, ..) = server.shared("rows.tsv", &tsv(1000));
    viewer.send(&json!({"facts": {}}));
    let facts = viewer.until("facts", |message| message["facts"].is_object());
    let columns = facts["facts"]["columns"].as_array().expect("columns");
    assert_eq!(columns.len(), 3);
    assert_eq!((&columns[2]["type"], &columns[2]["max"]), (&json!("integer"), &json!("999")));
}

#[test]
fn the_views_of_a_new_viewer_never_go_back() {
    let server = TableServer::with(&[]);
    let (mut first, table, _) = server.shared("rows.tsv", &tsv(250));
    let viewers: Vec<_> = (0..8)
        .map(|_| {
            let mut viewer = server.viewer(&format!("/tables/ws/{table}"));
            let view = viewer.view(|_| true);
            (viewer, view["version"].as_u64(), view["viewers"].as_u64())
        })
        .collect();
    first.send(&json!({"page": 2}));
    for (mut viewer, mut version, mut count) in viewers {
        loop {
            let view = viewer.view(|_| true);
            assert!(view["version"].as_u64() > version, "{version:?} {view}");
            assert!(view["viewers"].as_u64() >= count, "{count:?} {view}");
            (version, count) = (view["version"].as_u64(), view["viewers"].as_u64());
            if view["page_no"] == 2 {
                break;
            }
        }
    }
}

#[test]
fn a_bad_pattern_is_an_error_of_the_requester_and_delays_no_page_change() {
    let server = TableServer::with(&[]);
    let (mut requester, table, _) = server.shared("rows.tsv", &tsv(1000));
    let mut other = server.viewer(&format!("/tables/ws/{table}"));
    let version = other.view(|view| view["viewers"] == 2)["version"].as_u64();
    for page in 2..8 {
        requester.send(&json!({"filter": [{"column": 0, "op": "regex", "value": "("}]}));
        other.send(&json!({"page": page}));
        let (code, reason) = requester.error();
        assert!(code == 400 && reason.contains("regular expression"), "{reason}");
        loop {
            let message = other.json();
            assert!(message["error"].is_null(), "{message}");
            if message["page_no"] == page {
                assert_eq!(message["total_number"], 1000);
                break;
            }
        }
    }
    assert!(version < requester.view(|view| view["page_no"] == 7)["version"].as_u64());
}

#[test]
fn a_page_beyond_the_rows_of_an_unfinished_upload_is_an_error() {
    let server = TableServer::with(&[]);
    let (mut requester, ..) = server.shared("rows.tsv", &tsv(1000));
    requester.send(&json!({"search": "row 99"}));
    requester.send(&json!({"page": 7}));
    let (code, reason) = requester.error();
    assert_eq!((code, &*reason), (400, "there is no page 7; the last one is 1"));
    requester.view(|view| view["total_number"] == 11 && view["page_no"] == 1);
    requester.send(&json!({"search": "row"}));
    requester.send(&json!({"page": 7}));
    requester.view(|view| view["page_no"] == 7);
    // All viewers stay on their page.
    requester.send(&json!({"dialect": {"header": false}}));
    requester.send(&json!({"page": 100}));
    assert_eq!(requester.error().0, 400);
}

#[test]
fn the_layout_of_the_columns_is_a_part_of_the_view_and_survives_a_restart() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, _) = server.shared("rows.tsv", &tsv(100));
    let mut other = server.viewer(&format!("/tables/ws/{table}"));
    assert_eq!(other.view(|_| true)["columns"], Value::Null);
    let layout = json!({"order": [2, 0], "hidden": [1], "frozen": 1, "widths": {"0": 120}});
    viewer.send(&json!({"columns": layout}));
    let view = other.view(|view| view["columns"] == layout);
    assert_eq!(view["data"][0], json!(["000000", "row 0", "0"]), "cells stay in the order of the file");
    for (wrong, reason) in [
        (json!({"order": [3]}), "column 3"),
        (json!({"hidden": [0, 0]}), "twice"),
        (json!({"widths": {"0": 1}}), "20 to 2000"),
    ] {
        viewer.send(&json!({"columns": wrong}));
        let (code, message) = viewer.error();
        assert!(code == 400 && message.contains(reason), "{message}");
    }
    viewer.send(&json!({"private": {"columns": {"frozen": 2}}}));
    let message = viewer.until("a private view", |message| message["private"].is_object());
    assert_eq!(message["private"]["columns"]["frozen"], 2);
    viewer.send(&json!({"undo": {}}));
    other.view(|view| view["columns"].is_null());
    viewer.send(&json!({"redo": {}}));
    other.view(|view| view["columns"] == layout);
    let folder = server.stop();
    let server = TableServer::start(&[&format!("data_dir={}", folder.path().display())]);
    server.viewer(&format!("/tables/ws/{table}")).view(|view| view["columns"] == layout);
}
