//! Grouped views over real connections.

use serde_json::{Value, json};

use crate::table_server::{TableServer, Viewer};

const SALES: &str = "city,amount,day\nBern,5,2024-05-01\nZug,7.25,2024-05-02\nBern,1.5,2024-05-01\n";

/// The next private view that matches.
fn private(viewer: &mut Viewer, is_match: impl Fn(&Value) -> bool) -> Value {
    let message = viewer.until("a private view", |message| message.get("private").is_some_and(&is_match));
    message["private"].clone()
}

fn by_city() -> Value {
    json!({"by": [0], "measures": [{"column": 1, "fn": "sum"}], "chart": "bar"})
}

#[test]
fn a_grouped_view_is_shared_pages_sorts_and_grows_with_appended_rows() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, secret) = server.shared("sales.csv", SALES);
    let mut other = server.viewer(&format!("/tables/ws/{table}"));
    viewer.send(&json!({"group": by_city()}));
    for viewer in [&mut viewer, &mut other] {
        let view = viewer.view(|view| view["group"] == by_city());
        assert_eq!(view["header"], json!(["city", "sum of amount"]));
        assert_eq!(view["data"], json!([["Bern", "6.5"], ["Zug", "7.25"]]));
        assert_eq!((&view["total_number"], &view["columns"]), (&json!(2), &Value::Null));
    }
    viewer.send(&json!({"sort": [{"column": 1, "desc": true}]}));
    assert_eq!(other.view(|view| view["sort"][0]["column"] == 1)["data"][0], json!(["Zug", "7.25"]));
    viewer.send(&json!({"page_size": 1}));
    viewer.view(|view| view["page_size"] == 1);
    viewer.send(&json!({"page": 2}));
    assert_eq!(other.view(|view| view["page_no"] == 2)["data"], json!([["Bern", "6.5"]]));
    assert_eq!(
        server.append(&table, &secret, "text/csv", "Bern,100,2024-05-03\nAarau,1,2024-05-03\n").0,
        200
    );
    let view = other.view(|view| view["total_number"] == 3);
    assert_eq!((&view["data"], &view["page_no"]), (&json!([["Zug", "7.25"]]), &json!(2)));
    // A window, and the columns that it asks for.
    other.send(&json!({"rows": {"from": 0, "count": 2, "columns": {"from": 1, "count": 5}}}));
    let rows = other.until("a window", |message| message["rows"].is_object());
    assert_eq!(rows["rows"]["data"], json!([["106.5"], ["7.25"]]));
    assert_eq!(
        (&rows["rows"]["header"], &rows["rows"]["columns"]["total"]),
        (&json!(["sum of amount"]), &json!(2))
    );
    // A newcomer, and the download of the view.
    let view = server.viewer(&format!("/tables/ws/{table}")).view(|_| true);
    assert_eq!(view["group"], by_city());
    let (status, _, body) = server.get(&format!("/tables/{table}/download?view=csv"));
    assert_eq!((status, &body[..]), (200, &b"city,sum of amount\nBern,106.5\nZug,7.25\nAarau,1\n"[..]));
    let (status, _, body) = server.get(&format!("/tables/{table}/download"));
    assert_eq!((status, body.split(|byte| *byte == b'\n').count()), (200, 7));
}

#[test]
fn a_group_is_drilled_into_and_the_change_is_undone() {
    let server = TableServer::with(&[]);
    let (mut viewer, _, _) = server.shared("sales.csv", SALES);
    viewer.send(&json!({"drill": ["Bern"]}));
    assert_eq!(viewer.error().0, 409);
    viewer.send(&json!({"group": {"by": [0, 2]}}));
    let view = viewer.view(|view| view["group"]["by"] == json!([0, 2]));
    assert_eq!(view["data"], json!([["Bern", "2024-05-01", "2"], ["Zug", "2024-05-02", "1"]]));
    viewer.send(&json!({"drill": ["Bern"]}));
    assert_eq!(viewer.error().0, 400);
    viewer.send(&json!({"drill": ["Bern", "2024-05-01"]}));
    let view = viewer.view(|view| view["group"].is_null());
    assert_eq!(view["data"], json!([["Bern", "5", "2024-05-01"], ["Bern", "1.5", "2024-05-01"]]));
    assert_eq!(view["filter"][0], json!({"column": 0, "op": "same", "value": "Bern"}));
    viewer.send(&json!({"undo": {}}));
    assert_eq!(viewer.view(|view| view["group"].is_object())["total_number"], 2);
    viewer.send(&json!({"redo": {}}));
    assert_eq!(viewer.view(|view| view["group"].is_null())["total_number"], 2);
    viewer.send(&json!({"undo": {}}));
    viewer.view(|view| view["group"].is_object());
    viewer.send(&json!({"undo": {}}));
    assert_eq!(viewer.view(|view| view["group"].is_null())["total_number"], 3);
}

#[test]
fn a_private_view_is_grouped_grows_and_is_shared() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, secret) = server.shared("sales.csv", SALES);
    viewer.send(&json!({"private": {"group": by_city(), "filter": [{"column": 1, "op": ">", "value": 2}]}}));
    let view = private(&mut viewer, |view| view["total_number"] == 2);
    assert_eq!((&view["data"], &view["group"]), (&json!([["Bern", "5"], ["Zug", "7.25"]]), &by_city()));
    assert_eq!(server.append(&table, &secret, "text/csv", "Bern,3,2024-05-04\nBern,1,2024-05-04\n").0, 200);
    private(&mut viewer, |view| view["data"][0] == json!(["Bern", "8"]));
    viewer.send(&json!({"rows": {"from": 1, "count": 1, "private": true}}));
    let rows = viewer.until("a window", |message| message["rows"].is_object());
    assert_eq!(rows["rows"]["data"], json!([["Zug", "7.25"]]));
    viewer.send(&json!({"share_private": {}}));
    assert_eq!(viewer.view(|view| view["group"] == by_city())["data"][0], json!(["Bern", "8"]));
}

#[test]
fn groups_that_are_impossible_are_refused_with_the_reason_and_the_rows_stay() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, _) = server.shared("sales.csv", SALES);
    for (message, code, reason) in [
        (json!({"group": {"by": [9]}}), 400, "no column 9"),
        (json!({"group": {"by": []}}), 400, "from 1 to 8 columns"),
        (
            json!({"group": {"by": [1], "measures": [{"column": 0, "fn": "sum"}]}}),
            422,
            "needs a column of numbers",
        ),
        (json!({"private": {"group": {"by": [0]}, "sort": [{"column": 2}]}}), 400, "no column 2"),
    ] {
        viewer.send(&message);
        let (found, text) = viewer.error();
        assert_eq!(found, code, "{message}: {text}");
        assert!(text.contains(reason), "{message}: {text}");
    }
    viewer.send(&json!({"group": {"by": [0]}}));
    viewer.view(|view| view["group"].is_object());
    viewer.send(&json!({"columns": {"hidden": [1]}}));
    let (code, text) = viewer.error();
    assert!(code == 409 && text.contains("show its rows first"), "{text}");
    viewer.send(&json!({"sort": [{"column": 2, "desc": false}]}));
    assert_eq!(viewer.error().0, 400);
    // Only the owner changes a locked view.
    let mut guest = server.viewer(&format!("/tables/ws/{table}"));
    viewer.send(&json!({"lock": {"view": true}}));
    guest.until("the lock", |message| message["lock"]["view"] == true);
    for message in [json!({"group": null}), json!({"drill": ["Bern"]})] {
        guest.send(&message);
        assert_eq!(guest.error().0, 403, "{message}");
    }
    viewer.send(&json!({"group": null}));
    guest.view(|view| view["group"].is_null());
}

#[test]
fn more_groups_than_the_limit_are_refused_and_the_rows_stay() {
    let server = TableServer::with(&[]);
    let lines: String = (0..=100_000).map(|number| format!("{number},x\n")).collect();
    let (mut viewer, _, _) = server.shared("many.csv", &format!("number,text\n{lines}"));
    viewer.send(&json!({"group": {"by": [0]}}));
    let (code, text) = viewer.error();
    assert!(
        code == 413 && text.contains("more than 100000 groups") && text.contains("filter the rows"),
        "{text}"
    );
    viewer.send(&json!({"search": "99999"}));
    assert_eq!(viewer.view(|view| view["search"] == "99999")["group"], Value::Null);
    // The number of different values beyond the exact ones is marked as an estimate.
    viewer.send(&json!({"search": ""}));
    viewer.view(|view| view["search"] == "");
    viewer.send(&json!({"group": {"by": [1], "measures": [{"column": 0, "fn": "distinct"}]}}));
    let view = viewer.view(|view| view["group"].is_object());
    assert!(view["data"][0][1].as_str().is_some_and(|text| text.starts_with('≈')), "{}", view["data"]);
    let metrics = String::from_utf8(server.get("/metrics").2).expect("text");
    let used = metrics.lines().find_map(|line| line.strip_prefix("tidings_table_groups_bytes "));
    assert!(used.and_then(|used| used.parse::<u64>().ok()).is_some_and(|used| used > 4_096), "{used:?}");
}

#[test]
fn the_article_s_page_shows_the_groups_with_their_header_as_a_row() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, _) = server.shared("sales.csv", SALES);
    let mut article = server.viewer(&format!("/parser/ws/{table}"));
    viewer.send(&json!({"group": by_city()}));
    let view = article.view(|view| view["data"][0][1] == "sum of amount");
    assert_eq!(view["data"], json!([["city", "sum of amount"], ["Bern", "6.5"], ["Zug", "7.25"]]));
    assert_eq!((&view["total_number"], view.get("group")), (&json!(3), None));
}

#[test]
fn groups_of_a_table_with_a_key_follow_its_rows() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, secret) = server.shared("sales.csv", "id,city,amount\n1,Bern,5\n2,Zug,7\n");
    viewer.send(&json!({"key": ["id"]}));
    viewer.view(|view| view["key"] == json!(["id"]));
    let group = json!({"by": [1], "measures": [{"column": 2, "fn": "max"}, {"fn": "count"}]});
    viewer.send(&json!({"group": group}));
    viewer.view(|view| view["data"] == json!([["Bern", "5", "1"], ["Zug", "7", "1"]]));
    let upsert = |rows: &str| {
        let request = format!(
            "POST /tables/{table}/rows?mode=upsert HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{rows}",
            rows.len()
        );
        assert_eq!(server.ask(request.as_bytes()).0, 200);
    };
    upsert("2,Bern,3\n3,Bern,4\n");
    viewer.view(|view| view["data"] == json!([["Bern", "5", "3"]]));
    upsert("1,Aarau,9\n");
    viewer.view(|view| view["data"] == json!([["Aarau", "9", "1"], ["Bern", "4", "2"]]));
}
