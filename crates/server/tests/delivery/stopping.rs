//! Stopping the server.

use std::time::{Duration, Instant};

use tidings_testkit::LineClient;

use crate::node::start_node;

/// The delay before reconnecting, in seconds, from the error on the line port.
fn reconnect_delay(line: &str) -> f64 {
    let text =
        line.strip_prefix("ERROR 3001 shutdown, reconnect in ").and_then(|rest| rest.strip_suffix(" s"));
    text.and_then(|seconds| seconds.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

#[test]
fn disconnects_of_a_few_clients_are_spread_evenly_over_the_drain_time() {
    const CLIENTS: usize = 40;
    const DRAIN: f64 = 4.0;
    let node = start_node(&[("shutdown.timeout", "30s"), ("shutdown.drain", "4s")]);
    let mut clients: Vec<LineClient> = (0..CLIENTS).map(|_| node.line()).collect();
    for client in &mut clients {
        client.send("PING");
        client.expect("PONG");
    }
    let began = Instant::now();
    let mut disconnects: Vec<(f64, f64)> = std::thread::scope(|scope| {
        let waiting: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                scope.spawn(move || {
                    let delay = reconnect_delay(&client.line());
                    (began.elapsed().as_secs_f64(), delay)
                })
            })
            .collect();
        scope.spawn(|| node.stop());
        waiting.into_iter().map(|client| client.join().expect("no panic")).collect()
    });
    disconnects.sort_by(|a, b| a.0.total_cmp(&b.0));
    let begin = disconnects[0].0;
    for (i, (at, delay)) in disconnects.iter().enumerate() {
        let even = DRAIN * i as f64 / CLIENTS as f64;
        assert!(
            (at - begin - even).abs() < 0.8,
            "client {i} was disconnected after {at:.2} s: {disconnects:?}"
        );
        assert!((0.5..=5.0).contains(delay), "{delay}");
    }
    let mut delays: Vec<f64> = disconnects.iter().map(|(_, delay)| *delay).collect();
    delays.sort_by(f64::total_cmp);
    delays.dedup();
    assert!(delays.len() > CLIENTS / 4, "no jitter: {delays:?}");
}

#[test]
fn a_stopping_server_notifies_every_client_in_its_own_protocol() {
    let node = start_node(&[]);
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
            reconnect_delay(&plain.line());
            assert!(plain.expect_closed().is_empty());
            json.expect(
                "{\"push\":{\"disconnect\":{\"code\":3001,\"reason\":\"shutdown\",\"reconnect\":true}}}",
            );
            assert!(json.expect_closed().is_empty());
            // Redis sends no message on shutdown either.
            assert!(redis.try_reply().is_err());
            drop((plain, json, redis));
        });
        node.stop();
    });
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn a_client_that_stays_connected_does_not_delay_the_end_of_the_server() {
    let node = start_node(&[("shutdown.timeout", "1s"), ("shutdown.drain", "200ms")]);
    let mut client = node.line();
    client.send("hello");
    client.expect("hello");
    let began = Instant::now();
    node.stop();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop(client);
}
