//! Types of columns, and lines that the dialect of a file skips.

use serde_json::{Value, json};

use crate::table_server::{TableServer, Viewer};

/// The first column of the current page.
fn first(view: &Value) -> Vec<&str> {
    let rows = view["data"].as_array().expect("rows");
    rows.iter().map(|row| row[0].as_str().expect("a cell")).collect()
}

/// The view after a message.
fn after(viewer: &mut Viewer, message: &Value) -> Value {
    let (key, value) = message.as_object().and_then(|object| object.iter().next()).expect("a key");
    viewer.send(message);
    viewer.view(|view| view["dialect"].is_object() && (key == "dialect" || view[key] == *value))
}

#[test]
fn types_are_set_for_all_viewers_and_stored() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, _) =
        server.shared("dates.csv", "n,d\na,01/02/2023\nb,31/01/2022\nc,03/01/2023\nd,unknown\ne,\n");
    let sort = |desc| json!({"sort": [{"column": 1, "desc": desc}]});
    // A number above 12 shows that the day comes first.
    assert_eq!(first(&after(&mut viewer, &sort(false))), ["b", "c", "a", "d", "e"]);
    assert_eq!(first(&after(&mut viewer, &sort(true))), ["a", "c", "b", "d", "e"]);
    let view = after(&mut viewer, &json!({"types": {"1": "date:m/d/Y"}}));
    assert_eq!(first(&view), ["c", "a", "d", "b", "e"]);
    // A later viewer sees the same.
    let later = server.viewer(&format!("/tables/ws/{table}")).view(|view| view["data"].is_array());
    assert_eq!((first(&later), &later["types"]), (first(&view), &view["types"]));
    viewer.send(&json!({"types": {"7": "text"}}));
    assert_eq!(viewer.error(), (400, "no column 7: the table has 2".to_owned()));
    viewer.send(&json!({"types": {"1": null}}));
    let view = viewer.view(|view| view["types"] == json!({}));
    assert_eq!(first(&view), ["a", "c", "b", "d", "e"]);
}

#[test]
fn filters_compare_typed_values_and_reject_others() {
    let server = TableServer::with(&[]);
    let text = "n;d;v\na;2009-04-27;1,5\nb;2013-04-27;5,0\nc;2010-01-01;10,25\nd;2010-12-31;N/A\n";
    let (mut viewer, ..) = server.shared("values.csv", text);
    for (column, op, value, found) in [
        (1, "equals", json!("2010"), vec!["c", "d"]),
        (1, ">", json!("2010"), vec!["b"]),
        (1, "<=", json!("2010-01"), vec!["a", "c"]),
        (1, "between", json!(["2009", "2010-06"]), vec!["a", "c"]),
        (2, "equals", json!(5), vec!["b"]),
        (2, "equals", json!("5.0"), vec!["b"]),
        (2, "in", json!(["1,50", "10.25"]), vec!["a", "c"]),
        (2, "not", json!("5"), vec!["a", "c", "d"]),
        (2, ">", json!("2"), vec!["b", "c"]),
        (2, "contains", json!("n/"), vec!["d"]),
    ] {
        viewer.send(&json!({"filter": [{"column": column, "op": op, "value": value}]}));
        let view = viewer.view(|view| view["filter"][0]["op"] == op && first(view) == found);
        assert_eq!(view["total_number"], found.len(), "{column} {op} {value}");
    }
    let shown = json!([{"column": 2, "op": "contains", "value": "n/"}]);
    for (column, name) in [(1, "date"), (2, "decimal")] {
        viewer.send(&json!({"filter": [{"column": column, "op": "<", "value": "soon"}]}));
        let (code, reason) = viewer.error();
        assert!(code == 422 && reason.contains(name) && reason.contains("\"soon\""), "{code} {reason}");
        // The view stays.
        viewer.view(|view| view["filter"] == shown);
    }
}

#[test]
fn lines_above_the_header_are_skipped_automatically_or_by_choice() {
    let server = TableServer::with(&[]);
    let (mut viewer, ..) =
        server.shared("report.csv", "Extract of 2025-01-06\nid;name;city\n1;A;Rome\n2;B;Pisa\n");
    viewer.text("1");
    let view = viewer.view(|view| view["dialect"]["skip"] == 1);
    assert_eq!((&view["header"], first(&view)), (&json!(["id", "name", "city"]), vec!["1", "2"]));
    viewer.send(&json!({"dialect": {"skip": 2}}));
    let view = viewer.view(|view| view["dialect"]["skip"] == 2);
    assert_eq!((&view["header"], first(&view)), (&json!(["1", "A", "Rome"]), vec!["2"]));
    viewer.send(&json!({"dialect": {"skip": 0, "header": false}}));
    let view = viewer.view(|view| view["dialect"]["skip"] == 0);
    assert_eq!(first(&view), ["Extract of 2025-01-06", "id", "1", "2"]);
    viewer.send(&json!({"dialect": {"skip": null, "header": null}}));
    viewer.view(|view| view["dialect"]["skip"] == 1 && view["header"][0] == "id");
}

#[test]
fn text_is_searched_and_sorted_independently_of_its_encoding_form() {
    let server = TableServer::with(&[]);
    let text = "name,file\ncaf\u{e9},file10\ncafe\u{301},file2\nNew\u{a0}York,File3\nZu\u{308}rich,file1\n";
    let (mut viewer, ..) = server.shared("names.csv", text);
    for (search, rows) in [("caf\u{e9}", 2), ("CAFE\u{301}", 2), ("new york", 1), ("z\u{fc}rich", 1)] {
        let view = after(&mut viewer, &json!({"search": search}));
        assert_eq!(view["total_number"], rows, "{search}");
    }
    after(&mut viewer, &json!({"search": ""}));
    let files = |view: &Value| {
        view["data"].as_array().expect("rows").iter().map(|row| row[1].clone()).collect::<Vec<_>>()
    };
    let view = after(&mut viewer, &json!({"sort": [{"column": 1, "desc": false}]}));
    assert_eq!(files(&view), ["file1", "file10", "file2", "File3"]);
    let view = after(&mut viewer, &json!({"sort": [{"column": 1, "desc": false, "natural": true}]}));
    assert_eq!(files(&view), ["file1", "file2", "File3", "file10"]);
}
