//! Tables of channels (`tables.from_channel`).

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tidings_testkit::{PATIENCE, RedisServer, wait_until};

use crate::live::column;
use crate::support;
use crate::table_server::{TableServer, Viewer};

const FEED: &str = r#"tables.from_channel=[{"channel":"prices","key":["id"],"max_rows":4}]"#;
const HISTORY: [&str; 2] =
    ["channel.without_namespace.history_size=100", "channel.without_namespace.history_ttl=1h"];

/// The id of the only table of a channel in this folder of tables.
fn table_of(store: &Path) -> String {
    let names = fs::read_dir(store.join("feeds")).expect("a folder");
    let mut names = names.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"));
    let lock = names.find(|name| name.ends_with(".lock")).expect("a table");
    lock.trim_end_matches(".lock").to_owned()
}

/// The id of the table of the channel, once its task runs.
fn link(server: &TableServer, store: &Path) -> String {
    server.until_ready();
    wait_until(PATIENCE, "the task of the channel", || {
        store.join("feeds").join("key").exists() && has_lock(store)
    });
    table_of(store)
}

fn has_lock(store: &Path) -> bool {
    fs::read_dir(store.join("feeds")).is_ok_and(|names| names.count() == 2)
}

fn publish(server: &TableServer, data: &Value) {
    let body = json!({"channel": "prices", "data": data});
    let response = server.server.post("/api/publish", &["Content-Type: application/json"], &body.to_string());
    assert_eq!(response.status, 200, "{}", response.body);
}

/// Publishes until a view has this many rows: the channel may not be subscribed yet.
fn first_view(server: &TableServer, viewer: &mut Viewer, data: &Value) -> Value {
    for _ in 0..100 {
        publish(server, data);
        while let Some(message) = viewer.next_within(Duration::from_millis(100)) {
            if let crate::table_server::Sent::Json(message) = message
                && message["total_number"] == 1
            {
                return message;
            }
        }
    }
    panic!("no row");
}

/// Deletes a table, as an operator.
fn delete(server: &TableServer, table: &str) {
    let path = format!("/admin/api/tables/{table}/delete");
    let response = server.server.post(&path, &["X-Tidings-Admin: 1"], "{}");
    assert_eq!(response.status, 200, "{}", response.body);
}

fn outcomes(server: &TableServer, outcome: &str) -> u64 {
    server.server.metric(&format!("tidings_table_feed_publications_total{{outcome=\"{outcome}\"}}"))
}

#[test]
fn objects_published_in_a_channel_are_rows_of_its_table_and_replace_rows_with_the_same_key() {
    let server = TableServer::with(&[FEED]);
    let table = link(&server, &server.store());
    // The link works before the first publication.
    let mut viewer = server.viewer(&format!("/tables/ws/{table}"));
    let view = first_view(&server, &mut viewer, &json!({"id": "A", "price": 1}));
    assert_eq!((&view["key"], &view["name"]), (&json!(["id"]), &json!("prices.jsonl")));
    assert_eq!((&view["header"], &view["data"]), (&json!(["id", "price"]), &json!([["A", "1"]])));
    // Another column, and another row.
    publish(&server, &json!({"id": "B", "price": 2.5, "unit": "EUR"}));
    let view = viewer.view(|view| view["total_number"] == 2);
    assert_eq!(view["header"], json!(["id", "price", "unit"]));
    assert_eq!(view["changed_by"]["by"], "append");
    publish(&server, &json!({"id": "A", "price": 6}));
    viewer.view(|view| view["changed_by"]["by"] == "api");
    // Viewers get the changed cell when nothing else has changed.
    publish(&server, &json!({"id": "A", "price": 7}));
    let message = viewer
        .until("changed cells", |message| message["cells"].as_array().is_some_and(|cells| !cells.is_empty()));
    assert_eq!(message["cells"], json!([{"row": 0, "column": 1, "value": "7"}]));
    // A client of Redis.
    server.server.resp().command(&["PUBLISH", "prices", r#"{"id":"C","price":3}"#]);
    viewer.view(|view| view["total_number"] == 3);
    // Viewers cannot upload another file.
    viewer.send(&json!({"upload": {"name": "a.csv", "size": 3}}));
    assert_eq!(viewer.error().0, 403);
}

#[test]
fn publications_that_are_no_rows_are_counted_by_their_reason() {
    let server = TableServer::with(&[FEED]);
    let table = link(&server, &server.store());
    let mut viewer = server.viewer(&format!("/tables/ws/{table}"));
    first_view(&server, &mut viewer, &json!({"id": "A", "price": 1}));
    for data in [json!([1]), json!("text"), json!({"price": 1}), json!({"id": null})] {
        publish(&server, &data);
    }
    wait_until(PATIENCE, "both reasons", || {
        outcomes(&server, "no_object") == 2 && outcomes(&server, "no_key") == 2
    });
    for id in ["B", "C", "D", "E", "F"] {
        publish(&server, &json!({"id": id}));
    }
    wait_until(PATIENCE, "rows above max_rows", || outcomes(&server, "full") == 2);
    let view = viewer.view(|view| view["total_number"] == 4);
    assert_eq!(column(&view, 0), ["A", "B", "C", "D"]);
    // Rows that are there change as before.
    publish(&server, &json!({"id": "D", "price": 4}));
    viewer.until("a change", |message| message.to_string().contains("\"4\""));
}

#[test]
fn an_object_that_the_table_refuses_does_not_affect_others() {
    let server = TableServer::with(&[FEED]);
    let table = link(&server, &server.store());
    let mut viewer = server.viewer(&format!("/tables/ws/{table}"));
    first_view(&server, &mut viewer, &json!({"id": "A"}));
    let wide: serde_json::Map<_, _> = (0..10_001).map(|at| (format!("c{at}"), json!(1))).collect();
    let mut wide = Value::Object(wide);
    wide["id"] = json!("W");
    let mut commands = vec![];
    for data in [json!({"id": "B"}), wide, json!({"id": "C"})] {
        commands.push(json!({"publish": {"channel": "prices", "data": data}}));
    }
    let body = json!({"commands": commands});
    let response = server.server.post("/api/batch", &["Content-Type: application/json"], &body.to_string());
    assert_eq!(response.status, 200, "{}", response.body);
    wait_until(PATIENCE, "the refusal", || outcomes(&server, "refused") == 1);
    assert_eq!(column(&viewer.view(|view| view["total_number"] == 3), 0), ["A", "B", "C"]);
}

#[test]
fn the_table_of_a_channel_has_the_same_link_and_rows_after_a_restart_and_catches_up_from_the_history() {
    let redis = RedisServer::start();
    let broker = format!("broker={}", redis.url());
    let options: Vec<&str> = [FEED, &*broker].into_iter().chain(HISTORY).collect();
    let server = TableServer::with(&options);
    let table = link(&server, &server.store());
    let mut viewer = server.viewer(&format!("/tables/ws/{table}"));
    // A backend that knows Redis alone.
    redis.cli(&["PUBLISH", "prices", r#"{"id":"A","price":1}"#]);
    viewer.view(|view| view["total_number"] == 1);
    redis.cli(&["PUBLISH", "prices", r#"{"id":"B","price":2}"#]);
    viewer.view(|view| view["total_number"] == 2);
    let folder = server.stop();
    // While this server is down, another one publishes.
    let other = TableServer::start(&[&*broker, HISTORY[0], HISTORY[1], "data_dir=off"]);
    other.until_ready();
    publish(&other, &json!({"id": "B", "price": 20}));
    publish(&other, &json!({"id": "C", "price": 30}));
    let store = format!("data_dir={}", folder.path().display());
    let server = TableServer::start(&[&[&*store], &*options].concat());
    assert_eq!(link(&server, &folder.path().join("tables")), table);
    let mut viewer = server.viewer(&format!("/tables/ws/{table}"));
    let view = viewer.view(|view| view["total_number"] == 3);
    assert_eq!((column(&view, 0), column(&view, 1)), (vec!["A", "B", "C"], vec!["1", "20", "30"]));
    redis.cli(&["PUBLISH", "prices", r#"{"id":"A","price":5}"#]);
    viewer.until("a change", |message| message.to_string().contains("\"5\""));
}

#[test]
fn the_table_of_a_channel_loses_no_row_when_its_subscription_is_cut() {
    let redis = RedisServer::start();
    let broker = format!("broker={}", redis.url());
    let options: Vec<&str> = [FEED, &*broker].into_iter().chain(HISTORY).collect();
    let server = TableServer::with(&options);
    let table = link(&server, &server.store());
    let mut viewer = server.viewer(&format!("/tables/ws/{table}"));
    let mut backend = redis.client();
    let publish = |id: &str, price: usize| {
        let body = json!({"id": id, "price": price}).to_string();
        ["FCALL", "tidings_publish", "1", "prices", &*body].map(ToOwned::to_owned)
    };
    wait_until(PATIENCE, "the first row", || {
        backend.command(&publish("A", 0));
        outcomes(&server, "written") > 0
    });
    viewer.view(|view| view["total_number"] == 1);
    for cut in 1..=3 {
        // In one step the connection ends and the change is published, so that no subscription delivers it.
        backend.command(&["MULTI"]);
        backend.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        backend.command(&publish("A", cut));
        backend.command(&publish("B", cut * 10));
        let reply = format!("{:?}", backend.command(&["EXEC"]));
        assert!(!reply.contains("ERR"), "{reply}");
        let rows = format!("A,{cut}\nB,{}\n", cut * 10);
        wait_until(PATIENCE, "the changes of the gap", || {
            let (_, _, body) = server.get(&format!("/tables/{table}/download"));
            String::from_utf8(body).expect("text").replace('\t', ",").ends_with(&rows)
        });
    }
    viewer.until("the last change", |message| message.to_string().contains("\"30\""));
}

#[test]
fn of_several_nodes_with_one_folder_one_writes_the_table_and_another_one_continues() {
    let (redis, store) = (RedisServer::start(), tempfile::tempdir().expect("a folder"));
    let options = [
        format!("broker={}", redis.url()),
        format!("tables.store={}", store.path().display()),
        FEED.to_owned(),
    ];
    let options = options.each_ref().map(String::as_str);
    let mut a = TableServer::start(&options);
    let table = link(&a, store.path());
    let b = TableServer::start(&options);
    b.until_ready();
    let mut on_b = b.viewer(&format!("/tables/ws/{table}"));
    redis.cli(&["PUBLISH", "prices", r#"{"id":"A","price":1}"#]);
    on_b.view(|view| view["total_number"] == 1);
    redis.cli(&["PUBLISH", "prices", r#"{"id":"B","price":2}"#]);
    on_b.view(|view| view["total_number"] == 2);
    assert_eq!((outcomes(&a, "written"), outcomes(&b, "written")), (2, 0));
    a.server.stop();
    // The other node takes over within a second.
    let mut price = 2;
    wait_until(PATIENCE, "the other node writes", || {
        price += 1;
        redis.cli(&["PUBLISH", "prices", &*format!(r#"{{"id":"B","price":{price}}}"#)]);
        outcomes(&b, "written") > 0
    });
    let expected = format!("\"{price}\"");
    on_b.until("the last price", |message| message.to_string().contains(&expected));
}

#[test]
fn a_deleted_table_of_a_channel_is_created_again() {
    let server = TableServer::with(&[FEED]);
    let table = link(&server, &server.store());
    let mut viewer = server.viewer(&format!("/tables/ws/{table}"));
    first_view(&server, &mut viewer, &json!({"id": "A", "price": 1}));
    delete(&server, &table);
    assert_eq!(viewer.close_code(), 4404);
    let written = outcomes(&server, "written");
    wait_until(PATIENCE, "a row of the new table", || {
        publish(&server, &json!({"id": "B", "price": 2}));
        outcomes(&server, "written") > written
    });
    let mut viewer = server.viewer(&format!("/tables/ws/{table}"));
    let view = viewer.view(|view| view["total_number"] == 1);
    assert_eq!(view["data"], json!([["B", "2"]]));
}

#[test]
fn tables_of_channels_in_a_bucket_are_refused_at_the_start() {
    let error = support::load(&[FEED, "tables.store=s3://bucket/prefix"]).expect_err("an error");
    assert!(error.contains("tables.from_channel needs tables in a folder"), "{error}");
}
