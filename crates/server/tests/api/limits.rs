//! Limits on how often and how much: connections, users, commands of backends.

use serde_json::json;
use tidings_testkit::{LineClient, PATIENCE, RedisServer, wait_until};

use crate::world::{USERS, World, claimed};

fn limited(world: &World, limit: &str) -> u64 {
    let text = world.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").body;
    let sample = format!("tidings_limited_total{{limit=\"{limit}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&sample));
    value.unwrap_or_else(|| panic!("{sample}is not in\n{text}")).parse().expect("a number")
}

#[test]
fn connections_that_begin_too_fast_are_refused_with_the_limit_s_name() {
    let world = World::with(&["client.connection_rate_limit=3"]);
    let refusal = "ERROR 3013 too many requests: connections begin too fast (client.connection_rate_limit)";
    let mut refused = 0;
    for _ in 0..100 {
        let mut client = LineClient::connect(world.tcp());
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
    let stream = || world.post("/connection/http_stream", &[], "");
    assert_eq!(stream().status, 400, "what is no connection does not count");
    let websocket = "GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let answer = (0..100).map(|_| world.send(websocket)).find(|answer| answer.status != 101);
    let answer = answer.expect("a refusal");
    assert_eq!(answer.status, 429);
    assert!(answer.body.contains("client.connection_rate_limit"), "{}", answer.body);
    assert!(limited(&world, "connection_rate") >= 6);
}

#[test]
fn a_user_has_as_many_connections_as_the_limit_on_all_threads_together() {
    let world = World::with(&[&["client.user_connection_limit=3"], &USERS[..]].concat());
    let mut members: Vec<_> = (0..3).map(|_| world.user("ann")).collect();
    let _other = world.user("bob");
    let token = claimed(&json!({"sub": "ann"}));
    let mut fourth = LineClient::connect(world.tcp());
    fourth.send(&json!({"id": 1, "connect": {"token": token}}).to_string());
    let told = json!({"push": {"disconnect": {"code": 3504,
        "reason": "connection limit: 3 connections of a user (client.user_connection_limit)"}}});
    assert_eq!(serde_json::from_str::<serde_json::Value>(&fourth.line()).expect("JSON"), told);
    fourth.expect_closed();
    let mut line = LineClient::connect(world.tcp());
    line.send(&format!("AUTH {token}"));
    line.expect("ERROR 3504 connection limit: 3 connections of a user (client.user_connection_limit)");
    assert_eq!(limited(&world, "user_connections"), 2);
    // Those that are refused take no place, and one that goes gives its place back.
    drop(members.pop());
    wait_until(PATIENCE, "a place for the user", || {
        let mut client = LineClient::connect(world.tcp());
        client.send(&json!({"id": 1, "connect": {"token": token}}).to_string());
        client.line().contains("\"connect\"")
    });
    for member in &mut members {
        member.expect_nothing();
    }
}

#[test]
fn a_line_client_that_says_again_who_it_is_needs_no_second_place() {
    let world = World::with(&[&["client.user_connection_limit=1"], &USERS[..]].concat());
    let token = claimed(&json!({"sub": "ann"}));
    let mut line = LineClient::connect(world.tcp());
    for _ in 0..3 {
        line.send(&format!("AUTH {token}"));
        line.expect("CONFIRMED");
    }
    drop(line);
    wait_until(PATIENCE, "the place to be free", || {
        let mut line = LineClient::connect(world.tcp());
        line.send(&format!("AUTH {token}"));
        line.line() == "CONFIRMED"
    });
}

#[test]
fn with_single_connection_the_newest_of_a_user_stays_whatever_the_node() {
    let redis = RedisServer::start();
    let broker = format!("broker={}", redis.url());
    let worlds =
        [0, 1].map(|_| World::with(&[&[&*broker, "client.single_connection=true"], &USERS[..]].concat()));
    let mut other = worlds[0].user("bob");
    let mut before = worlds[0].user("ann");
    for at in [1, 0, 0, 1] {
        let newer = worlds[at].user("ann");
        let told = before.push("disconnect").1;
        assert_eq!(told["code"], 3503, "{told}");
        before.expect_close();
        before = newer;
    }
    before.expect_nothing();
    other.expect_nothing();
}

#[test]
fn backends_are_held_to_their_rate() {
    let world = World::with(&["http_api.rate_limit=10"]);
    let publish = || world.post("/api/publish", &[], r#"{"channel":"a","data":1}"#);
    let refused = (0..200).map(|_| publish()).find(|answer| answer.status != 200).expect("a refusal");
    assert_eq!((refused.status, refused.header("retry-after")), (429, "1"));
    assert!(refused.body.contains("http_api.rate_limit"), "{}", refused.body);
    assert!(limited(&world, "api_rate") >= 1);
    wait_until(PATIENCE, "the next second", || publish().status == 200);
    // A batch is as many commands as it has, and they are missing afterwards.
    let commands = vec![json!({"publish": {"channel": "a", "data": 1}}); 30];
    let batch = json!({"commands": commands}).to_string();
    wait_until(PATIENCE, "room for a batch", || world.post("/api/batch", &[], &batch).status == 200);
    assert_eq!(publish().status, 429);
}

/// Opens a WebSocket with these headers; gives the connection and what came behind the 101.
fn websocket(world: &World, headers: &str) -> (std::net::TcpStream, Vec<u8>) {
    use std::io::{Read as _, Write as _};
    let mut peer = std::net::TcpStream::connect(world.http()).expect("a connection");
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

/// A Close frame with 3013 that names the limit of connections of an address.
fn is_refused(frame: &[u8]) -> bool {
    frame[0] == 0x88
        && frame[1..3] == 3013_u16.to_be_bytes()
        && frame.windows(26).any(|text| text == b"limits.address.connections")
}

#[test]
fn an_address_has_as_many_connections_as_the_limit_on_all_ports_together() {
    let world = World::with(&["limits.address.connections=3"]);
    let mut lines: Vec<_> = (0..2).map(|_| world.subscriber("news")).collect();
    // What nobody has made a proxy of is not believed.
    let (_third, frame) = websocket(&world, "X-Forwarded-For: 198.51.100.7\r\n");
    assert_eq!(frame[0], 0x81);
    let (_, frame) = websocket(&world, "X-Forwarded-For: 198.51.100.8\r\n");
    assert!(is_refused(&frame), "{}", String::from_utf8_lossy(&frame));
    let mut fifth = LineClient::connect(world.tcp());
    fifth.expect("ERROR 3013 too many requests: 3 connections of an address (limits.address.connections)");
    fifth.expect_closed();
    assert_eq!(limited(&world, "address_connections"), 2);
    drop(lines.pop());
    wait_until(PATIENCE, "the place of one that is gone", || {
        let mut next = LineClient::connect(world.tcp());
        next.send("PING");
        next.line() == "PONG"
    });
}

#[test]
fn behind_a_trusted_proxy_the_client_s_own_address_counts() {
    let world = World::with(&["limits.address.connections=1", "trusted_proxies=127.0.0.0/8,10.0.0.0/8"]);
    let _ann = websocket(&world, "X-Forwarded-For: 198.51.100.7\r\n");
    let (_bob, frame) = websocket(&world, "Forwarded: for=\"[2001:db8::1]:4711\", for=10.1.1.1\r\n");
    assert_eq!(frame[0], 0x81);
    // A client may write into the header what it likes: its proxy's word comes last.
    for again in [
        "X-Forwarded-For: 203.0.113.5, 198.51.100.7\r\n",
        "X-Forwarded-For: 203.0.113.6\r\nX-Forwarded-For: 198.51.100.7, 10.2.2.2\r\n",
        "Forwarded: for=\"[2001:db8::2]\"\r\nX-Forwarded-For: 203.0.113.7\r\n",
    ] {
        let (_, frame) = websocket(&world, again);
        assert!(is_refused(&frame), "{again}: {}", String::from_utf8_lossy(&frame));
    }
}

#[test]
fn an_address_begins_as_many_connections_a_second_as_its_rate_allows() {
    let world = World::with(&["limits.address.connection_rate=3"]);
    let refusal =
        "ERROR 3013 too many requests: 3 connections a second of an address (limits.address.connection_rate)";
    let refused = (0..100).any(|_| {
        let mut client = LineClient::connect(world.tcp());
        client.send("PING");
        client.line() == refusal
    });
    assert!(refused && limited(&world, "address_connection_rate") >= 1);
}
