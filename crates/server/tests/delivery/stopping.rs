//! How the server goes.

use std::time::{Duration, Instant};

use crate::up::up;

#[test]
fn on_stopping_every_client_is_told_in_its_own_dialect() {
    let node = up(&[]);
    let mut plain = node.line();
    plain.send("hello");
    plain.expect("hello");
    let mut json = node.line();
    json.send("{\"id\":1,\"connect\":{}}");
    assert!(json.line().contains("\"connect\""));
    let mut redis = node.resp();
    redis.command(&["SUBSCRIBE", "news"]);
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            plain.expect("ERROR 3001 shutdown");
            assert!(plain.expect_closed().is_empty());
            json.expect(
                "{\"push\":{\"disconnect\":{\"code\":3001,\"reason\":\"shutdown\",\"reconnect\":true}}}",
            );
            assert!(json.expect_closed().is_empty());
            // Redis says nothing either.
            assert!(redis.try_reply().is_err());
            drop((plain, json, redis));
        });
        node.stop();
    });
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn a_client_that_will_not_go_does_not_keep_the_server_from_ending_in_time() {
    let node = up(&[("shutdown.timeout", "1s"), ("shutdown.drain", "200ms")]);
    let mut stubborn = node.line();
    stubborn.send("hello");
    stubborn.expect("hello");
    let began = Instant::now();
    node.stop();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(stubborn);
}
