//! The stored tables of all nodes, as the admin page lists them.

use serde_json::{Value, json};
use tidings_testkit::{PATIENCE, wait_until};

use crate::bucket::Shared;
use crate::table_server::{TableServer, Viewer, tsv};

/// A page of stored tables.
fn page(server: &TableServer, after: &str, limit: usize) -> Value {
    let body = json!({"after": after, "limit": limit}).to_string();
    let response = server.server.post("/admin/api/tables/stored", &["X-Tidings-Admin: 1"], &body);
    assert_eq!(response.status, 200, "{}", response.body);
    serde_json::from_str(&response.body).expect("JSON")
}

/// The ids on all pages of `limit` tables, whose rows have this name; none while the time of use of a row is not known yet.
fn ids(server: &TableServer, limit: usize, name: &str) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = page(server, &after, limit);
        assert_eq!((&page["errors"], &page["missing"]), (&json!([]), &json!([])));
        let rows = page["tables"].as_array().expect("a list");
        assert!(rows.len() <= limit, "{page}");
        for row in rows {
            assert!(row["name"] == name && row["size"].as_u64() > Some(8192), "{row}");
            if row["used"].is_null() {
                return Vec::new();
            }
            assert!(row["used"].is_u64(), "{row}");
            all.push(row["id"].as_str().expect("an id").to_owned());
        }
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => return all,
        }
    }
}

/// Creates tables; the viewers of the odd ones leave.
fn create(server: &TableServer, count: usize) -> (Vec<Viewer>, Vec<String>) {
    let (mut viewers, mut ids) = (Vec::new(), Vec::new());
    for at in 0..count {
        let (viewer, id, _) = server.shared("rows.tsv", &tsv(10));
        if at % 2 == 0 {
            viewers.push(viewer);
        }
        ids.push(id);
    }
    ids.sort();
    (viewers, ids)
}

#[test]
fn every_table_in_a_folder_is_listed_once_whether_it_is_open_or_not() {
    let server = TableServer::with(&[]);
    let (_viewers, expected) = create(&server, 5);
    for limit in [1, 2, 5, 200] {
        wait_until(PATIENCE, "all tables", || ids(&server, limit, "rows.tsv") == expected);
    }
    assert_eq!(page(&server, "", 5)["next"], Value::Null);
    let wrong = page(&server, "nonsense", 5);
    let error = wrong["errors"][0][1].as_str().expect("a reason");
    assert!(error.contains("\"nonsense\" is no id of a table"), "{wrong}");
}

#[test]
fn the_tables_of_a_bucket_are_listed_once_for_all_nodes() {
    let shared_by = Shared::start();
    let (a, b) = (shared_by.node(&["node.name=ann"]), shared_by.node(&["node.name=bob"]));
    let (_viewers, expected) = create(&a, 4);
    for limit in [1, 3, 200] {
        wait_until(PATIENCE, "all tables", || ids(&b, limit, "rows.tsv") == expected);
    }
    wait_until(PATIENCE, "both nodes", || {
        let mut nodes = page(&b, "", 1)["tables"][0]["nodes"].clone();
        nodes.as_array_mut().expect("a list").sort_by_key(ToString::to_string);
        nodes == json!(["ann", "bob"])
    });
    shared_by.link.black_hole();
    let page = page(&b, "", 1);
    assert_eq!(page["tables"], json!([]));
    assert!(!page["errors"].as_array().expect("a list").is_empty(), "{page}");
}
