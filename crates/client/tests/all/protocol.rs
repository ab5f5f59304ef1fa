//! Subscriptions over the client protocol: recovery, gaps, pings, and the decision to reconnect.

use std::time::Duration;

use tidings_client::{Client, Encoding, Error, Event, Options, Recovery};
use tidings_testkit::PATIENCE;
use tokio::time::timeout;

use crate::scripted::{Peer, Scripted};

/// Runs a client, and a server on a thread of its own, until both have ended.
fn both<S: Send>(
    scripted: &Scripted,
    server: impl FnOnce(&Scripted) -> S + Send,
    client: impl AsyncFnOnce(Client),
) -> S {
    let options = Options {
        encoding: Encoding::Json,
        max_delay: Duration::from_millis(20),
        ..Options::new(scripted.server("ws"))
    };
    std::thread::scope(|scope| {
        let served = scope.spawn(|| server(scripted));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(client(Client::new(options)));
        served.join().expect("a server that does not panic")
    })
}

async fn next(client: &mut Client) -> Event {
    timeout(PATIENCE, client.next()).await.expect("an event in time").expect("an event")
}

/// The next subscription or publication as a short text.
async fn told(client: &mut Client) -> String {
    loop {
        match next(client).await {
            Event::Subscribed { how, .. } => return format!("{how:?}"),
            Event::Publication { publication, .. } => {
                return String::from_utf8_lossy(&publication.body.bytes()).into_owned();
            }
            Event::Unsubscribed { why, again, .. } => return format!("{why} {again}"),
            _ => {}
        }
    }
}

/// Confirms a subscription with a position.
fn confirm(peer: &mut Peer, id: u64, offset: u64) {
    peer.say(&format!(r#"{{"id":{id},"subscribe":{{"recoverable":true,"epoch":"e","offset":{offset}}}}}"#));
}

#[test]
fn missed_publications_arrive_after_a_reconnect_from_the_last_position() {
    let server = |scripted: &Scripted| {
        let mut peer = scripted.welcomed();
        let (id, first) = peer.subscribe();
        assert_eq!((first["channel"].as_str(), first["recover"].as_bool()), (Some("news"), None), "{first}");
        confirm(&mut peer, id, 7);
        peer.publish(8, "eight");
        drop(peer);
        let mut peer = scripted.welcomed();
        let (id, again) = peer.subscribe();
        let asked = (again["recover"].as_bool(), again["epoch"].as_str(), again["offset"].as_u64());
        assert_eq!(asked, (Some(true), Some("e"), Some(8)), "{again}");
        peer.say(&format!(
            r#"{{"id":{id},"subscribe":{{"recoverable":true,"epoch":"e","offset":10,"recovered":true,"was_recovering":true,
               "publications":[{{"data":"nine","offset":9}},{{"data":"ten","offset":10}}]}}}}"#
        ).replace('\n', ""));
        peer.publish(11, "eleven");
        peer
    };
    both(&Scripted::new(), server, async |mut client| {
        client.subscribe("news", None);
        let mut heard = Vec::new();
        while heard.len() < 6 {
            heard.push(told(&mut client).await);
        }
        assert_eq!(heard, ["First", "eight", "Recovered(2)", "nine", "ten", "eleven"]);
    });
}

#[test]
fn a_short_history_and_a_missing_history_are_both_reported() {
    let server = |scripted: &Scripted| {
        let mut peer = scripted.welcomed();
        let (id, _) = peer.subscribe();
        confirm(&mut peer, id, 1);
        drop(peer);
        let mut peer = scripted.welcomed();
        let (id, _) = peer.subscribe();
        let late = r#""subscribe":{"recoverable":true,"epoch":"f","offset":90,"was_recovering":true}"#;
        peer.say(&format!(r#"{{"id":{id},{late}}}"#));
        drop(peer);
        let mut peer = scripted.welcomed();
        let (id, again) = peer.subscribe();
        assert_eq!((again["epoch"].as_str(), again["offset"].as_u64()), (Some("f"), Some(90)), "{again}");
        peer.say(&format!(r#"{{"id":{id},"subscribe":{{}}}}"#));
        drop(peer);
        let mut peer = scripted.welcomed();
        let (id, again) = peer.subscribe();
        assert_eq!(again["recover"].as_bool(), None, "{again}");
        peer.say(&format!(r#"{{"id":{id},"subscribe":{{}}}}"#));
        peer
    };
    both(&Scripted::new(), server, async |mut client| {
        client.subscribe("news", None);
        let expected = [Recovery::First, Recovery::Gap, Recovery::Gap, Recovery::NoHistory];
        for how in expected {
            assert_eq!(told(&mut client).await, format!("{how:?}"));
        }
    });
}

#[test]
fn a_subscription_is_renewed_from_code_2500_on_and_not_below() {
    let server = |scripted: &Scripted| {
        let mut peer = scripted.welcomed();
        let (id, _) = peer.subscribe();
        confirm(&mut peer, id, 3);
        peer.say(r#"{"push":{"channel":"news","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#);
        let (id, again) = peer.subscribe();
        assert_eq!((again["recover"].as_bool(), again["offset"].as_u64()), (Some(true), Some(3)));
        peer.say(&format!(
            r#"{{"id":{id},"error":{{"code":100,"message":"broker unavailable","temporary":true}}}}"#
        ));
        let (id, _) = peer.subscribe();
        peer.say(&format!(
            r#"{{"id":{id},"subscribe":{{"recoverable":true,"epoch":"e","offset":3,"recovered":true}}}}"#
        ));
        peer.say(r#"{"push":{"channel":"news","unsubscribe":{"code":2000,"reason":"server unsubscribe"}}}"#);
        peer.say("{}");
        // The next command is the pong: the client does not subscribe to the channel again.
        assert_eq!(peer.command(), serde_json::json!({}));
    };
    both(&Scripted::new(), server, async |mut client| {
        client.subscribe("news", None);
        for expected in [
            "First",
            "insufficient state (code 2500) true",
            "broker unavailable (code 100) true",
            "Recovered(0)",
            "server unsubscribe (code 2000) false",
        ] {
            assert_eq!(told(&mut client).await, expected);
        }
        // Drives the connection until the server has received its pong and closes.
        assert!(matches!(next(&mut client).await, Event::Disconnected { .. }));
    });
}

#[test]
fn the_server_s_code_decides_whether_the_client_reconnects() {
    let server = |scripted: &Scripted| {
        scripted.welcomed().close(3001, "shutdown");
        let mut peer = scripted.welcomed();
        peer.say(r#"{"push":{"disconnect":{"code":3012,"reason":"no pong"}}}"#);
        scripted.welcomed().close(3503, "force disconnect");
    };
    both(&Scripted::new(), server, async |mut client| {
        for expected in ["shutdown (code 3001)", "no pong (code 3012)"] {
            assert!(matches!(next(&mut client).await, Event::Connected(_)));
            match next(&mut client).await {
                Event::Disconnected { why, .. } => assert!(why.to_string().contains(expected), "{why}"),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(next(&mut client).await, Event::Connected(_)));
        let end = timeout(PATIENCE, client.next()).await.expect("in time");
        assert_eq!(end, Err(Error::Closed { code: 3503, text: "force disconnect".to_owned() }));
    });
}

#[test]
fn a_rejected_client_reports_the_error_and_does_not_reconnect() {
    let server = |scripted: &Scripted| {
        let mut peer = scripted.websocket();
        let connect = peer.command();
        assert_eq!(connect["connect"]["name"], "tidings");
        peer.say(r#"{"id":1,"error":{"code":109,"message":"token expired"}}"#);
        peer
    };
    both(&Scripted::new(), server, async |mut client| {
        let end = timeout(PATIENCE, client.next()).await.expect("in time").expect_err("a rejection");
        assert_eq!(end.to_string(), "the server refused the connection: token expired (code 109)");
        assert!(!end.is_retryable());
    });
}

#[test]
fn a_server_without_its_announced_pings_is_disconnected() {
    let server = |scripted: &Scripted| {
        let peer = scripted.welcomed();
        // The server is silent until the client reconnects.
        let _second = scripted.welcomed();
        drop(peer);
    };
    both(&Scripted::new(), server, async |mut client| {
        assert!(matches!(next(&mut client).await, Event::Connected(_)));
        // No more input arrives: the paused clock advances to the next deadline.
        tokio::time::pause();
        let begun = tokio::time::Instant::now();
        match client.next().await {
            Ok(Event::Disconnected { why, .. }) => assert_eq!(why, Error::Timeout(35)),
            other => panic!("{other:?}"),
        }
        assert_eq!(begun.elapsed().as_secs(), 35);
        tokio::time::resume();
        assert!(matches!(next(&mut client).await, Event::Connected(_)));
    });
}

#[test]
fn a_call_completes_during_a_stream_of_publications_and_none_is_lost() {
    let server = |scripted: &Scripted| {
        let mut peer = scripted.welcomed();
        let (id, _) = peer.subscribe();
        confirm(&mut peer, id, 0);
        let publish = peer.command();
        assert_eq!(publish["publish"], serde_json::json!({"channel": "chat", "data": "hi"}));
        peer.publish(1, "one");
        peer.publish(2, "two");
        peer.say(&format!(r#"{{"id":{},"publish":{{}}}}"#, publish["id"]));
        let refused = peer.command();
        let words = r#""error":{"code":103,"message":"permission denied"}"#;
        peer.say(&format!(r#"{{"id":{},{words}}}"#, refused["id"]));
        peer
    };
    both(&Scripted::new(), server, async |mut client| {
        client.subscribe("news", None);
        assert_eq!(told(&mut client).await, "First");
        client.publish("chat", b"hi").await.expect("published");
        let error = client.publish("secret", b"hi").await.expect_err("refused");
        assert_eq!(error.to_string(), "the server refused publish: permission denied (code 103)");
        assert_eq!(told(&mut client).await, "one");
        assert_eq!(told(&mut client).await, "two");
    });
}

#[test]
fn a_proxy_that_does_not_upgrade_is_reported_with_its_status() {
    use std::io::Write as _;
    let scripted = Scripted::new();
    let server = |scripted: &Scripted| {
        let mut stream = scripted.accept();
        crate::scripted::head(&mut stream);
        let answer = "HTTP/1.1 404 Not Found\r\nServer: nginx\r\nContent-Length: 9\r\nContent-Type: text/plain\r\n\r\nnot here\n";
        stream.write_all(answer.as_bytes()).expect("written");
    };
    both(&scripted, server, async |mut client| {
        let end = timeout(PATIENCE, client.next()).await.expect("in time").expect_err("no upgrade");
        assert!(end.to_string().ends_with(": 404, not here"), "{end}");
    });
}
