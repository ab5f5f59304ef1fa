//! Rows that are replaced and removed by key.

use serde_json::{Value, json};
use tidings_testkit::{PATIENCE, RedisServer, wait_until};

use crate::table_server::{TableServer, Viewer};

const PRICES: &str = "symbol,price,day\nA,1,Mon\nB,2,Mon\nC,3,Mon\nB,20,Tue\nD,4,Mon\n";

/// Uploads a file with this key. Returns the uploader, the table's id and the owner's secret.
pub(crate) fn keyed(server: &TableServer, name: &str, text: &str, key: &[&str]) -> (Viewer, String, String) {
    let mut viewer = server.viewer("/tables/ws");
    viewer.send(&json!({"key": key}));
    viewer.upload(name, text.as_bytes());
    let owner = viewer.until("the owner's secret", |message| message["owner"].is_string());
    let view = viewer.view(|view| view["loading"] == false);
    assert_eq!(view["key"], json!(key));
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    (viewer, text(&view["uuid"]), text(&owner["owner"]))
}

/// The response to a request with the owner's secret.
pub(crate) fn change(
    server: &TableServer,
    (method, target): (&str, &str),
    secret: &str,
    kind: &str,
    body: &str,
) -> (u16, Value) {
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    let (status, _, body) = server.ask(request.as_bytes());
    (status, serde_json::from_slice(&body).expect("JSON"))
}

pub(crate) fn upsert(server: &TableServer, table: &str, secret: &str, rows: &Value) -> (u16, Value) {
    let target = format!("/tables/{table}/rows?mode=upsert");
    change(server, ("POST", &target), secret, "application/json", &rows.to_string())
}

pub(crate) fn remove(server: &TableServer, table: &str, secret: &str, keys: &Value) -> (u16, Value) {
    let target = format!("/tables/{table}/rows");
    change(server, ("DELETE", &target), secret, "application/json", &keys.to_string())
}

pub(crate) fn column(view: &Value, column: usize) -> Vec<&str> {
    let rows = view["data"].as_array().expect("rows");
    rows.iter().map(|row| row[column].as_str().expect("text")).collect()
}

#[test]
fn rows_are_replaced_in_place_appended_and_removed_by_key() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, secret) = keyed(&server, "prices.csv", PRICES, &["symbol"]);
    let mut other = server.viewer(&format!("/tables/ws/{table}"));
    let view = other.view(|view| view["total_number"] != 0);
    // Of two rows of the file with the same key the later one counts, at the place of the first.
    assert_eq!((column(&view, 0), column(&view, 1)), (vec!["A", "B", "C", "D"], vec!["1", "20", "3", "4"]));
    let (status, answer) =
        upsert(&server, &table, &secret, &json!([["C", 33, "Tue"], ["E", 5, "Tue"], ["E", 6, "Tue"]]));
    assert_eq!(status, 200, "{answer}");
    assert_eq!((&answer["appended"], &answer["updated"]), (&json!(1), &json!(2)));
    let view = other.view(|view| view["total_number"] == 5);
    assert_eq!(
        (column(&view, 1), &view["changed_by"]["by"]),
        (vec!["1", "20", "33", "4", "6"], &json!("api"))
    );
    // Only the changed cells are sent to viewers of the view before.
    let (status, answer) =
        upsert(&server, &table, &secret, &json!([{"symbol": "A", "day": "Wed", "price": "1.50"}]));
    assert_eq!((status, &answer["updated"]), (200, &json!(1)), "{answer}");
    for viewer in [&mut viewer, &mut other] {
        // A view that was computed again without a difference has a new version and no cells.
        let has_cells = |message: &Value| message["cells"].as_array().is_some_and(|cells| !cells.is_empty());
        let message = viewer.until("changed cells", has_cells);
        assert_eq!(
            message["cells"],
            json!([{"row": 0, "column": 1, "value": "1.50"}, {"row": 0, "column": 2, "value": "Wed"}])
        );
        assert!(message["version"].as_u64() > view["version"].as_u64());
    }
    let (status, answer) = remove(&server, &table, &secret, &json!(["B", "nothing", "D"]));
    assert_eq!((status, &answer["removed"]), (200, &json!(2)), "{answer}");
    let view = viewer.view(|view| view["total_number"] == 3);
    assert_eq!(column(&view, 0), ["A", "C", "E"]);
    // A removed key is appended again.
    let (status, answer) = change(
        &server,
        ("POST", &format!("/tables/{table}/rows?mode=upsert")),
        &secret,
        "text/csv",
        "B,7,Thu\n",
    );
    assert_eq!((status, &answer["appended"], &answer["updated"]), (200, &json!(1), &json!(0)));
    assert_eq!(column(&viewer.view(|view| view["total_number"] == 4), 0), ["A", "C", "E", "B"]);
    for (path, name) in [("download", "prices.csv"), ("download?view=tsv", "prices.tsv")] {
        let (status, head, body) = server.get(&format!("/tables/{table}/{path}"));
        let text = String::from_utf8(body).expect("text").replace('\t', ",");
        assert_eq!((status, &*text), (200, "symbol,price,day\nA,1.50,Wed\nC,33,Tue\nE,6,Tue\nB,7,Thu\n"));
        assert!(head.contains(name), "{head}");
    }
}

#[test]
fn a_file_with_a_key_is_never_shown_without_it() {
    let server = TableServer::with(&[]);
    let mut viewer = server.viewer("/tables/ws");
    viewer.send(&json!({"key": ["symbol"]}));
    let lines = "A,1\n".repeat(5_000);
    let (first, rest) = lines.split_at(lines.len() / 2);
    let size = "symbol,price\n".len() + lines.len();
    viewer.send(&json!({"upload": {"name": "prices.csv", "size": size}}));
    viewer.binary(format!("symbol,price\n{first}").as_bytes());
    let check = |message: &Value| {
        let rows = message["total_number"].as_u64().unwrap_or(0);
        assert!(rows <= 1, "{rows} lines are shown as rows");
        rows == 1
    };
    // The rows that have arrived would be shown meanwhile if the file had no key.
    let progress = viewer.until("progress", |message| {
        check(message);
        message["progress"]["rows"].as_u64() > Some(0)
    });
    assert!(progress["progress"]["rows"].as_u64() > Some(100), "{progress}");
    viewer.binary(rest.as_bytes());
    viewer.send(&json!({"upload_end": {}}));
    let view = viewer.until("the view with the key", check);
    assert_eq!((&view["key"], column(&view, 1)), (&json!(["symbol"]), vec!["1"]));
}

#[test]
fn sorted_and_filtered_views_stay_right_and_private_ones_too() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, secret) = keyed(&server, "prices.csv", PRICES, &["symbol"]);
    let mut other = server.viewer(&format!("/tables/ws/{table}"));
    other.send(&json!({"private": {"filter": [{"column": 1, "op": ">=", "value": "4"}]}}));
    let private = |message: &Value, rows: &[&str]| column(&message["private"], 0) == rows;
    other.until("a private view", |message| message["private"].is_object() && private(message, &["B", "D"]));
    viewer.send(&json!({"sort": [{"column": 1, "desc": true}]}));
    let is = |view: &Value, rows: &[&str]| view["sort"] != json!([]) && column(view, 0) == rows;
    viewer.view(|view| is(view, &["B", "D", "C", "A"]));
    upsert(&server, &table, &secret, &json!([["A", 100, ""], ["B", 0, ""], ["E", 50, ""]]));
    viewer.view(|view| is(view, &["A", "E", "D", "C", "B"]));
    other.until("a private view", |message| {
        message["private"].is_object() && private(message, &["A", "D", "E"])
    });
    remove(&server, &table, &secret, &json!([["E"], ["C"]]));
    viewer.view(|view| is(view, &["A", "D", "B"]));
    other.until("a private view", |message| message["private"].is_object() && private(message, &["A", "D"]));
    viewer.send(&json!({"facts": {}}));
    let facts = viewer.until("facts", |message| message["facts"].is_object());
    assert_eq!((&facts["facts"]["rows"], &facts["facts"]["columns"][0]["distinct"]), (&json!(3), &json!(3)));
    viewer.send(&json!({"undo": {}}));
    assert_eq!(column(&viewer.view(|view| view["sort"] == json!([])), 0), ["A", "B", "D"]);
}

#[test]
fn a_table_with_a_key_survives_a_restart() {
    let server = TableServer::with(&[]);
    let (viewer, table, secret) = keyed(&server, "prices.csv", PRICES, &["symbol"]);
    upsert(&server, &table, &secret, &json!([["A", 100, "Fri"], ["E", 5, "Fri"]]));
    remove(&server, &table, &secret, &json!(["C"]));
    drop(viewer);
    let folder = server.stop();
    let server = TableServer::start(&[&format!("data_dir={}", folder.path().display())]);
    let mut viewer = server.viewer(&format!("/tables/ws/{table}"));
    let view = viewer.view(|view| view["loading"] == false);
    assert_eq!((column(&view, 0), column(&view, 1)), (vec!["A", "B", "D", "E"], vec!["100", "20", "4", "5"]));
    let (status, answer) = upsert(&server, &table, &secret, &json!([["E", 6, "Sat"]]));
    assert_eq!((status, &answer["updated"]), (200, &json!(1)), "{answer}");
    // The view is sent again without a difference when the engine has opened the file once more.
    viewer.until("the replaced price", |message| {
        let has_cells = message["cells"].is_array() || message["uuid"].is_string();
        has_cells && message.to_string().contains("\"6\"")
    });
}

#[test]
fn errors_of_keys_state_the_reason_and_the_remedy() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, secret) = server.shared("prices.csv", PRICES);
    let (status, answer) = upsert(&server, &table, &secret, &json!([["A", 1, ""]]));
    assert_eq!(status, 409);
    assert!(answer["error"]["message"].as_str().is_some_and(|text| text.contains("--row-key")), "{answer}");
    assert_eq!(remove(&server, &table, &secret, &json!(["A"])).0, 409);
    viewer.send(&json!({"key": ["ticker"]}));
    let (code, reason) = viewer.error();
    assert!(code == 422 && reason.contains("\"ticker\"") && reason.contains("\"symbol\""), "{reason}");
    // The key of a file that is there already.
    viewer.send(&json!({"key": ["symbol", "day"]}));
    assert_eq!(viewer.view(|view| view["key"].is_array())["total_number"], 5);
    viewer.send(&json!({"key": ["symbol"]}));
    assert_eq!(viewer.error().0, 409);
    viewer.send(&json!({"dialect": {"header": false}}));
    assert_eq!(viewer.error().0, 409);
    let (status, answer) = remove(&server, &table, &secret, &json!(["A"]));
    assert!(status == 422 && answer.to_string().contains("2 cells"), "{answer}");
    let (status, answer) = upsert(&server, &table, &secret, &json!([{"symbol": "A", "prize": 1}]));
    assert!(status == 422 && answer.to_string().contains("prize"), "{answer}");
    let (status, _) = upsert(&server, &table, "wrong", &json!([["A", 1, "Mon"]]));
    assert_eq!(status, 403);
    let (status, answer) = remove(&server, &table, &secret, &json!([["A", "Mon"]]));
    assert_eq!((status, &answer["removed"]), (200, &json!(1)));
    // A file without the column of the key has no key, and the uploader receives the reason.
    let mut other = server.viewer("/tables/ws");
    other.send(&json!({"upload": {"name": "a.csv", "key": ["id"]}}));
    other.binary(b"n,word\n1,apple\n");
    other.send(&json!({"upload_end": {}}));
    let (code, reason) = other.error();
    assert!(code == 422 && reason.contains("no key now"), "{reason}");
    assert_eq!(other.view(|view| view["loading"] == false)["key"], Value::Null);
}

#[test]
fn the_rows_of_a_table_with_a_key_are_the_same_on_every_node() {
    let (redis, store) = (RedisServer::start(), tempfile::tempdir().expect("a folder"));
    let options = [format!("broker={}", redis.url()), format!("tables.store={}", store.path().display())];
    let options = options.each_ref().map(String::as_str);
    let (a, b) = (TableServer::start(&options), TableServer::start(&options));
    a.until_ready();
    b.until_ready();
    let (mut on_a, table, secret) = keyed(&a, "prices.csv", PRICES, &["symbol"]);
    let mut on_b = b.viewer(&format!("/tables/ws/{table}"));
    on_b.view(|view| view["total_number"] == 4);
    upsert(&b, &table, &secret, &json!([["A", 100, ""], ["E", 5, ""]]));
    assert_eq!(column(&on_a.view(|view| view["total_number"] == 5), 1), ["100", "20", "3", "4", "5"]);
    remove(&a, &table, &secret, &json!(["B", "C"]));
    assert_eq!(column(&on_b.view(|view| view["total_number"] == 3), 0), ["A", "D", "E"]);
    // A key that is set on one node reaches the other.
    let (mut on_a, table, secret) = a.shared("more.csv", PRICES);
    let mut on_b = b.viewer(&format!("/tables/ws/{table}"));
    on_b.view(|view| view["total_number"] == 5);
    on_a.send(&json!({"key": ["symbol"]}));
    on_b.view(|view| view["total_number"] == 4 && view["key"] == json!(["symbol"]));
    let (status, answer) = upsert(&b, &table, &secret, &json!([["D", 9, ""]]));
    assert_eq!((status, &answer["updated"]), (200, &json!(1)), "{answer}");
    on_a.until("a change", |message| message.to_string().contains("\"9\""));
}

#[test]
fn metrics_count_the_changes_of_rows_and_the_memory_of_keys() {
    let server = TableServer::with(&[]);
    let (_viewer, table, secret) = keyed(&server, "prices.csv", PRICES, &["symbol"]);
    upsert(&server, &table, &secret, &json!([["A", 100, ""], ["B", 5, ""]]));
    remove(&server, &table, &secret, &json!(["C"]));
    wait_until(PATIENCE, "the metrics", || {
        let metrics = String::from_utf8(server.get("/metrics").2).expect("text");
        let value = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            line.and_then(|value| value.parse::<f64>().ok()).unwrap_or(-1.0)
        };
        value("tidings_table_rows_updated_total") == 2.0
            && value("tidings_table_rows_removed_total") == 1.0
            && value("tidings_table_live_bytes") > 100.0
    });
}
