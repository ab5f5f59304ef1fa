//! Limits of connections, of users and of commands of backends.

use serde_json::{Value, json};
use tidings_testkit::{LineClient, PATIENCE, RedisServer, wait_until};

use crate::api_server::{ApiServer, USERS, token_with};

fn limited(server: &ApiServer, limit: &str) -> u64 {
    let text = server.get("/metrics").body;
    let sample = format!("tidings_limited_total{{limit=\"{limit}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&sample));
    value.unwrap_or_else(|| panic!("{sample}is not in\n{text}")).parse().expect("a number")
}

#[test]
fn connections_above_the_rate_are_rejected_with_the_name_of_the_limit() {
    let server = ApiServer::with(&["client.connection_rate_limit=3"]);
    let refusal = "ERROR 3013 too many requests: connections begin too fast (client.connection_rate_limit)";
    let mut refused = 0;
    for _ in 0..100 {
        let mut client = LineClient::connect(server.tcp());
        client.send("PING");
        match &*client.line() {
            "PONG" => {}
            line => {
                assert_eq!(line, refusal);
                client.expect_closed();
                refused += 1;
            }
        }
        if refused == 5 {
            break;
        }
    }
    assert_eq!(refused, 5, "a hundred connections in a row are more than three a second");
    let stream = || server.post("/connection/http_stream", &[], "");
    assert_eq!(stream().status, 400, "a rejected request is not a connection");
    let websocket = "GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let answer = (0..100).map(|_| server.send(websocket)).find(|answer| answer.status != 101);
    let answer = answer.expect("a refusal");
    assert_eq!(answer.status, 429);
    assert!(answer.body.contains("client.connection_rate_limit"), "{}", answer.body);
    assert!(limited(&server, "connection_rate") >= 6);
}

#[test]
fn the_connections_of_a_user_are_limited_over_all_shards() {
    let server = ApiServer::with(&[&["client.user_connection_limit=3"], &USERS[..]].concat());
    let mut members: Vec<_> = (0..3).map(|_| server.user("ann")).collect();
    let _other = server.user("bob");
    let token = token_with(&json!({"sub": "ann"}));
    let mut fourth = LineClient::connect(server.tcp());
    fourth.send(&json!({"id": 1, "connect": {"token": token}}).to_string());
    let expected = json!({"push": {"disconnect": {"code": 3504,
        "reason": "connection limit: 3 connections of a user (client.user_connection_limit)"}}});
    assert_eq!(serde_json::from_str::<Value>(&fourth.line()).expect("JSON"), expected);
    fourth.expect_closed();
    let mut line = LineClient::connect(server.tcp());
    line.send(&format!("AUTH {token}"));
    line.expect("ERROR 3504 connection limit: 3 connections of a user (client.user_connection_limit)");
    assert_eq!(limited(&server, "user_connections"), 2);
    // Rejected connections do not count, and a closed one no longer does.
    drop(members.pop());
    wait_until(PATIENCE, "another connection of the user to be accepted", || {
        let mut client = LineClient::connect(server.tcp());
        client.send(&json!({"id": 1, "connect": {"token": token}}).to_string());
        client.line().contains("\"connect\"")
    });
    for member in &mut members {
        member.expect_nothing();
    }
}

#[test]
fn a_line_client_that_authenticates_again_counts_once() {
    let server = ApiServer::with(&[&["client.user_connection_limit=1"], &USERS[..]].concat());
    let token = token_with(&json!({"sub": "ann"}));
    let mut line = LineClient::connect(server.tcp());
    for _ in 0..3 {
        line.send(&format!("AUTH {token}"));
        line.expect("CONFIRMED");
    }
    drop(line);
    wait_until(PATIENCE, "the closed connection not to count", || {
        let mut line = LineClient::connect(server.tcp());
        line.send(&format!("AUTH {token}"));
        line.line() == "CONFIRMED"
    });
}

#[test]
fn with_single_connection_only_the_newest_connection_of_a_user_stays_on_all_nodes() {
    let redis = RedisServer::start();
    let broker = format!("broker={}", redis.url());
    let servers =
        [0, 1].map(|_| ApiServer::with(&[&[&*broker, "client.single_connection=true"], &USERS[..]].concat()));
    let mut other = servers[0].user("bob");
    let mut before = servers[0].user("ann");
    for at in [1, 0, 0, 1] {
        let newer = servers[at].user("ann");
        let push = before.push("disconnect").1;
        assert_eq!(push["code"], 3503, "{push}");
        before.expect_close();
        before = newer;
    }
    before.expect_nothing();
    other.expect_nothing();
}

#[test]
fn commands_of_backends_above_the_rate_are_rejected() {
    let server = ApiServer::with(&["http_api.rate_limit=10"]);
    let publish = || server.post("/api/publish", &[], r#"{"channel":"a","data":1}"#);
    let refused = (0..200).map(|_| publish()).find(|answer| answer.status != 200).expect("a refusal");
    assert_eq!((refused.status, refused.header("retry-after")), (429, "1"));
    assert!(refused.body.contains("http_api.rate_limit"), "{}", refused.body);
    assert!(limited(&server, "api_rate") >= 1);
    wait_until(PATIENCE, "the next second", || publish().status == 200);
    // Each command of a batch counts, and uses up later ones.
    let commands = vec![json!({"publish": {"channel": "a", "data": 1}}); 30];
    let batch = json!({"commands": commands}).to_string();
    wait_until(PATIENCE, "room for a batch", || server.post("/api/batch", &[], &batch).status == 200);
    assert_eq!(publish().status, 429);
}

#[test]
fn the_rate_limit_of_a_key_does_not_affect_other_keys_and_is_named_in_the_error() {
    let server = ApiServer::with(&[
        "http_api.key=operator-s3cret",
        "http_api.keys=shop,billing",
        "http_api.keys.shop.key=shop-s3cret",
        "http_api.keys.shop.scopes=publish",
        "http_api.keys.shop.rate_limit=10",
        "http_api.keys.billing.key=billing-s3cret",
        "http_api.keys.billing.scopes=publish",
        "http_api.rate_limit=1000000",
    ]);
    let publish = |name: &str| {
        let key = format!("X-API-Key: {name}-s3cret");
        server.post("/api/publish", &[&key], r#"{"channel":"a","data":1}"#)
    };
    let refused = (0..200).map(|_| publish("shop")).find(|answer| answer.status != 200).expect("a refusal");
    assert_eq!((refused.status, refused.header("retry-after")), (429, "1"));
    let reason = "more commands per second than rate_limit of the key \"shop\" (http_api.keys)";
    assert!(refused.body.contains(reason), "{}", refused.body);
    assert!((0..30).all(|_| publish("billing").status == 200 && publish("operator").status == 200));
    assert_eq!((limited(&server, "api_key_rate"), limited(&server, "api_rate")), (1, 0));
    wait_until(PATIENCE, "the next second", || publish("shop").status == 200);
    // Each command of a batch counts, and uses up later ones.
    let commands = vec![json!({"publish": {"channel": "a", "data": 1}}); 30];
    let batch = json!({"commands": commands}).to_string();
    let send = || server.post("/api/batch", &["X-API-Key: shop-s3cret"], &batch).status;
    wait_until(PATIENCE, "room for a batch", || send() == 200);
    assert_eq!(publish("shop").status, 429);
}

/// Opens a WebSocket with these headers and connects. Returns the connection, and opcode and payload of the first frame.
fn websocket(server: &ApiServer, headers: &str) -> (std::net::TcpStream, Vec<u8>) {
    use std::io::{Read as _, Write as _};
    let mut peer = std::net::TcpStream::connect(server.http()).expect("a connection");
    peer.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let request = format!(
        "GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    // A masked text message: {"id":1,"connect":{}}
    let mut message = vec![0x81, 0x80 | 21, 0, 0, 0, 0];
    message.extend(br#"{"id":1,"connect":{}}"#);
    peer.write_all(&[request.as_bytes(), &message].concat()).expect("a request sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        peer.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    let mut frame = [0; 2];
    peer.read_exact(&mut frame).expect("a frame");
    let length = match frame[1] {
        126 => {
            let mut length = [0; 2];
            peer.read_exact(&mut length).expect("a length");
            u16::from_be_bytes(length).into()
        }
        length => usize::from(length),
    };
    let mut body = vec![0; length];
    peer.read_exact(&mut body).expect("a frame");
    (peer, [&frame[..1], &body].concat())
}

/// Whether this is a close frame with 3013 and the name of the limit of connections of an address.
fn is_refused(frame: &[u8]) -> bool {
    frame[0] == 0x88
        && frame[1..3] == 3013_u16.to_be_bytes()
        && frame.windows(26).any(|text| text == b"limits.address.connections")
}

#[test]
fn the_connections_of_an_address_are_limited_over_all_ports() {
    let server = ApiServer::with(&["limits.address.connections=3"]);
    let mut lines: Vec<_> = (0..2).map(|_| server.subscriber("news")).collect();
    // The header of a client that is not a trusted proxy is ignored.
    let (_third, frame) = websocket(&server, "X-Forwarded-For: 198.51.100.7\r\n");
    assert_eq!(frame[0], 0x81);
    let (_, frame) = websocket(&server, "X-Forwarded-For: 198.51.100.8\r\n");
    assert!(is_refused(&frame), "{}", String::from_utf8_lossy(&frame));
    let mut fifth = LineClient::connect(server.tcp());
    fifth.expect("ERROR 3013 too many requests: 3 connections of an address (limits.address.connections)");
    fifth.expect_closed();
    assert_eq!(limited(&server, "address_connections"), 2);
    drop(lines.pop());
    wait_until(PATIENCE, "the closed connection not to count", || {
        let mut next = LineClient::connect(server.tcp());
        next.send("PING");
        next.line() == "PONG"
    });
}

#[test]
fn behind_a_trusted_proxy_the_address_of_the_client_counts() {
    let server = ApiServer::with(&["limits.address.connections=1", "trusted_proxies=127.0.0.0/8,10.0.0.0/8"]);
    let _ann = websocket(&server, "X-Forwarded-For: 198.51.100.7\r\n");
    let (_bob, frame) = websocket(&server, "Forwarded: for=\"[2001:db8::1]:4711\", for=10.1.1.1\r\n");
    assert_eq!(frame[0], 0x81);
    // A client may send any header; the address that its proxy appends is the last one.
    for again in [
        "X-Forwarded-For: 203.0.113.5, 198.51.100.7\r\n",
        "X-Forwarded-For: 203.0.113.6\r\nX-Forwarded-For: 198.51.100.7, 10.2.2.2\r\n",
        "Forwarded: for=\"[2001:db8::2]\"\r\nX-Forwarded-For: 203.0.113.7\r\n",
    ] {
        let (_, frame) = websocket(&server, again);
        assert!(is_refused(&frame), "{again}: {}", String::from_utf8_lossy(&frame));
    }
}

#[test]
fn the_connection_rate_of_an_address_is_limited() {
    let server = ApiServer::with(&["limits.address.connection_rate=3"]);
    let refusal =
        "ERROR 3013 too many requests: 3 connections a second of an address (limits.address.connection_rate)";
    let refused = (0..100).any(|_| {
        let mut client = LineClient::connect(server.tcp());
        client.send("PING");
        client.line() == refusal
    });
    assert!(refused && limited(&server, "address_connection_rate") >= 1);
}

#[test]
fn a_node_that_has_just_been_started_has_no_failed_publication() {
    let redis = RedisServer::start();
    let server = ApiServer::with(&[&*format!("broker={}", redis.url())]);
    let text = server.get("/metrics").body;
    let failures = text.lines().find(|line| line.starts_with("tidings_redis_publication_failures_total "));
    assert_eq!(failures, Some("tidings_redis_publication_failures_total 0"));
}

/// Sends `command` until its reply is not `accepted`, at most a hundred times. Returns that reply.
fn until_refused(client: &mut LineClient, command: &str, accepted: &str) -> String {
    for _ in 0..100 {
        client.send(command);
        let line = client.line();
        if line != accepted {
            return line;
        }
    }
    panic!("{command} was never refused");
}

const TOO_MANY_COMMANDS: &str =
    "too many requests: 5 commands a second of an address (limits.address.commands)";

#[test]
fn commands_of_an_address_are_limited_over_all_ports_and_the_error_names_the_limit() {
    let server = ApiServer::with(&["limits.address.commands=5"]);
    let mut line = LineClient::connect(server.tcp());
    assert_eq!(until_refused(&mut line, "PING", "PONG"), format!("ERROR 111 {TOO_MANY_COMMANDS}"));
    // All connections of the address share one bucket.
    let mut resp = server.resp();
    let refused = (0..100).map(|_| resp.command(&["PING"])).find(|reply| reply.text() != "PONG");
    assert_eq!(refused.expect("a refusal").text(), format!("ERR 111 {TOO_MANY_COMMANDS}"));
    let error = json!({"code": 111, "message": TOO_MANY_COMMANDS, "temporary": true});
    let mut jsons = LineClient::connect(server.tcp());
    let reply = (0..100).map(|id| {
        jsons.send(&json!({"id": id + 1, "connect": {}}).to_string());
        serde_json::from_str::<Value>(&jsons.line()).expect("JSON")
    });
    let reply = { reply }.find(|reply| reply.get("error").is_some()).expect("a refusal");
    assert_eq!(reply["error"], error);
    let websocket = (0..100).map(|_| websocket(&server, "").1);
    let frame =
        { websocket }.find(|frame| frame.windows(8).any(|text| text == b"\"error\":")).expect("a refusal");
    assert_eq!(serde_json::from_slice::<Value>(&frame[1..]).expect("JSON")["error"], error);
    // Over HTTP the connect command is rejected.
    let connect = json!({"id": 1, "connect": {}}).to_string();
    let stream = || first_line_of_stream(&server, "/connection/http_stream", &connect);
    let reply = (0..100).map(|_| stream()).find(|reply| reply.get("error").is_some()).expect("a refusal");
    assert_eq!(reply["error"], error);
    assert!(limited(&server, "address_commands") >= 5);
    wait_until(PATIENCE, "the next second", || {
        line.send("PING");
        line.line() == "PONG"
    });
    line.send("EXIT");
    line.expect_closed();
}

/// The first message of a stream that is opened with this body.
fn first_line_of_stream(server: &ApiServer, path: &str, body: &str) -> Value {
    use std::io::{BufRead as _, BufReader, Write as _};
    let mut peer = std::net::TcpStream::connect(server.http()).expect("a connection");
    peer.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    peer.write_all(format!("{head}{body}").as_bytes()).expect("a request sent");
    let line =
        BufReader::new(peer).lines().map(|line| line.expect("a line")).find(|line| line.starts_with('{'));
    serde_json::from_str(&line.expect("a message")).expect("JSON")
}

#[test]
fn a_rejected_publication_is_not_published_and_does_not_count() {
    let server = ApiServer::with(&["limits.address.publications=3"]);
    let mut subscriber = server.subscriber("news");
    let mut publisher = LineClient::connect(server.tcp());
    let mut confirmed = 0;
    let refusal = loop {
        publisher.send(&format!("PUBLISH news {confirmed}"));
        match publisher.line() {
            line if line == "CONFIRMED" => confirmed += 1,
            line => break line,
        }
    };
    let text = "too many requests: 3 publications a second of an address (limits.address.publications)";
    assert_eq!(refusal, format!("ERROR 111 {text}"));
    // Other commands do not count.
    for _ in 0..20 {
        publisher.send("PING");
        publisher.expect("PONG");
    }
    wait_until(PATIENCE, "the next publication to be accepted", || {
        publisher.send("PUBLISH news last");
        publisher.line() == "CONFIRMED"
    });
    for number in 0..confirmed {
        subscriber.expect(&format!("MESSAGE news {number}"));
    }
    subscriber.expect("MESSAGE news last");
    assert!(limited(&server, "address_publications") >= 1);
}

#[test]
fn bytes_of_an_address_are_limited_and_a_large_command_uses_up_later_bytes() {
    let server = ApiServer::with(&["limits.address.bytes=1000"]);
    let mut client = LineClient::connect(server.tcp());
    let line = "x".repeat(3_000);
    client.send(&line);
    client.expect(&line);
    client.send("PING");
    client.expect("ERROR 111 too many requests: 1000 bytes a second of an address (limits.address.bytes)");
    assert_eq!(limited(&server, "address_bytes"), 1);
    wait_until(PATIENCE, "the used bytes to be available again", || {
        client.send("PING");
        client.line() == "PONG"
    });
}

#[test]
fn a_user_is_limited_over_all_of_its_connections_and_other_users_are_not() {
    let options = ["limits.user.commands=20", "limits.user.publications=3"];
    let server = ApiServer::with(
        &[&options[..], &USERS[..], &["channel.without_namespace.allow_publish_for_client=true"]].concat(),
    );
    let (mut first, mut second, mut other) = (server.user("ann"), server.user("ann"), server.user("bob"));
    let publish = json!({"channel": "news", "data": 1});
    let publications = json!({"code": 111, "temporary": true,
        "message": "too many requests: 3 publications a second of a user (limits.user.publications)"});
    let commands = json!({"code": 111, "temporary": true,
        "message": "too many requests: 20 commands a second of a user (limits.user.commands)"});
    let mut refusals = Vec::new();
    for _ in 0..50 {
        refusals.extend(first.try_call("publish", &publish).err());
        refusals.extend(second.try_call("presence_stats", &json!({"channel": "news"})).err());
    }
    assert!(refusals.contains(&publications) && refusals.contains(&commands), "{refusals:?}");
    other.call("publish", &publish);
    assert!(limited(&server, "user_publications") >= 1 && limited(&server, "user_commands") >= 1);
    // A new connection of the user shares the used-up limit.
    drop((first, second));
    let token = token_with(&json!({"sub": "ann"}));
    let mut line = LineClient::connect(server.tcp());
    line.send(&format!("AUTH {token}"));
    line.expect("CONFIRMED");
    assert_eq!(
        until_refused(&mut line, "PING", "PONG"),
        "ERROR 111 too many requests: 20 commands a second of a user (limits.user.commands)"
    );
}

#[test]
fn the_number_and_rate_of_connections_of_a_user_are_limited() {
    let server = ApiServer::with(&[&["limits.user.connections=2"], &USERS[..]].concat());
    let token = token_with(&json!({"sub": "ann"}));
    let auth = |server: &ApiServer| {
        let mut line = LineClient::connect(server.tcp());
        line.send(&format!("AUTH {token}"));
        let reply = line.line();
        (line, reply)
    };
    let open = [auth(&server), auth(&server)];
    assert!(open.iter().all(|(_, reply)| reply == "CONFIRMED"));
    let (mut third, reply) = auth(&server);
    assert_eq!(reply, "ERROR 3504 connection limit: 2 connections of a user (limits.user.connections)");
    third.expect_closed();
    assert_eq!(limited(&server, "user_connections"), 1);

    let server = ApiServer::with(&[&["limits.user.connection_rate=2"], &USERS[..]].concat());
    let reply = (0..100).map(|_| auth(&server).1).find(|reply| reply != "CONFIRMED").expect("a refusal");
    let text = "too many requests: 2 connections a second of a user (limits.user.connection_rate)";
    assert_eq!(reply, format!("ERROR 3013 {text}"));
    assert_eq!(limited(&server, "user_connection_rate"), 1);
    wait_until(PATIENCE, "the next second", || auth(&server).1 == "CONFIRMED");
}

#[test]
fn a_backend_with_the_key_is_not_limited_as_a_client() {
    let server = ApiServer::with(&["limits.address.commands=3", "http_api.key=a-key-of-some-length"]);
    let mut line = LineClient::connect(server.tcp());
    line.send("AUTH a-key-of-some-length");
    line.expect("CONFIRMED");
    for _ in 0..50 {
        line.send("PUBLISH news 1");
        line.expect("CONFIRMED");
    }
    assert_eq!(limited(&server, "address_commands"), 0);
}

#[test]
fn behind_a_trusted_proxy_commands_count_for_the_address_of_the_client() {
    let server = ApiServer::with(&["limits.address.commands=1", "trusted_proxies=127.0.0.0/8"]);
    let is_connected = |address: &str| {
        let (_, frame) = websocket(&server, &format!("X-Forwarded-For: {address}\r\n"));
        frame.windows(9).any(|text| text == b"\"connect\"")
    };
    assert!(is_connected("198.51.100.7"));
    assert!((0..100).any(|_| !is_connected("198.51.100.7")));
    assert!(is_connected("198.51.100.8"));
}
