//! Tests of `tidings bench`.

use rustix::process::Signal;
use tidings_testkit::{RedisServer, free_port};

use crate::tool::{Tool, command, run, server};

#[test]
fn every_delivery_is_counted_over_every_transport() {
    let server = server(&[]);
    let addr = server.tcp().to_string();
    let http = server.http_url();
    for transport in ["tcp", "resp", "ws", "ws-protobuf", "sse"] {
        let args =
            ["--subscribers", "20", "--messages", "500", "--publishers", "2", "--transport", transport];
        let args = [&args[..], &["--http", &http]].concat();
        let done = run(&[&["bench", "--server", &addr, "--json"], &args[..]].concat(), b"");
        assert_eq!(done.code, Some(0), "{done:?}");
        let result: serde_json::Value = serde_json::from_str(done.text()).expect("JSON");
        assert_eq!(result["transport"], transport);
        for (key, count) in
            [("sent", 500), ("deliveries", 10_000), ("lost", 0), ("duplicated", 0), ("out_of_order", 0)]
        {
            assert_eq!(result[key], count, "{key}: {result}");
        }
        let latency = |key: &str| result["latency_us"][key].as_f64().expect("a number");
        assert!(latency("p50") > 0.0 && latency("p50") <= latency("p99") && latency("p99") <= latency("max"));
        assert_eq!(result["server"]["pids"], serde_json::json!([server.pid()]));
        assert!(result["server"]["memory_bytes"].as_u64().expect("a number") > 100_000);
    }
}

#[test]
fn a_server_with_only_an_http_port_is_measured_over_it() {
    let server = server(&[]);
    let url = format!("ws://{}", server.http());
    for transport in ["ws", "ws-protobuf", "sse"] {
        let args = ["--subscribers", "5", "--messages", "300", "--publishers", "2", "--transport", transport];
        let done = run(&[&["bench", "--server", &url, "--json"], &args[..]].concat(), b"");
        assert_eq!(done.code, Some(0), "{done:?}");
        let result: serde_json::Value = serde_json::from_str(done.text()).expect("JSON");
        assert_eq!((&result["sent"], &result["deliveries"]), (&300.into(), &1500.into()), "{result}");
    }
    run(&["bench", "--server", &url], b"").refused(2, &["--transport tcp needs a line port"]);
    run(&["bench", "--server", "wss://h", "--transport", "ws"], b"").refused(2, &["TLS is not measured"]);
}

#[test]
fn a_rate_is_kept_and_the_table_contains_all_results() {
    let server = server(&[]);
    let addr = server.tcp().to_string();
    let args = [
        "--subscribers",
        "5",
        "--rate",
        "200",
        "--messages",
        "100",
        "--size",
        "1000",
        "--channel",
        "updates",
    ];
    let done = run(&[&["bench", "--server", &addr], &args[..]].concat(), b"");
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    let table = done.text();
    assert!(
        table.starts_with("5 subscribers over tcp, 1 publisher, 1,000 bytes, 200 messages/s, 0."),
        "{table}"
    );
    let names = [
        "sent",
        "deliveries",
        "latency p50",
        "latency p99",
        "latency p99.9",
        "latency max",
        "lost",
        "duplicated",
    ];
    for name in names.iter().chain(&["out of order", "server CPU", "server memory"]) {
        assert!(
            table.lines().any(|line| line.trim_start().starts_with(name)),
            "{name} is missing in\n{table}"
        );
    }
    assert!(!table.contains('\x1b'));
}

#[test]
fn a_redis_can_be_measured_and_other_messages_are_not_counted() {
    let redis = RedisServer::start();
    let addr = redis.addr().to_string();
    let args = ["--transport", "resp", "--subscribers", "3", "--duration", "300ms", "--json"];
    let tool = Tool::start(command(&[&["bench", "--server", &addr], &args[..]].concat()));
    let mut other = redis.client();
    while other.command(&["PUBLISH", "bench", "not of this run"]).int() < 3 {}
    let done = tool.finish();
    assert_eq!(done.code, Some(0), "{done:?}");
    let result: serde_json::Value = serde_json::from_str(done.text()).expect("JSON");
    assert_eq!(result["deliveries"].as_u64().unwrap(), 3 * result["sent"].as_u64().unwrap(), "{result}");
}

#[test]
fn lost_deliveries_are_counted_and_fail_the_run() {
    let redis = RedisServer::start();
    let addr = redis.addr().to_string();
    let args = ["--transport", "resp", "--subscribers", "4", "--rate", "100", "--duration", "1s", "--json"];
    // The run has begun when a message arrives.
    let mut watcher = redis.client();
    watcher.command(&["PSUBSCRIBE", "bench"]);
    let tool = Tool::start(command(&[&["bench", "--server", &addr], &args[..]].concat()));
    assert_eq!(watcher.reply().texts()[0], "pmessage");
    let list = redis.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]).text();
    let subscriber = list.lines().find(|line| line.contains(" sub=1 ")).expect("a subscriber");
    let id = subscriber.split_whitespace().find_map(|field| field.strip_prefix("id=")).expect("its id");
    assert_eq!(redis.cli(&["CLIENT", "KILL", "ID", id]).int(), 1);
    let done = tool.finish();
    assert_eq!(done.code, Some(1));
    let result: serde_json::Value = serde_json::from_str(done.text()).expect("JSON");
    assert_eq!(result["disconnected"], 1);
    let lost = result["lost"].as_u64().expect("a number");
    assert!(lost > 0, "{result}");
    assert_eq!(
        result["deliveries"].as_u64().unwrap() + lost,
        4 * result["sent"].as_u64().unwrap(),
        "{result}"
    );
    assert!(done.stderr.contains("not every message was delivered once and in order: lost "), "{done:?}");
}

#[test]
fn ctrl_c_ends_it_early_with_its_table() {
    let server = server(&[]);
    let addr = server.tcp().to_string();
    let tool = Tool::start(command(&["bench", "--server", &addr, "--subscribers", "2", "--duration", "1h"]));
    tool.wait_for_stderr("delivered");
    tool.signal(Signal::INT);
    let done = tool.finish();
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.text().contains("deliveries"));
}

#[test]
fn an_impossible_measurement_is_one_line() {
    let addr = format!("127.0.0.1:{}", free_port());
    run(&["bench", "--server", &addr], b"").refused(1, &["cannot reach", &addr, "refused"]);
    run(&["bench", "--size", "31"], b"").refused(2, &["--size"]);
    run(&["bench", "--channel", "a b"], b"").refused(2, &["'a b'"]);
    let server = server(&[]);
    let addr = server.tcp().to_string();
    run(&["bench", "--server", &addr, "--server-pid", "999999999"], b"").refused(2, &["999999999"]);
    run(&["bench", "--server", &addr, "--key", "guess"], b"").refused(1, &["ERROR 101 unauthorized"]);
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let ws = ["bench", "--server", &addr, "--transport", "ws", "--http"];
    run(&[&ws[..], &[&nobody]].concat(), b"").refused(1, &["cannot reach", &nobody]);
    run(&[&ws[..], &["https://localhost"]].concat(), b"").refused(2, &["TLS is not measured"]);
}
