//! What the page shows of one node: connections, channels, history, the live tail, options, rates.

use std::io::{BufRead as _, BufReader, Write as _};
use std::time::Instant;

use serde_json::{Value, json};
use tidings_testkit::{PATIENCE, wait_until};

use crate::requests::{json as json_of, query};
use crate::support::TestServer;

fn clients(page: &Value) -> &Vec<Value> {
    page["connections"].as_array().expect("a list")
}

#[test]
fn connections_are_found_by_their_fields_and_disconnected_one_by_one() {
    let server = TestServer::start(&["shards=2"]);
    let mut plain = server.subscriber("news");
    let _other = server.subscriber("chat");
    let mut resp = server.resp();
    resp.command(&["PING"]);
    let all = query(&server, "connections", &json!({"limit": 10}));
    assert_eq!(clients(&all).len(), 3, "{all}");
    assert_eq!(all["next"], json!({}));
    let found = |request: Value| clients(&query(&server, "connections", &request)).len();
    assert_eq!(found(json!({"text": "RESP", "limit": 10})), 1);
    assert_eq!(found(json!({"text": "127.0.0.1", "limit": 10})), 3);
    assert_eq!(found(json!({"text": "nothing like this", "limit": 10})), 0);
    assert_eq!(found(json!({"queued": true, "limit": 10})), 0);
    let in_news = query(&server, "connections", &json!({"channel": "news", "limit": 10, "names": 10}));
    let [row] = &clients(&in_news)[..] else { panic!("{in_news}") };
    assert_eq!(row["protocol"], "plain");
    assert!(row["channels"].as_array().expect("a list").contains(&json!("news")), "{row}");
    let id = row["client"].as_str().expect("an id");
    assert_eq!(found(json!({"client": id, "limit": 10})), 1);
    assert_eq!(
        query(&server, "command/disconnect", &json!({"user": "", "client": id})),
        json!({"result": {}})
    );
    plain.expect_closed();
    wait_until(PATIENCE, "the end of the connection", || found(json!({"limit": 10})) == 2);
}

#[test]
fn pages_of_connections_contain_each_connection_once() {
    let server = TestServer::start(&["shards=3"]);
    let _clients: Vec<_> = (0..25).map(|_| server.subscriber("news")).collect();
    let (mut seen, mut cursors) = (Vec::new(), json!({}));
    loop {
        let page = query(&server, "connections", &json!({"limit": 10, "cursors": cursors}));
        seen.extend(clients(&page).iter().map(|row| row["client"].as_str().expect("an id").to_owned()));
        cursors = page["next"].clone();
        if cursors == json!({}) {
            break;
        }
    }
    assert_eq!(seen.len(), 25);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 25);
}

#[test]
fn slow_consumers_are_listed_with_the_longest_queue_first() {
    let server = TestServer::start(&["channel.without_namespace.slow_consumer=drop_oldest"]);
    // These do not read.
    let _one = server.subscriber("a");
    let mut two = server.line();
    for channel in ["a", "b"] {
        two.send(&format!("SUBSCRIBE {channel}"));
        two.expect("CONFIRMED");
    }
    let body = "x".repeat(60_000);
    let mut publisher = server.resp();
    wait_until(PATIENCE, "two queues", || {
        for _ in 0..20 {
            publisher.command(&["PUBLISH", "a", &body]);
        }
        clients(&query(&server, "connections", &json!({"queued": true, "limit": 10}))).len() == 2
    });
    let page = query(&server, "connections", &json!({"queued": true, "limit": 1}));
    let all = query(&server, "connections", &json!({"queued": true, "limit": 10}));
    let queues: Vec<_> = clients(&all).iter().map(|row| row["queued"].as_u64().expect("bytes")).collect();
    assert!(queues[0] >= queues[1], "{queues:?}");
    assert_eq!(clients(&page)[0]["client"], clients(&all)[0]["client"]);
}

#[test]
fn a_hundred_thousand_channels_are_paged_in_the_order_of_their_names() {
    let server = TestServer::start(&["client.channel_limit=200000", "broker_linger=0s"]);
    let mut resp = server.resp();
    let names: Vec<String> = (0..100_000).map(|n| format!("room:{n:06}")).collect();
    for chunk in names.chunks(1_000) {
        let mut command = vec!["SUBSCRIBE"];
        command.extend(chunk.iter().map(String::as_str));
        resp.send(&command);
        chunk.iter().for_each(|_| drop(resp.reply()));
    }
    let began = Instant::now();
    let first = query(&server, "channels", &json!({"limit": 1_000_000}));
    assert_eq!(first["total"], 100_000);
    let rows = first["channels"].as_array().expect("a list");
    assert_eq!(rows.len(), 200, "a page is bounded");
    assert_eq!(rows[199], json!(["room:000199", 1]));
    assert_eq!(first["next"], "room:000199");
    let second = query(&server, "channels", &json!({"limit": 2, "after": first["next"]}));
    assert_eq!(second["channels"], json!([["room:000200", 1], ["room:000201", 1]]));
    let found = query(&server, "channels", &json!({"text": "room:0999*", "limit": 2}));
    assert_eq!((&found["total"], &found["channels"][0][0]), (&json!(100), &json!("room:099900")));
    let found = query(&server, "channels", &json!({"text": "012345", "limit": 2}));
    assert_eq!((&found["total"], &found["next"]), (&json!(1), &Value::Null));
    let one = query(&server, "channels", &json!({"name": "room:000007", "limit": 1}));
    assert_eq!(one["channels"], json!([["room:000007", 1]]));
    println!("5 pages of 100,000 channels took {:?}", began.elapsed());
}

#[test]
fn the_live_tail_follows_a_channel_that_clients_may_not_subscribe_to() {
    // With a key, clients need permissions; the operator does not.
    let key = "a key of this test alone";
    let server = TestServer::start(&[&format!("http_api.key={key}"), "events.enabled=true"]);
    let mut stream = server.connect();
    let request = format!(
        "GET /admin/api/tail?channel=secret:plans HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("a request");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("a line"));
    assert!(lines.next().expect("a status").starts_with("HTTP/1.1 200"));
    assert!(lines.any(|line| line.starts_with(':')), "the stream is open");
    let publish = r#"{"channel":"secret:plans","data":{"a":1}}"#;
    assert_eq!(server.post("/api/publish", &[&format!("X-API-Key: {key}")], publish).status, 200);
    assert!(lines.any(|line| line == "data: {\"a\":1}"));
    // A client without the key is refused.
    assert!([401, 403].contains(&server.get("/events?channel=secret:plans").status));
}

#[test]
fn a_history_is_browsed_page_by_page() {
    let options = ["channel.without_namespace.history_size=100", "channel.without_namespace.history_ttl=60s"];
    let server = TestServer::start(&options);
    for n in 0..5 {
        let published = query(&server, "command/publish", &json!({"channel": "news", "data": n}));
        assert_eq!(published["result"]["offset"], n + 1);
    }
    let first = query(&server, "command/history", &json!({"channel": "news", "limit": 3, "reverse": true}));
    let offsets = |page: &Value| -> Vec<u64> {
        let list = page["result"]["publications"].as_array().expect("a list");
        list.iter().map(|publication| publication["offset"].as_u64().expect("an offset")).collect()
    };
    assert_eq!(offsets(&first), [5, 4, 3]);
    let since = json!({"offset": 3, "epoch": first["result"]["epoch"]});
    let more = json!({"channel": "news", "limit": 3, "reverse": true, "since": since});
    assert_eq!(offsets(&query(&server, "command/history", &more)), [2, 1]);
    let refused = query(&server, "command/presence", &json!({"channel": "news"}));
    assert_eq!(refused["error"]["code"], 108, "{refused}");
}

#[test]
fn options_rates_and_log_lines_are_shown_without_secrets() {
    let options = [
        "channel.namespaces=chat",
        "channel.namespaces.chat.history_size=7",
        "channel.namespaces.chat.history_ttl=60s",
    ];
    let secret = "a key that is no option of channels";
    let server = TestServer::start(&[&options[..], &[&*format!("http_api.key={secret}")]].concat());
    let key = format!("X-API-Key: {secret}");
    let data = |path: &str| json_of(&crate::requests::get(server.http(), path, &[&key]));
    let namespaces = data("/admin/api/namespaces");
    assert_eq!(namespaces["namespaces"][1]["name"], "chat");
    let chat = &namespaces["namespaces"][1]["options"];
    assert_eq!(
        [&chat["history_size"], &chat["history_ttl"], &chat["presence"], &chat["force_recovery_mode"]],
        [&json!(7), &json!("1m"), &json!(false), &json!("stream")]
    );
    let changed: Vec<_> =
        namespaces["namespaces"].as_array().expect("a list").iter().map(|one| &one["changed"]).collect();
    assert_eq!(changed, [&json!([]), &json!(["history_size", "history_ttl"])]);
    // The policy that `auto` stands for.
    let without = &namespaces["namespaces"][0]["options"];
    assert_eq!([&chat["slow_consumer"], &without["slow_consumer"]], [&json!("cut"), &json!("drop_oldest")]);
    let _client = server.resp();
    wait_until(PATIENCE, "a sample", || {
        let overview = data("/admin/api/overview");
        let state = &overview["nodes"][0]["state"];
        let sample = &state["samples"][0];
        state["ready"] == true
            && sample["at"].as_u64().is_some_and(|at| at % 2 == 0)
            && sample["cpu"].is_number()
    });
    let overview = data("/admin/api/overview?after=99999999999");
    assert_eq!(overview["nodes"][0]["state"]["samples"], json!([]));
    assert_eq!(overview["missing"], json!([]));
    for path in ["namespaces", "overview", "log", "tables"] {
        assert!(!data(&format!("/admin/api/{path}")).to_string().contains(secret), "{path}");
    }
}
