//! Tests of `tidings publish`.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::thread;

use tidings_testkit::{LineClient, Proxy, RedisServer, RespClient, free_port};

use crate::tool::{Tool, command, run, server};

#[test]
fn ten_thousand_lines_of_stdin_arrive_once_and_in_order() {
    let server = server(&[]);
    let addr = server.tcp().to_string();
    let mut subscriber = RespClient::connect(server.tcp());
    subscriber.command(&["SUBSCRIBE", "numbers"]);
    let input: String = (0..10_000).map(|n| format!("{n}\n")).collect();
    let done = run(&["publish", "numbers", "-", "--server", &addr], input.as_bytes());
    assert_eq!((done.code, done.text(), done.stderr.as_str()), (Some(0), "", ""));
    for n in 0..10_000 {
        assert_eq!(subscriber.reply().texts(), ["message", "numbers", &n.to_string()]);
    }
}

#[test]
fn each_argument_is_a_message_and_its_bytes_are_kept() {
    let server = server(&[]);
    let addr = server.tcp().to_string();
    let mut subscriber = LineClient::connect(server.tcp());
    subscriber.send("SUBSCRIBE news");
    subscriber.expect("CONFIRMED");
    let mut publish = command(&["publish", "--server", &addr, "news", "one message", "two\nlines", ""]);
    publish.arg(OsStr::from_bytes(b"\xff\xfe"));
    assert_eq!(Tool::start(publish).finish().code, Some(0));
    subscriber.expect("MESSAGE news one message");
    subscriber.expect("MESSAGE news two\\nlines");
    subscriber.expect("MESSAGE news ");
    let bytes = subscriber.line_bytes_within(tidings_testkit::PATIENCE);
    assert_eq!(bytes.as_deref(), Some(&b"MESSAGE news \xff\xfe"[..]));
}

#[test]
fn a_line_of_stdin_is_published_before_the_next_one_is_written() {
    let server = server(&[]);
    let mut subscriber = LineClient::connect(server.tcp());
    subscriber.send("PING");
    subscriber.expect("PONG");
    let mut tool = Tool::start(command(&["publish", "updates", "-", "--server", &server.tcp().to_string()]));
    let stdin = tool.stdin.as_mut().expect("a piped stdin");
    for line in ["first", "second"] {
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
        subscriber.expect(line);
    }
    stdin.write_all(b"without an end").unwrap();
    drop(tool.stdin.take());
    assert_eq!(tool.finish().code, Some(0));
    subscriber.expect("without an end");
}

#[test]
fn a_rejected_message_is_reported_and_the_others_are_published() {
    // A Redis user that may publish to only one channel.
    let redis = RedisServer::start();
    redis.cli(&["ACL", "SETUSER", "default", "resetchannels", "&open"]);
    let addr = redis.addr().to_string();
    let done = run(&["publish", "closed", "a", "b", "--server", &addr], b"");
    assert_eq!(done.code, Some(1));
    let told: Vec<&str> = done.stderr.lines().collect();
    assert!(told[0].starts_with("tidings: message 1: NOPERM"), "{told:?}");
    assert!(told[1].starts_with("tidings: message 2: NOPERM"), "{told:?}");
    assert_eq!(told[2..], ["tidings: 2 of 2 messages were not published"]);
    assert_eq!(run(&["publish", "open", "a", "--server", &addr], b"").code, Some(0));
}

#[test]
fn a_line_that_is_too_long_fails_alone_and_is_reported_with_its_number() {
    let server = server(&["--set", "http_api.max_body=64KiB", "--set", "client.insecure=true"]);
    let redis = RedisServer::start();
    redis.cli(&["CONFIG", "SET", "proto-max-bulk-len", "1mb"]);
    let http = server.http();
    let tcp = server.tcp().to_string();
    let mut subscriber = RespClient::connect(server.tcp());
    subscriber.command(&["SUBSCRIBE", "c"]);
    let mut of_redis = redis.client();
    of_redis.command(&["SUBSCRIBE", "c"]);
    let input = |length: usize| format!("a\n{}\nb\n{}\nc", "x".repeat(length), "y".repeat(2_000));
    for (url, length) in [
        (tcp, 70_000),
        (format!("ws://{http}"), 70_000),
        (format!("http://{http}"), 70_000),
        (redis.addr().to_string(), 2 << 20),
    ] {
        let subscriber = if length == 70_000 { &mut subscriber } else { &mut of_redis };
        let done = run(&["publish", "c", "-", "--server", &url], input(length).as_bytes());
        assert_eq!(done.code, Some(1), "{url}: {done:?}");
        let told: Vec<&str> = done.stderr.lines().collect();
        assert!(told.len() == 2 && told[0].starts_with("tidings: message 2: "), "{url}: {told:?}");
        assert!(told[0].contains(&format!("(the message has {length} bytes)")), "{url}: {told:?}");
        assert_eq!(told[1], "tidings: 1 of 5 messages was not published", "{url}");
        for body in ["a", "b", &"y".repeat(2_000), "c"] {
            assert_eq!(subscriber.reply().texts(), ["message", "c", body], "{url}");
        }
    }
}

#[test]
fn a_server_that_starts_in_time_receives_the_message() {
    let mut redis = RedisServer::absent();
    let addr = redis.addr().to_string();
    let tool = Tool::start(command(&["publish", "news", "hi", "--server", &addr, "--retry", "20s"]));
    tool.wait_for_stderr("Connection refused; trying for 20s");
    redis.restart();
    assert_eq!(tool.finish().code, Some(0));
}

#[test]
fn a_server_that_never_starts_is_a_failure() {
    let addr = format!("127.0.0.1:{}", free_port());
    run(&["publish", "news", "hi", "--server", &addr, "--retry", "0"], b"").refused(1, &[&addr, "refused"]);
    let patient = run(&["publish", "news", "hi", "--server", &addr, "--retry", "300ms"], b"");
    assert_eq!((patient.code, patient.stderr.lines().count()), (Some(1), 2), "{patient:?}");
}

#[test]
fn an_uncertain_message_is_never_sent_again() {
    // Greets, accepts one publication, and closes without a response; a second connection would be detected.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let rude = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = Vec::new();
        let mut greeted = false;
        let mut buf = [0; 1024];
        while !String::from_utf8_lossy(&heard).contains("hi") {
            let n = stream.read(&mut buf).unwrap();
            heard.extend_from_slice(&buf[..n]);
            if !std::mem::replace(&mut greeted, true) {
                stream.write_all(b"%0\r\n").unwrap();
            }
        }
        drop(stream);
        listener.set_nonblocking(true).unwrap();
        listener
    });
    let done = run(&["publish", "news", "hi", "--server", &addr], b"");
    done.refused(
        1,
        &["connection lost", "0 confirmed, 1 from message 1 on may or may not have been published"],
    );
    let listener = rude.join().unwrap();
    assert!(listener.accept().is_err(), "it connected again");
}

#[test]
fn a_lost_idle_connection_is_reestablished() {
    let mut redis = RedisServer::start();
    let addr = redis.addr().to_string();
    let mut tool = Tool::start(command(&["publish", "news", "-", "--server", &addr]));
    redis.kill();
    tool.wait_for_stderr("trying for 10s");
    redis.restart();
    let mut subscriber = redis.client();
    subscriber.command(&["SUBSCRIBE", "news"]);
    let stdin = tool.stdin.as_mut().expect("a piped stdin");
    stdin.write_all(b"still here\n").unwrap();
    drop(tool.stdin.take());
    assert_eq!(tool.finish().code, Some(0));
    assert_eq!(subscriber.reply().texts(), ["message", "news", "still here"]);
}

#[test]
fn bodies_are_exact_over_websocket_and_the_api() {
    let server = server(&[]);
    let http = server.http();
    let mut subscriber = RespClient::connect(server.tcp());
    subscriber.command(&["SUBSCRIBE", "raw"]);
    for url in [format!("ws://{http}"), format!("http://{http}")] {
        let mut publish =
            command(&["publish", "--server", &url, "raw", "text", "\"quoted\"", "", "two\nlines"]);
        publish.arg(OsStr::from_bytes(b"\xff\xfe"));
        let done = Tool::start(publish).finish();
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{url}");
        for body in ["text", "\"quoted\"", "", "two\nlines"] {
            assert_eq!(subscriber.reply().texts(), ["message", "raw", body], "{url}");
        }
        subscriber.reply();
    }
}

#[test]
fn ten_thousand_lines_arrive_once_and_in_order_over_websocket_and_the_api_despite_cuts() {
    let server = server(&[]);
    let proxy = Proxy::to(server.http());
    let mut subscriber = RespClient::connect(server.tcp());
    subscriber.command(&["SUBSCRIBE", "numbers"]);
    let input: String = (0..10_000).map(|n| format!("{n}\n")).collect();
    let ws = format!("ws://{}", server.http());
    let done = run(&["publish", "numbers", "-", "--server", &ws], input.as_bytes());
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""));
    for n in 0..10_000 {
        assert_eq!(subscriber.reply().texts(), ["message", "numbers", &n.to_string()]);
    }
    // Over the API, uncertain messages are sent again and published once.
    let http = format!("http://{}", proxy.addr());
    let mut tool = Tool::start(command(&["publish", "numbers", "-", "--server", &http]));
    let mut stdin = tool.stdin.take().expect("a piped stdin");
    let writer = thread::spawn(move || stdin.write_all(input.as_bytes()));
    for n in 0..10_000 {
        assert_eq!(subscriber.reply().texts(), ["message", "numbers", &n.to_string()]);
        if n % 1_000 == 999 {
            proxy.cut();
        }
    }
    writer.join().unwrap().unwrap();
    assert_eq!(tool.finish().code, Some(0));
}

#[test]
fn the_api_key_and_the_client_token_are_checked() {
    let server = server(&[
        "--set",
        "http_api.key=secret",
        "--set",
        "client.token.hmac_secret_key=key",
        "--set",
        "channel.without_namespace.allow_publish_for_client=true",
    ]);
    let (http, ws) = (format!("http://{}", server.http()), format!("ws://{}", server.http()));
    run(&["publish", "news", "hi", "--server", &http], b"").refused(1, &["the API needs its key (--key)"]);
    let wrong = run(&["publish", "news", "hi", "--server", &http, "--key", "guess"], b"");
    wrong.refused(1, &["is it the right key?"]);
    let right = run(&["publish", "news", "hi", "--server", &http, "--key", "secret"], b"");
    assert_eq!((right.code, right.stderr.as_str()), (Some(0), ""));
    run(&["publish", "news", "hi", "--server", &ws], b"").refused(1, &["refused the connection", "--token"]);
    let made = run(&["token", "connection", "--user", "42", "--secret", "key"], b"");
    let token = made.text().trim();
    let right = run(&["publish", "news", "hi", "--server", &ws, "--token", token], b"");
    assert_eq!((right.code, right.stderr.as_str()), (Some(0), ""));
    let tcp = server.tcp().to_string();
    let right = run(&["publish", "news", "hi", "--server", &tcp, "--token", token], b"");
    assert_eq!((right.code, right.stderr.as_str()), (Some(0), ""));
}

#[test]
fn wrong_usage_is_one_line() {
    run(&["publish", "news"], b"").refused(2, &["MESSAGE"]);
    run(&["publish", "two\twords", "hi"], b"").refused(2, &["without control characters"]);
    run(&["publish", "news", "hi", "--retry", "soon"], b"").refused(2, &["--retry", "10s"]);
    run(&["publish", "news", "hi", "--server", "gopher://localhost:1"], b"").refused(2, &["use tcp://"]);
    let http = ["publish", "news", "hi", "--server", "http://localhost:1", "--token", "t"];
    run(&http, b"").refused(2, &["takes the API key (--key)"]);
}
