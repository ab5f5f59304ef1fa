//! Limits of requests, and invalid requests.

use std::io::Write as _;
use std::net::TcpStream;

use serde_json::json;

use crate::api_server::ApiServer;

fn publish_of(length: usize) -> String {
    let empty = r#"{"channel":"news","data":""}"#.len();
    format!(r#"{{"channel":"news","data":"{}"}}"#, "x".repeat(length - empty))
}

#[test]
fn a_body_is_accepted_up_to_its_limit_and_the_error_beyond_it_names_the_option() {
    let server = ApiServer::with(&["http_api.max_body=100000"]);
    assert_eq!(server.post("/api/publish", &[], &publish_of(100_000)).status, 200);
    let answer = server.post("/api/publish", &[], &publish_of(100_001));
    assert_eq!(answer.status, 413);
    assert_eq!(answer.body, "the body is longer than http_api.max_body (100000 bytes)\n");
    // A chunked body has the same limit.
    let body = publish_of(100_001);
    let (one, other) = body.split_at(50_000);
    let answer = server.send(format!(
        "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
         {:x}\r\n{one}\r\n{:x}\r\n{other}\r\n0\r\n\r\n",
        one.len(),
        other.len()
    ));
    assert_eq!(answer.status, 413);
    // The default limit.
    let server = ApiServer::with(&[]);
    assert_eq!(server.post("/api/publish", &[], &publish_of(4 << 20)).status, 200);
    assert_eq!(server.post("/api/publish", &[], &publish_of((4 << 20) + 1)).status, 413);
}

#[test]
fn memory_of_a_body_that_never_arrives_is_released() {
    // The share of one key.
    let server = ApiServer::with(&["http_api.max_body=67108864"]);
    let mut client = TcpStream::connect(server.http()).expect("a connection");
    client
        .write_all(b"POST /api/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 67000000\r\n\r\n")
        .expect("a head sent");
    drop(client);
    assert_eq!(server.post("/api/publish", &[], &publish_of(60_000_000)).status, 200);
}

#[test]
fn json_of_any_depth_is_accepted() {
    let server = ApiServer::with(&[
        "channel.without_namespace.history_size=1",
        "channel.without_namespace.history_ttl=60s",
    ]);
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    let publish = format!(r#"{{"channel":"news","data":{deep},"unknown":{deep}}}"#);
    assert_eq!(server.post("/api/publish", &[], &publish).status, 200);
    // JSON with more levels than clients can parse is sent as a string.
    let page = server.call("history", &json!({"channel": "news", "limit": 1}));
    assert_eq!(page["publications"][0]["data"], deep);
}

#[test]
fn an_invalid_body_is_rejected_with_the_place_of_the_error() {
    let server = ApiServer::with(&[]);
    for (path, body) in [
        ("/api/publish", ""),
        ("/api/publish", "{"),
        ("/api/publish", "hello"),
        ("/api/publish", "5"),
        ("/api/publish", r#"{"channel":5,"data":1}"#),
        ("/api/publish", r#"{"channel":"a","data":1} x"#),
        ("/api/publish", r#"{"channel":"a","data":}"#),
        ("/api/publish", r#"["a",{"x":1}]"#),
        ("/api/broadcast", r#"[["a"],1]"#),
        ("/api/info", "[]"),
        ("/api/disconnect", r#"{"user":"42","disconnect":[4000,"bye"]}"#),
        ("/api/subscribe", r#"{"user":"42","channel":"a","recover_since":[1,"e"]}"#),
        ("/api/subscribe", r#"{"user":"42","channel":"a","override":[{"value":true}]}"#),
        ("/api/subscribe", r#"{"user":"42","channel":"a","override":{"presence":[true]}}"#),
        ("/api/history", r#"{"channel":"a","since":[0,""]}"#),
        ("/api/history", r#"{"channel":"a","limit":"all"}"#),
        ("/api/history", r#"{"channel":"a","since":{"offset":-1}}"#),
        ("/api/batch", r#"{"commands":{}}"#),
        ("/api/batch", r#"{"commands":[{"publish":{"channel":5}}]}"#),
        ("/api/batch", r#"{"commands":[{"publish":["a",1]}]}"#),
        ("/api/batch", r#"[[{"info":{}}]]"#),
        ("/api", r#"[1,"info",{}]"#),
        ("/api", ""),
        ("/api", "\n"),
        ("/api", r#"{"method":5}"#),
        ("/api", "{\"method\":\"info\"}\n{"),
    ] {
        let answer = server.post(path, &[], body);
        assert_eq!(answer.status, 400, "{path} {body}");
        assert!(answer.body.starts_with("the body is not a valid request: "), "{}", answer.body);
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    }
    let answer = server.post("/api/publish", &[], "{\"channel\":\n 5}");
    assert!(answer.body.contains("line 2 column 2"), "{}", answer.body);
}

#[test]
fn the_number_of_commands_and_channels_in_a_request_is_bounded() {
    let server = ApiServer::with(&[]);
    let commands = |n: usize| json!({"commands": vec![json!({"channels": {}}); n]}).to_string();
    assert_eq!(server.post("/api/batch", &[], &commands(10_000)).status, 200);
    let answer = server.post("/api/batch", &[], &commands(10_001));
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("10000"), "{}", answer.body);
    let lines = "{\"method\":\"channels\"}\n".repeat(10_001);
    let answer = server.post("/api", &[], &lines);
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("10000"), "{}", answer.body);
    let channels = |n: usize| json!({"channels": vec!["a"; n], "data": 1}).to_string();
    assert_eq!(server.post("/api/broadcast", &[], &channels(10_000)).status, 200);
    assert_eq!(server.post("/api/broadcast", &[], &channels(10_001)).status, 400);
}

#[test]
fn a_broadcast_larger_than_the_queue_of_the_broker_reaches_every_channel() {
    let redis = tidings_testkit::RedisServer::start();
    let server = ApiServer::with(&[
        &*format!("broker={}", redis.url()),
        "channel.without_namespace.history_size=1",
        "channel.without_namespace.history_ttl=60s",
    ]);
    // 40 MB in total; the queue of the broker has 16 MiB.
    let channels: Vec<_> = (0..400).map(|n| format!("c{n}")).collect();
    let request = json!({"channels": channels, "data": "x".repeat(100_000)});
    let responses = server.call("broadcast", &request)["responses"].take();
    for (n, response) in responses.as_array().expect("a list").iter().enumerate() {
        assert_eq!(response["result"]["offset"], 1, "{n}: {response}");
    }
}

#[test]
fn the_replies_of_one_request_are_bounded_together() {
    let server = ApiServer::with(&[
        "channel.without_namespace.history_size=1000",
        "channel.without_namespace.history_ttl=60s",
    ]);
    server.call("publish", &json!({"channel": "news", "data": "x".repeat(2_000_000)}));
    let commands = vec![json!({"history": {"channel": "news", "limit": 1}}); 40];
    for parallel in [false, true] {
        let replies = server.batch(&json!({"commands": commands, "parallel": parallel}));
        let whole = replies.iter().filter(|reply| reply.get("history").is_some()).count();
        assert_eq!(whole, 8, "of 2 MB each in 16 MiB");
        let refused = replies.iter().filter(|reply| reply["error"]["code"] == 106).count();
        assert_eq!(refused, 32);
    }
}
