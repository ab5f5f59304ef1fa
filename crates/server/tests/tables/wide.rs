//! Tables with many columns: a view has the first ones, and viewers request the columns that they show.

use serde_json::{Value, json};

use crate::table_server::TableServer;

/// A table with this many columns and rows: `c0 c1 …`, then `row:column`.
fn wide(columns: usize, rows: usize) -> String {
    let line = |cell: &dyn Fn(usize) -> String| (0..columns).map(cell).collect::<Vec<_>>().join("\t") + "\n";
    let mut text = line(&|column| format!("c{column}"));
    for row in 0..rows {
        text += &line(&|column| format!("{row}:{column}"));
    }
    text
}

#[test]
fn a_view_of_a_wide_table_has_the_first_columns_and_windows_have_the_others() {
    let server = TableServer::with(&[]);
    let (mut viewer, ..) = server.shared("wide.tsv", &wide(3_000, 120));
    viewer.text("1");
    let view = viewer.view(|_| true);
    assert_eq!(
        (&view["columns_from"], &view["columns_count"], &view["columns_total"]),
        (&json!(0), &json!(200), &json!(3_000))
    );
    assert_eq!(
        (view["data"][99].as_array().map(Vec::len), &view["data"][99][199]),
        (Some(200), &json!("99:199"))
    );
    // The names of the first 1,000 columns are there, as before.
    assert_eq!(view["header"].as_array().map(Vec::len), Some(1_000));
    // Larger pages have fewer columns, and the number of cells is bounded.
    viewer.send(&json!({"page_size": 1_000}));
    let view = viewer.view(|view| view["page_size"] == 1_000);
    assert_eq!(
        (view["columns_count"].as_u64(), view["data"].as_array().map(Vec::len)),
        (Some(166), Some(120))
    );
    let mut window = |columns: Value| {
        viewer.send(&json!({"rows": {"from": 100, "count": 30, "columns": columns}}));
        viewer.until("a window", |message| message["rows"].is_object())["rows"].take()
    };
    let rows = window(json!({"from": 2_500, "count": 50}));
    assert_eq!(rows["columns"], json!({"from": 2_500, "count": 50, "total": 3_000}));
    assert_eq!(
        (&rows["count"], &rows["total_number"], &rows["from"]),
        (&json!(20), &json!(120), &json!(100))
    );
    assert_eq!((&rows["data"][19][49], &rows["header"][49]), (&json!("119:2549"), &json!("c2549")));
    assert!(rows["wide"].is_null(), "{rows}");
    let rows = window(json!({"from": 2_990, "count": 1_000}));
    assert_eq!((&rows["columns"]["count"], rows["header"].as_array().map(Vec::len)), (&json!(10), Some(10)));
    let rows = window(json!({"from": 5_000, "count": 10}));
    assert_eq!((&rows["columns"]["count"], &rows["data"][0]), (&json!(0), &json!([])));
    // An error names the limit.
    viewer.send(&json!({"rows": {"from": 0, "count": 1, "columns": {"from": 0, "count": 1_001}}}));
    let (code, reason) = viewer.error();
    assert!(code == 400 && reason.contains("from 1 to 1000"), "{reason}");
}

#[test]
fn a_large_window_has_as_many_columns_as_it_states() {
    let server = TableServer::with(&[]);
    let (mut viewer, ..) = server.shared("wide.tsv", &wide(600, 1_000));
    viewer.send(&json!({"rows": {"from": 0, "count": 1_000, "columns": {"from": 50, "count": 550}}}));
    let rows = viewer.until("a window", |message| message["rows"].is_object())["rows"].take();
    assert_eq!(rows["columns"], json!({"from": 50, "count": 250, "total": 600}));
    let (data, header) = (rows["data"].as_array().expect("rows"), rows["header"].as_array().expect("names"));
    assert!(data.len() == 1_000 && data.iter().all(|row| row.as_array().map(Vec::len) == Some(250)));
    assert_eq!((header.len(), &header[249], &data[999][249]), (250, &json!("c299"), &json!("999:299")));
}

#[test]
fn a_small_table_and_a_window_without_columns_are_sent_as_before() {
    let server = TableServer::with(&[]);
    let (mut viewer, table, _) = server.shared("rows.tsv", "a\tb\n1\t2\n3\n");
    viewer.text("1");
    let view = viewer.view(|_| true);
    assert!(view["columns_total"].is_null(), "{view}");
    viewer.send(&json!({"rows": {"from": 0, "count": 10}}));
    let rows = viewer.until("a window", |message| message["rows"].is_object())["rows"].take();
    let mut fields: Vec<_> = rows.as_object().expect("an object").keys().collect();
    fields.sort();
    assert_eq!(fields, ["count", "data", "from", "total_number", "version"]);
    // The article's page receives all columns.
    let (_uploader, wide_table, _) = server.shared("wide.tsv", &wide(300, 100));
    let view = server.viewer(&format!("/parser/ws/{wide_table}")).view(|_| true);
    assert_eq!(view["data"][0].as_array().map(Vec::len), Some(300));
    let view = server.viewer(&format!("/parser/ws/{table}")).view(|_| true);
    assert!(view.get("changed_by").is_none() && view.get("columns_total").is_none(), "{view}");
}
