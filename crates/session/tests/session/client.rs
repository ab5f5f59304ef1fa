//! The client protocol over JSON lines.

use std::time::Duration;

use crate::test_hub::{Broker, TestHub, settings, with_key};
use tidings_hub::{Flow, Namespaces, Overflow, Settings, Slot, Timer};
use tidings_wire::Channel;

fn connected(w: &mut TestHub) -> Slot {
    let c = w.open();
    let reply = w.exchange(c, "{\"id\":1,\"connect\":{}}\n");
    assert!(reply.starts_with("{\"id\":1,\"connect\":{\"client\":\""), "{reply}");
    assert!(reply.contains("\"ping\":25") && reply.contains("\"pong\":true"), "{reply}");
    c
}

#[test]
fn connect_subscribe_publish_and_unsubscribe() {
    let mut w = TestHub::new(settings());
    let c = connected(&mut w);
    assert_eq!(
        w.exchange(c, "{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}\n"),
        "{\"id\":2,\"subscribe\":{}}\n"
    );
    w.publish("news", "{\"a\": 1}");
    w.publish("news", "plain text");
    assert_eq!(
        w.output(c),
        "{\"push\":{\"channel\":\"news\",\"pub\":{\"data\":{\"a\": 1}}}}\n\
         {\"push\":{\"channel\":\"news\",\"pub\":{\"data\":\"plain text\"}}}\n"
    );
    let published = w.exchange(c, "{\"id\":3,\"publish\":{\"channel\":\"news\",\"data\":[1]}}\n");
    assert_eq!(
        published,
        "{\"push\":{\"channel\":\"news\",\"pub\":{\"data\":[1]}}}\n{\"id\":3,\"publish\":{}}\n"
    );
    assert_eq!(
        w.exchange(c, "{\"id\":4,\"unsubscribe\":{\"channel\":\"news\"}}\n"),
        "{\"id\":4,\"unsubscribe\":{}}\n"
    );
    w.publish("news", "unseen");
    w.publish("updates", "not automatic here");
    assert_eq!(w.output(c), "");
}

#[test]
fn a_reply_to_connect_has_the_time_where_the_settings_include_it() {
    for connect_has_time in [false, true] {
        let mut w = TestHub::new(Settings { connect_has_time, ..settings() });
        w.hub.set_time(Duration::from_millis(1_700_000_000_123));
        let c = w.open();
        let reply = w.exchange(c, "{\"id\":1,\"connect\":{}}\n");
        assert_eq!(reply.contains("\"time\":1700000000123"), connect_has_time, "{reply}");
        assert_eq!(reply.contains("\"time\""), connect_has_time, "{reply}");
    }
}

#[test]
fn every_session_has_a_unique_id() {
    let mut w = TestHub::new(settings());
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let c = w.open();
        let reply = w.exchange(c, "{\"id\":1,\"connect\":{}}\n");
        let id = reply.split('"').nth(7).unwrap().to_owned();
        assert_eq!(id.len(), 36, "{id}");
        assert!(ids.insert(id));
        w.close(c);
    }
}

#[test]
fn errors_have_codes_and_keep_the_connection() {
    let mut w = TestHub::new(settings());
    let c = connected(&mut w);
    w.exchange(c, "{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}\n");
    for (line, code) in [
        ("{\"id\":3,\"subscribe\":{\"channel\":\"news\"}}", 105),
        ("{\"id\":4,\"subscribe\":{\"channel\":\"\"}}", 107),
        ("{\"id\":5,\"history\":{\"channel\":\"news\"}}", 108),
        ("{\"id\":6,\"nonsense\":{}}", 104),
        ("{bad", 107),
    ] {
        let reply = w.exchange(c, format!("{line}\n"));
        assert!(reply.contains(&format!("\"error\":{{\"code\":{code},")), "{line}: {reply}");
    }
    assert_eq!(w.exchange(c, "{\"id\":9,\"ping\":{}}\n"), "{\"id\":9,\"ping\":{}}\n");
    w.set_broker(Broker::Down);
    let reply = w.exchange(c, "{\"id\":10,\"subscribe\":{\"channel\":\"other\"}}\n");
    assert!(reply.contains("\"code\":100") && reply.contains("\"temporary\":true"), "{reply}");
}

#[test]
fn input_before_connect_ends_the_connection_with_a_reason() {
    let mut w = TestHub::new(settings());
    for first in
        ["{\"id\":1,\"subscribe\":{\"channel\":\"a\"}}\n", "{\"hello\n", "{\"id\":\"one\",\"connect\":{}}\n"]
    {
        let c = w.open();
        assert_eq!(w.input(c, first), Flow::Ended, "{first}");
        let last = w.output(c);
        assert!(last.contains("\"disconnect\":{\"code\":3501,"), "{first}: {last}");
        assert!(w.closed.contains(&c));
    }
}

#[test]
fn a_ping_is_sent_and_must_be_answered() {
    let mut w = TestHub::new(settings());
    let (good, bad) = (connected(&mut w), connected(&mut w));
    for c in [good, bad] {
        w.expire(c, Timer::Ping);
        assert_eq!(w.output(c), "{}\n");
    }
    assert_eq!(w.exchange(good, "{}\n"), "");
    w.expire(good, Timer::Pong);
    w.expire(bad, Timer::Pong);
    assert!(!w.closed.contains(&good) && w.closed.contains(&bad));
    assert!(w.output(bad).contains("\"code\":3012"));
    let pings = w.timers.iter().filter(|t| t.1 == Timer::Ping && t.2 == Duration::from_secs(25)).count();
    assert_eq!(pings, 4, "each ping starts the next");
}

#[test]
fn a_connection_without_a_connect_command_is_closed() {
    let mut w = TestHub::new(settings());
    let c = w.open();
    w.input(c, "{");
    w.expire(c, Timer::Stale);
    assert!(w.output(c).contains("\"code\":3502"));
    assert!(w.closed.contains(&c));
    let c = connected(&mut w);
    w.expire(c, Timer::Stale);
    assert!(!w.closed.contains(&c));
}

#[test]
fn with_a_key_configured_a_client_needs_a_token_that_is_verified() {
    let mut w = TestHub::new(with_key(Namespaces::default()));
    let c = w.open();
    assert!(w.exchange(c, "{\"id\":1,\"connect\":{}}\n").contains("\"error\":{\"code\":101,"));
    assert!(w.exchange(c, "{\"id\":2,\"connect\":{\"token\":\"x\"}}\n").contains("\"error\":{\"code\":101,"));
}

#[test]
fn a_subscription_that_lost_messages_ends_with_their_number_and_a_code_to_subscribe_again() {
    let mut w = TestHub::new(settings());
    let c = connected(&mut w);
    w.exchange(c, "{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}\n");
    let key = w.hub.topic(&Channel::new("news").unwrap().into()).unwrap();
    assert_eq!(w.hub.overflow_action(c, key), Overflow::Unsubscribe);
    w.with(|hub, fx| hub.lose_subscription(c, key, 12, fx));
    assert_eq!(
        w.output(c),
        "{\"push\":{\"channel\":\"news\",\"unsubscribe\":{\"code\":2500,\"reason\":\"insufficient state: 12 messages dropped\"}}}\n"
    );
    assert_eq!(
        w.exchange(c, "{\"id\":3,\"subscribe\":{\"channel\":\"news\"}}\n"),
        "{\"id\":3,\"subscribe\":{}}\n"
    );
}

#[test]
fn pipelined_subscribes_are_confirmed_in_order_and_nothing_overtakes_them() {
    let mut w = TestHub::new(settings());
    let c = connected(&mut w);
    w.broker = Broker::Slow;
    w.input(
        c,
        "{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}\n{\"id\":3,\"subscribe\":{\"channel\":\"b\"}}\n\
         {\"id\":4,\"publish\":{\"channel\":\"a\",\"data\":1}}\n",
    );
    assert_eq!(w.output(c), "");
    w.set_broker(Broker::Up);
    assert_eq!(
        w.output(c),
        "{\"id\":2,\"subscribe\":{}}\n{\"id\":3,\"subscribe\":{}}\n\
         {\"push\":{\"channel\":\"a\",\"pub\":{\"data\":1}}}\n{\"id\":4,\"publish\":{}}\n"
    );
}
