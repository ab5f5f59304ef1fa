//! Subscriptions to shared polls: the control plane has the keys, and is notified of every subscription that begins or ends.

use std::time::Duration;

use serde_json::{Value, json};
use tidings_hub::{
    Access, Failure, Namespace, NamespaceOptions, Namespaces, PollNamespace, PollRequest, Settings, Slot,
};
use tidings_session::{Notification, Request, Response};
use tidings_wire::{Channel, code};

use crate::test_hub::{TestHub, connect, reply, settings};

fn test_hub() -> TestHub {
    let poll = PollNamespace {
        hook: None,
        interval: Duration::from_secs(1),
        batch: 10,
        keys_per_subscriber: 10,
        keys: 10,
        versioned: true,
        shutdown_delay: Duration::ZERO,
        expired_delay: Duration::ZERO,
        publishes_to_all: false,
    };
    let options = NamespaceOptions {
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        allow_publish_for_client: true,
        allow_publish_for_anonymous: true,
        allow_fossil_delta: true,
        shared_poll: Some(Box::new(poll)),
        ..NamespaceOptions::default()
    };
    let namespaces = Namespaces::new(NamespaceOptions::default(), [Namespace { name: "p".into(), options }]);
    let access = Access { open: true, anonymous_connect: true, ..Access::default() };
    TestHub::without_auto_subscribe(Settings { namespaces, access, ..settings() })
}

fn command(w: &mut TestHub, slot: Slot, method: &str, mut fields: Value) {
    fields["channel"] = json!("p:a");
    w.input(slot, format!("{}\n", json!({"id": 2, method: fields})));
}

/// Answers the only pending request.
fn respond(w: &mut TestHub, response: impl FnOnce(PollRequest) -> Response) {
    let (id, ticket, request) = w.pending_requests.pop_front().expect("a request");
    assert!(w.pending_requests.is_empty());
    let Request::Poll(channel, subscriber, request) = request else { panic!("{request:?}") };
    assert_eq!((channel.as_str(), subscriber.session), ("p:a", id));
    let response = response(*request);
    w.with(|hub, fx| hub.respond(id, ticket, response, fx));
}

fn joined(w: &mut TestHub, slot: Slot) {
    command(w, slot, "subscribe", json!({"type": 4}));
    respond(w, |request| {
        assert_eq!(request, PollRequest::Join { delta: false });
        Response::PollJoined(String::new())
    });
    assert_eq!(reply(w, slot), json!({"id": 2, "subscribe": {"type": 4}}));
}

/// The ends of subscriptions to shared polls that the control plane was notified of.
fn left(w: &mut TestHub) -> usize {
    let notes = std::mem::take(&mut w.notifications);
    notes.iter().filter(|note| matches!(note, Notification::PollLeft(..))).count()
}

#[test]
fn a_subscription_begins_with_the_epoch_of_the_control_plane_and_its_keys_are_requests() {
    let mut w = test_hub();
    let slot = connect(&mut w);
    command(&mut w, slot, "subscribe", json!({"type": 4, "delta": "fossil"}));
    respond(&mut w, |request| {
        assert_eq!(request, PollRequest::Join { delta: true });
        Response::PollJoined("epoch".into())
    });
    let subscribed = json!({"type": 4, "epoch": "epoch", "delta": true});
    assert_eq!(reply(&mut w, slot), json!({"id": 2, "subscribe": subscribed}));
    let track = json!([{"signature": "s", "items": [{"key": "a"}, {"key": "b", "version": 3}]}]);
    command(&mut w, slot, "sub_refresh", json!({"type": 1, "track": track, "untrack": ["c"]}));
    respond(&mut w, |request| {
        let PollRequest::Track { user, batches, untrack } = request else { panic!("{request:?}") };
        assert_eq!((&*user, &*batches[0].signature, &untrack[..]), ("", "s", &["c".to_owned()][..]));
        assert_eq!(batches[0].items, [("a".to_owned(), 0), ("b".to_owned(), 3)]);
        Response::Tracked(None)
    });
    assert_eq!(reply(&mut w, slot), json!({"id": 2, "sub_refresh": {}}));
    command(&mut w, slot, "sub_refresh", json!({"type": 2, "untrack": ["a"]}));
    respond(&mut w, |request| {
        assert_eq!(request, PollRequest::Untrack(vec!["a".to_owned()]));
        Response::Tracked(None)
    });
    assert_eq!(reply(&mut w, slot), json!({"id": 2, "sub_refresh": {}}));
    command(&mut w, slot, "unsubscribe", json!({}));
    assert_eq!(reply(&mut w, slot), json!({"id": 2, "unsubscribe": {}}));
    assert_eq!(left(&mut w), 1);
}

#[test]
fn commands_of_another_kind_and_malformed_ones_are_refused() {
    let mut w = test_hub();
    let slot = connect(&mut w);
    let error = |w: &mut TestHub, method: &str, fields: Value| {
        command(w, slot, method, fields);
        reply(w, slot)["error"]["code"].clone()
    };
    for kind in [0, 1, 2, 3, 5] {
        assert_eq!(error(&mut w, "subscribe", json!({"type": kind, "phase": 2})), 108, "type {kind}");
    }
    let track = json!([{"signature": "s", "items": [{"key": "a"}]}]);
    assert_eq!(error(&mut w, "sub_refresh", json!({"type": 1, "track": track})), 103, "not subscribed");
    joined(&mut w, slot);
    for fields in [
        json!({"type": 1}),
        json!({"type": 2}),
        json!({"type": 2, "track": track, "untrack": ["a"]}),
        json!({"type": 3, "track": track}),
        json!({"type": -1}),
    ] {
        assert_eq!(error(&mut w, "sub_refresh", fields.clone()), 107, "{fields}");
    }
    assert_eq!(error(&mut w, "publish", json!({"data": 1})), 108);
    assert_eq!(error(&mut w, "publish", json!({"type": 4, "data": 1})), 108);
    assert!(w.pending_requests.is_empty());
}

#[test]
fn the_control_plane_is_notified_of_subscriptions_that_end_in_any_way() {
    let mut w = test_hub();
    // By the end of the connection.
    let slot = connect(&mut w);
    joined(&mut w, slot);
    w.close(slot);
    assert_eq!(left(&mut w), 1);
    // While it begins.
    let slot = connect(&mut w);
    command(&mut w, slot, "subscribe", json!({"type": 4}));
    w.close(slot);
    assert_eq!(left(&mut w), 1);
    w.pending_requests.clear();
    // By the control plane itself: the client subscribes again.
    let slot = connect(&mut w);
    joined(&mut w, slot);
    let channel = Channel::new("p:a").unwrap();
    w.with(|hub, fx| {
        let id = hub.session_id(slot);
        let end = (code::INSUFFICIENT_STATE.number, code::INSUFFICIENT_STATE.text);
        hub.end_poll(id, &channel, end, fx);
    });
    let ended = json!({"code": 2500, "reason": "insufficient state"});
    assert_eq!(reply(&mut w, slot), json!({"push": {"channel": "p:a", "unsubscribe": ended}}));
    assert_eq!(left(&mut w), 1);
    joined(&mut w, slot);
    // Without a response of the control plane there is no subscription.
    let slot = connect(&mut w);
    command(&mut w, slot, "subscribe", json!({"type": 4}));
    respond(&mut w, |_| Response::Failed(Failure::Unavailable));
    assert_eq!(reply(&mut w, slot)["error"]["code"], 100);
    assert_eq!(left(&mut w), 0);
}
