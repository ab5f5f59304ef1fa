//! Blocked users and revoked tokens, on all nodes.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tidings_testkit::{LineClient, PATIENCE, RedisServer, wait_until};

use crate::api_server::{ApiServer, JsonClient, USERS, token_with};

fn node(redis: &RedisServer) -> ApiServer {
    ApiServer::with(&[&[&*format!("broker={}", redis.url())], &USERS[..]].concat())
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs()
}

/// The error of `connect` with a token; null if it succeeds.
fn connect_error(server: &ApiServer, token: &str) -> Value {
    let mut client = LineClient::connect(server.tcp());
    client.send(&json!({"id": 1, "connect": {"token": token}}).to_string());
    let mut reply: Value = serde_json::from_str(&client.line()).expect("JSON");
    reply["error"].take()
}

fn expect_end(member: &mut JsonClient, reason: &str) {
    assert_eq!(member.push("disconnect").1, json!({"code": 3503, "reason": reason}));
    member.expect_close();
}

#[test]
fn a_blocked_user_is_disconnected_and_rejected_on_every_node_until_it_is_unblocked() {
    let redis = RedisServer::start();
    let mut servers = vec![node(&redis), node(&redis)];
    let mut members = servers.iter().map(|server| server.user("eve")).collect::<Vec<_>>();
    let mut other = servers[1].user("ann");
    servers[0].call("block_user", &json!({"user": "eve", "expire_at": now() + 3_600}));
    for member in &mut members {
        expect_end(member, "user blocked");
    }
    let token = token_with(&json!({"sub": "eve"}));
    let blocked = json!({"code": 103, "message": "permission denied: user blocked"});
    for server in &servers {
        assert_eq!(connect_error(server, &token), blocked);
        let mut line = LineClient::connect(server.tcp());
        line.send(&format!("AUTH {token}"));
        line.expect("ERROR 103 permission denied: user blocked");
        let reply = server.resp().command(&["AUTH", &*token]).text();
        assert!(reply.contains("user blocked"), "{reply}");
    }
    // A node that is started later reads the list.
    servers.remove(1).stop();
    other.push("disconnect");
    servers.push(node(&redis));
    assert_eq!(connect_error(&servers[1], &token), blocked);
    servers[1].call("unblock_user", &json!({"user": "eve"}));
    for server in &servers {
        wait_until(PATIENCE, "the user to be accepted again", || connect_error(server, &token).is_null());
    }
    servers.remove(1).stop();
    servers.push(node(&redis));
    assert!(
        connect_error(&servers[1], &token).is_null(),
        "also on a node that was started after the user was unblocked"
    );
}

#[test]
fn a_block_ends_at_its_expiry_time() {
    for server in [ApiServer::with(&USERS), node(&RedisServer::start())] {
        server.call("block_user", &json!({"user": "eve", "expire_at": now() + 2}));
        let token = token_with(&json!({"sub": "eve"}));
        wait_until(PATIENCE, "the block to take effect", || !connect_error(&server, &token).is_null());
        wait_until(PATIENCE, "the block to end", || connect_error(&server, &token).is_null());
    }
}

#[test]
fn a_revoked_token_is_rejected_and_its_connections_are_closed() {
    let redis = RedisServer::start();
    let servers = [node(&redis), node(&redis)];
    let token = |id: &str| token_with(&json!({"sub": "ann", "jti": id, "exp": now() + 3_600}));
    let mut by_first = servers[1].json_client(&token("first"));
    let mut by_second = servers[1].json_client(&token("second"));
    // Connected with a third token and refreshed with the first.
    let mut renewed = servers[1].json_client(&token("third"));
    renewed.call("refresh", &json!({"token": token("first")}));
    servers[0].call("revoke_token", &json!({"jti": "first", "expire_at": now() + 3_600}));
    expect_end(&mut by_first, "token revoked");
    expect_end(&mut renewed, "token revoked");
    let revoked = json!({"code": 101, "message": "unauthorized: token revoked"});
    assert_eq!(connect_error(&servers[1], &token("first")), revoked);
    assert_eq!(by_second.call_error("refresh", &json!({"token": token("first")})), revoked);
    let subscribing = token_with(&json!({"sub": "ann", "jti": "first", "channel": "news"}));
    let request = json!({"channel": "news", "token": subscribing});
    assert_eq!(by_second.call_error("subscribe", &request), revoked);
    by_second.call("refresh", &json!({"token": token("second")}));
}

#[test]
fn a_revoked_subscription_token_ends_the_subscriptions_that_it_allows_and_no_connection() {
    let redis = RedisServer::start();
    let servers = [node(&redis), node(&redis)];
    let token = |channel: &str, id: &str| {
        token_with(&json!({"sub": "ann", "jti": id, "channel": channel, "exp": now() + 3_600}))
    };
    let mut member = servers[1].user("ann");
    for (channel, id) in [("first", "a"), ("second", "b"), ("renewed", "c")] {
        member.call("subscribe", &json!({"channel": channel, "token": token(channel, id)}));
    }
    // Subscribed with a third token and refreshed with the first.
    member.call("sub_refresh", &json!({"channel": "renewed", "token": token("renewed", "a")}));
    servers[0].call("revoke_token", &json!({"jti": "c", "expire_at": now() + 3_600}));
    servers[0].call("revoke_token", &json!({"jti": "a", "expire_at": now() + 3_600}));
    let expected = json!({"code": 2000, "reason": "token revoked"});
    let mut ended = [member.push("unsubscribe"), member.push("unsubscribe")];
    ended.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(ended, [("first".to_owned(), expected.clone()), ("renewed".to_owned(), expected.clone())]);
    member.expect_nothing();
    servers[0].call("invalidate_user_tokens", &json!({"user": "ann", "issued_before": now()}));
    // A token without a time of issue counts as older: the connection ends with its subscriptions.
    expect_end(&mut member, "token invalidated");
}

#[test]
fn tokens_of_a_user_are_invalidated_by_the_time_they_were_issued_at() {
    let redis = RedisServer::start();
    let servers = [node(&redis), node(&redis)];
    let token = |user: &str, issued: u64| token_with(&json!({"sub": user, "iat": issued}));
    let (old, new) = (now() - 100, now() - 10);
    let mut early = servers[1].json_client(&token("ann", old));
    let mut without_time = servers[1].user("ann");
    let mut late = servers[1].json_client(&token("ann", new));
    let mut other = servers[1].json_client(&token("bob", old));
    servers[0].call("invalidate_user_tokens", &json!({"user": "ann", "issued_before": new}));
    expect_end(&mut early, "token invalidated");
    expect_end(&mut without_time, "token invalidated");
    let invalid = json!({"code": 101, "message": "unauthorized: token invalidated"});
    for server in &servers {
        assert_eq!(connect_error(server, &token("ann", old)), invalid);
        assert!(connect_error(server, &token("ann", new)).is_null());
        assert!(connect_error(server, &token("bob", old)).is_null());
    }
    late.expect_nothing();
    other.expect_nothing();
    // An earlier time does not replace a later one.
    servers[0].call("invalidate_user_tokens", &json!({"user": "ann", "issued_before": 1}));
    assert_eq!(connect_error(&servers[0], &token("ann", old)), invalid);
}

#[test]
fn an_invalid_block_is_an_error_with_the_reason_and_blocks_are_counted() {
    let server = ApiServer::with(&USERS);
    let long = "x".repeat(1_025);
    for (method, params, reason) in [
        ("block_user", json!({}), "bad request: user is required"),
        ("block_user", json!({"user": long}), "bad request: user has 1025 bytes, more than 1024"),
        ("block_user", json!({"user": "a", "expire_at": 1}), "expire_at must be a time in the future"),
        ("unblock_user", json!({}), "bad request: user is required"),
        ("revoke_token", json!({"expire_at": 0}), "bad request: jti is required"),
        ("invalidate_user_tokens", json!({"user": "a", "issued_before": now() + 100}), "not in the future"),
    ] {
        let (code, message) = server.call_error(method, &params);
        assert!(code == 107 && message.contains(reason), "{method} {params}: {message}");
    }
    server.call("block_user", &json!({"user": "eve"}));
    let token = token_with(&json!({"sub": "eve"}));
    wait_until(PATIENCE, "the block to take effect", || !connect_error(&server, &token).is_null());
    let metrics = server.get("/metrics").body;
    for sample in [r#"tidings_blocks{kind="user"} 1"#, r#"tidings_blocked_total{kind="user"} 1"#] {
        assert!(metrics.lines().any(|line| line == sample), "{sample} is not in\n{metrics}");
    }
}
