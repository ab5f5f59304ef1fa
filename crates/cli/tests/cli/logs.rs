//! The log of a server as an operator reads it: the start, the ends of connections, and the audit log.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;

use rustix::process::Signal;
use serde_json::Value;
use tidings_testkit::{HttpResponse, LineClient, PATIENCE, RedisServer, Tidings, get_http, wait_until};

use crate::tool::{TIDINGS, server};

/// The lines of a JSON log with this message.
fn json_lines(log: &str, message: &str) -> Vec<Value> {
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
    lines.filter(|line| line["fields"]["message"] == message).collect()
}

#[test]
fn the_start_says_what_runs_with_which_configuration_in_text_and_json_alike() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidings.toml");
    let redis = RedisServer::start();
    let broker = redis.url().replace("redis://", "redis://default:hunter2@");
    fs::write(&file, format!("broker = \"{broker}\"\n[tcp]\nlisten = [\"127.0.0.1:0\"]\n")).unwrap();
    let data = folder.path().join("data");
    let start = |format: &str| {
        let mut server = Tidings::builder(TIDINGS)
            .args(["--config", file.to_str().unwrap(), "--http", "127.0.0.1:0", "--log-format", format])
            .args(["--data-dir", data.to_str().unwrap()])
            .start();
        let (tcp, page) = (server.tcp().to_string(), server.http_url());
        assert_eq!(server.terminate(), 0);
        (server.stderr(), tcp, page)
    };
    let (text, tcp, page) = start("text");
    let line = text.lines().find(|line| line.contains(" started ")).unwrap_or_else(|| panic!("{text}"));
    let broker = redis.url().replace("redis://", "redis://***@");
    for part in [
        format!("version=\"{}\"", env!("CARGO_PKG_VERSION")),
        format!("config=\"{}\"", file.display()),
        format!("data_dir=\"{}\"", data.display()),
        format!("broker=\"{broker}\""),
        format!("tcp=\"{tcp}\""),
        format!("http=\"{page}\""),
        format!("page=\"{page}\""),
        "audit=\"off\"".to_owned(),
    ] {
        assert!(line.contains(&part), "{part} in {line}");
    }
    let (json, tcp, page) = start("json");
    let started = json_lines(&json, "started");
    let [started] = &started[..] else { panic!("{json}") };
    let fields = &started["fields"];
    assert_eq!(fields["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(fields["config"], file.display().to_string());
    assert_eq!(fields["data_dir"], data.display().to_string());
    assert_eq!((&fields["broker"], &fields["tcp"]), (&broker.into(), &tcp.into()));
    assert_eq!((&fields["http"], &fields["page"]), (&page.clone().into(), &page.into()));
    assert!(!text.contains("hunter2") && !json.contains("hunter2"));
}

#[test]
fn each_connection_has_one_line_at_its_end_with_its_client_bytes_and_reason() {
    let mut server = server(&[
        "--log-level",
        "debug",
        "--log-format",
        "json",
        "--set",
        "client.insecure=true",
        "--set",
        "shards=1",
    ]);
    let ended = |server: &Tidings| json_lines(&server.stderr(), "a connection has ended");
    // Lines, ended by the client.
    let mut line = LineClient::connect(server.tcp());
    line.send("SUBSCRIBE news");
    line.expect("CONFIRMED");
    line.send("PUBLISH news text");
    for _ in 0..2 {
        line.line();
    }
    drop(line);
    wait_until(PATIENCE, "the line of the first connection", || ended(&server).len() == 1);
    // JSON lines, ended by the server.
    let mut json = LineClient::connect(server.tcp());
    json.send("{\"no\":\"command\"}");
    json.expect_closed();
    drop(json);
    wait_until(PATIENCE, "the line of the second connection", || ended(&server).len() == 2);
    // An event stream.
    let mut events = TcpStream::connect(server.http()).unwrap();
    write!(events, "GET /events?channel=news HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    wait_until(PATIENCE, "the stream", || {
        get_http(server.http(), "/metrics").body.contains("tidings_connections{transport=\"http\"} 1")
    });
    drop(events);
    wait_until(PATIENCE, "the line of the third connection", || ended(&server).len() == 3);
    // A viewer of a table.
    let mut viewer = TcpStream::connect(server.http()).unwrap();
    write!(
        viewer,
        "GET /tables/ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .unwrap();
    assert_eq!(HttpResponse::read_head(&mut viewer).status, 101);
    drop(viewer);
    wait_until(PATIENCE, "the line of the viewer", || ended(&server).len() == 4);
    let all = ended(&server);
    let fields: Vec<_> = all.iter().map(|line| &line["fields"]).collect();
    for line in &fields {
        assert_eq!(line["address"], "127.0.0.1", "{line}");
        assert!(line["seconds"].as_f64().is_some_and(|seconds| (0.0..60.0).contains(&seconds)), "{line}");
    }
    let (first, second, third, viewer) = (fields[0], fields[1], fields[2], fields[3]);
    assert_eq!((&first["transport"], &first["dialect"]), (&"tcp".into(), &"plain".into()));
    assert_eq!(first["received"], "SUBSCRIBE news\r\nPUBLISH news text\r\n".len());
    assert_eq!(first["sent"], "CONFIRMED\r\nMESSAGE news text\r\nCONFIRMED\r\n".len());
    assert_eq!((first.get("code"), &first["reason"]), (None, &"closed by the client".into()));
    assert_eq!(first["client"].as_str().map(str::len), Some(36), "{first}");
    assert_eq!(second["code"], 3501, "{second}");
    assert!(second["reason"].as_str().is_some_and(|reason| reason.contains("bad request")), "{second}");
    assert_eq!((&third["transport"], &third["dialect"]), (&"http".into(), &"events".into()), "{third}");
    assert_eq!(viewer["dialect"], "tables", "{viewer}");
    assert_eq!(server.terminate(), 0);
}

#[test]
fn no_connection_has_a_line_at_its_end_above_debug() {
    let mut server = server(&[]);
    let mut line = LineClient::connect(server.tcp());
    line.send("PING");
    line.expect("PONG");
    assert_eq!(server.terminate(), 0);
    assert!(!server.stderr().contains("a connection has ended"), "{}", server.stderr());
}

#[test]
fn a_rotated_audit_log_is_continued_in_a_new_file_after_sighup() {
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
    let key = "5f1c0a9be27d4836a1c4";
    let mut server =
        server(&["--set", &format!("log.audit={}", path.display()), "--set", &format!("http_api.key={key}")]);
    let order = |user: &str| {
        let header = format!("X-API-Key: {key}");
        let body = format!("{{\"user\":\"{user}\"}}");
        let answer = tidings_testkit::post_http(server.http(), "/api/disconnect", &[&header], body);
        assert_eq!(answer.status, 200);
    };
    let contains = |path: &std::path::Path, user: &str| {
        fs::read_to_string(path).is_ok_and(|text| text.contains(&format!("\"user\":\"{user}\"")))
    };
    order("ann");
    wait_until(PATIENCE, "the first order", || contains(&path, "ann"));
    fs::rename(&path, &old).unwrap();
    server.signal(Signal::HUP);
    wait_until(PATIENCE, "a new file", || path.exists());
    order("bob");
    wait_until(PATIENCE, "the second order", || contains(&path, "bob"));
    assert!(!contains(&old, "bob") && !contains(&path, "ann"));
    assert_eq!(server.terminate(), 0);
}

#[test]
fn the_audit_log_can_go_into_the_log_with_its_own_target() {
    let options = ["log.audit=log", "http_api.key=5f1c0a9be27d4836a1c4"];
    let mut server = server(&options.map(|option| ["--set", option]).concat());
    tidings_testkit::post_http(server.http(), "/api/info", &["X-API-Key: guess"], "{}");
    server.wait_for_log("audit: authentication_failed credential=\"api_key\" address=\"127.0.0.1\" result=\"failed\" reason=\"wrong\"");
    assert_eq!(server.terminate(), 0);
}
