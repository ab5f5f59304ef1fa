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
