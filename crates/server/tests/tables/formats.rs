//! JSON, XLSX and Parquet files as tables.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tidings_testkit::test_tool;

use crate::table_server::{TableServer, Viewer};

/// Writes the files of `tests/tables/files.py`. Returns what they contain.
fn write_files(folder: &Path) -> Vec<Value> {
    run_python("files.py", folder);
    let expected = std::fs::read(folder.join("expected.json")).expect("the expected cells");
    serde_json::from_slice(&expected).expect("JSON")
}

/// Runs a script of `tests/tables` in a folder.
fn run_python(script: &str, folder: &Path) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tables").join(script);
    let status = Command::new(test_tool("files").join("bin/python")).arg(path).arg(folder).status();
    assert!(status.expect("python runs").success());
}

/// All rows of a view.
fn rows(viewer: &mut Viewer, view: &Value) -> Vec<Value> {
    let total = view["total_number"].as_u64().expect("a number");
    let mut rows = Vec::new();
    while (rows.len() as u64) < total {
        viewer.send(&json!({"rows": {"from": rows.len(), "count": 1000}}));
        let window = viewer.until("rows", |message| message["rows"]["from"] == rows.len());
        rows.extend(window["rows"]["data"].as_array().expect("rows").iter().cloned());
    }
    rows
}

/// Uploads a file. Returns a viewer of its table, the table's id, and the view when it is complete.
fn upload(server: &TableServer, name: &str, bytes: &[u8]) -> (Viewer, String, Value) {
    let mut viewer = server.viewer("/tables/ws");
    viewer.upload(name, bytes);
    let view =
        viewer.view(|view| view["name"] == name && view["loading"] == false && view["dialect"].is_object());
    let table = view["uuid"].as_str().expect("an id").to_owned();
    (viewer, table, view)
}

#[test]
fn parquet_and_xlsx_files_are_shown_cell_by_cell() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TableServer::with(&[]);
    let mut open: Option<(String, Viewer, Value)> = None;
    for expected in write_files(folder.path()) {
        let name = expected["file"].as_str().expect("a name");
        if open.as_ref().is_none_or(|(before, ..)| before != name) {
            let bytes = std::fs::read(folder.path().join(name)).expect("a file");
            let (viewer, table, view) = upload(&server, name, &bytes);
            // The download is the file as it was uploaded.
            let (status, _, downloaded) = server.get(&format!("/tables/{table}/download"));
            assert!(status == 200 && downloaded == bytes, "{name}: {status}");
            open = Some((name.to_owned(), viewer, view));
        }
        let (_, viewer, view) = open.as_mut().expect("a table");
        if view["sheet"] != expected["sheet"] {
            viewer.send(&json!({"sheet": expected["sheet"]}));
            *view = viewer.view(|view| view["sheet"] == expected["sheet"]);
        }
        let format = name.rsplit('.').next().expect("an extension");
        assert_eq!((&view["dialect"]["format"], &view["ragged"]), (&json!(format), &json!(0)), "{name}");
        assert_eq!(view["header"], expected["header"], "{name} {}", expected["sheet"]);
        assert_eq!(view["sheets"], expected["sheets"], "{name}");
        if expected["types"].is_object() {
            assert_eq!(view["types"], expected["types"], "{name}");
        }
        let shown = rows(viewer, view);
        for (row, cells) in expected["rows"].as_array().expect("rows").iter().enumerate() {
            assert_eq!(shown.get(row), Some(cells), "{name} {} row {row}", expected["sheet"]);
        }
        assert_eq!(shown.len(), expected["rows"].as_array().expect("rows").len(), "{name}");
    }
}

#[test]
fn a_sheet_is_chosen_for_all_viewers_and_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    write_files(folder.path());
    let server = TableServer::with(&[]);
    let bytes = std::fs::read(folder.path().join("kinds.xlsx")).expect("a file");
    let (mut viewer, table, _) = upload(&server, "kinds.xlsx", &bytes);
    let mut other = server.viewer(&format!("/tables/ws/{table}"));
    viewer.send(&json!({"sheet": "Hidden"}));
    let view = other.view(|view| view["sheet"] == "Hidden" && view["data"].is_array());
    assert_eq!((&view["header"], &view["data"]), (&json!(["x"]), &json!([["1"]])));
    viewer.send(&json!({"sheet": "Chart"}));
    assert_eq!(viewer.error(), (422, "the file has no sheet \"Chart\"".to_owned()));
    viewer.send(&json!({"dialect": {"delimiter": ";"}}));
    assert_eq!(viewer.error().0, 400);
    drop((viewer, other));
    let folder = server.stop();
    let store = format!("data_dir={}", folder.path().display());
    let server = TableServer::start(&[&store]);
    let view = server.viewer(&format!("/tables/ws/{table}")).view(|view| view["data"].is_array());
    assert_eq!((&view["sheet"], &view["data"]), (&json!("Hidden"), &json!([["1"]])));
}

#[test]
fn json_objects_are_rows_of_the_union_of_their_keys() {
    let server = TableServer::with(&[]);
    let lines = "{\"id\":1,\"name\":\"Ann\"}\n{\"id\":2,\"tags\":[1, {\"x\" : \"a b\"}],\"name\":null}\n\n{\"price\":1.50}\n";
    let array = format!("[{}]", lines.trim().replace("\n\n", "\n").replace('\n', ",\r\n"));
    for (name, text) in [("a.jsonl", lines), ("a.json", &array)] {
        let (mut viewer, table, view) = upload(&server, name, text.as_bytes());
        assert_eq!(view["dialect"]["format"], "json");
        assert_eq!(view["header"], json!(["id", "name", "tags", "price"]));
        let shown = rows(&mut viewer, &view);
        assert_eq!(
            shown,
            [
                json!(["1", "Ann", "", ""]),
                json!(["2", "", "[1,{\"x\":\"a b\"}]", ""]),
                json!(["", "", "", "1.50"])
            ]
        );
        viewer.send(&json!({"sort": [{"column": 0, "desc": true}]}));
        let view = viewer.view(|view| view["sort"][0]["desc"] == true);
        assert_eq!(view["data"][0][0], "2");
        let (status, _, csv) = server.get(&format!("/tables/{table}/download?view=csv"));
        let csv = String::from_utf8(csv).expect("text");
        assert!(status == 200 && csv.contains("id,name,tags,price\n2,"), "{status} {csv}");
    }
}

#[test]
fn json_lines_are_appended_with_new_keys() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, secret) = server.shared("a.jsonl", "{\"a\":1}\n{\"a\":2}");
    let (status, answer) = server.append(&table, &secret, "application/x-ndjson", "{\"b\":3}\n{\"a\":4}\n");
    assert_eq!((status, &answer["appended"]), (200, &json!(2)), "{answer}");
    let view = viewer.view(|view| view["total_number"] == 4);
    assert_eq!(view["header"], json!(["a", "b"]));
    assert_eq!(view["data"][2], json!(["", "3"]));
    let (status, answer) = server.append(&table, &secret, "text/plain", "{\"b\":3}\n{\"a\":");
    assert_eq!(status, 422, "{answer}");
    let (status, answer) = server.append(&table, &secret, "application/json", "[[\"1\"]]");
    assert_eq!(status, 400, "{answer}");
}

#[test]
fn a_file_that_is_no_valid_json_xlsx_or_parquet_is_refused_with_its_place() {
    let server = TableServer::with(&[]);
    let mut viewer = server.viewer("/tables/ws");
    let deep = format!("{{\"a\":{}}}", "[".repeat(100_000));
    for (name, bytes, code, part) in [
        ("a.jsonl", &b"{\"a\":1}\n{\"a\":tru}\n"[..], 415, "object 2, at byte 8"),
        ("a.json", b"[{\"a\":1},{\"a\":2}", 415, "its ] is missing"),
        ("deep.json", deep.as_bytes(), 415, "within an object"),
        ("a.parquet", b"PAR1 and no more than this", 415, "its end is missing"),
        ("a.parquet", b"PAR1 1234 \xFF\xFF\xFF\x00PAR1", 415, "longer than the file"),
        ("a.xlsx", b"PK\x03\x04aaaaaaaaaaaaaaaaaaaaaa\x0B\0\0\0_rels/.rels", 415, "incomplete"),
    ] {
        viewer.upload(name, bytes);
        let (found, message) = viewer.error();
        assert!(found == code && message.contains(part), "{name}: {found} {message}");
    }
    // The connection and its table are usable.
    viewer.upload("a.jsonl", b"{\"a\":1}");
    viewer.view(|view| view["data"] == json!([["1"]]));
}

#[test]
fn sorts_and_filters_by_type_give_the_answers_of_duckdb() {
    let folder = tempfile::tempdir().expect("a folder");
    run_python("duckdb_queries.py", folder.path());
    let read = |name: &str| std::fs::read(folder.path().join(name)).expect("a file");
    let queries: Vec<Value> = serde_json::from_slice(&read("queries.json")).expect("JSON");
    assert_eq!(queries.len(), 200);
    let server = TableServer::with(&[]);
    for name in ["table.csv", "table.parquet"] {
        let (mut viewer, ..) = upload(&server, name, &read(name));
        for query in &queries {
            let Value::Object(mut private) = query.clone() else { panic!("an object") };
            private.retain(|key, _| key == "sort" || key == "filter");
            private.insert("page_size".to_owned(), json!(1000));
            viewer.send(&json!({"private": private}));
            let answer = viewer.until("the private view", |message| {
                let view = &message["private"];
                message["error"].is_object()
                    || view["sort"] == query["sort"] && view["total_number"] == query["total"]
            });
            let rows =
                answer["private"]["data"].as_array().unwrap_or_else(|| panic!("{name} {query}: {answer}"));
            let ids: Vec<&Value> = rows.iter().map(|row| &row[0]).collect();
            assert_eq!(json!(ids), query["ids"], "{name} {}", query["sql"]);
            viewer.send(&json!({"private": null}));
            viewer.until("the end of the private view", |message| {
                message.get("private").is_some_and(Value::is_null)
            });
        }
    }
}
