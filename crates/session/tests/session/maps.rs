//! Subscriptions to maps: pages of the state without a subscription, then a subscription from the position of the first page;
//! permissions; other protocols.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidings_hub::{
    Access, MapClientKey, MapKind, MapNamespace, Namespace, NamespaceOptions, Namespaces, PresenceMaps,
    Settings, Slot, Timer,
};
use tidings_map_state::{MapOptions, StatePage};
use tidings_session::{Notification, Request, Response};
use tidings_wire::{Channel, Extra, History, HistoryPage, MapKey, Position, Publication, Topic};

use crate::test_hub::{TestHub, connect, reply, settings};

fn map(recovers: bool) -> MapNamespace {
    MapNamespace {
        kind: MapKind::Keys,
        options: MapOptions {
            ordered: false,
            key_ttl: None,
            keys: 100,
            bytes: 1 << 20,
            stream_size: 100,
            stream_ttl: Duration::from_secs(60),
            meta_ttl: Duration::from_secs(60),
        },
        recovers,
        client_key: MapClientKey::Given,
        remove_client_on_unsubscribe: true,
        page_sizes: [10, 2, 20],
        allow_publish_for_client: false,
        allow_publish_for_subscriber: false,
        allow_publish_for_anonymous: false,
        allow_remove_for_client: false,
        allow_remove_for_subscriber: false,
        allow_remove_for_anonymous: false,
    }
}

fn test_hub(map: MapNamespace, open: bool) -> TestHub {
    let options = NamespaceOptions {
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        history_size: 100,
        history_ttl: Duration::from_secs(60),
        map: Some(Box::new(map)),
        ..NamespaceOptions::default()
    };
    let namespaces = Namespaces::new(NamespaceOptions::default(), [Namespace { name: "m".into(), options }]);
    let access = Access { open, anonymous_connect: true, ..Access::default() };
    TestHub::without_auto_subscribe(Settings { namespaces, access, ..settings() })
}

fn command(w: &mut TestHub, slot: Slot, method: &str, mut fields: Value) {
    fields["channel"] = json!("m:a");
    w.input(slot, format!("{}\n", json!({"id": 2, method: fields})));
}

fn position(offset: u64) -> Position {
    Position { offset, epoch: "e".into() }
}

fn publication(key: &str, offset: u64, removed: bool) -> Arc<Publication> {
    let map = Some(Box::new(MapKey { key: key.into(), removed, version: 0 }));
    let extra = Some(Box::new(Extra { map, ..Extra::default() }));
    let body = if removed { String::new() } else { offset.to_string() };
    let new = Publication::new(Channel::new("m:a").unwrap(), body);
    Arc::new(Publication { extra, position: Some(position(offset)), ..new })
}

/// Answers the only pending request.
fn respond(w: &mut TestHub, response: impl FnOnce(Request) -> Response) {
    let (id, ticket, request) = w.pending_requests.pop_front().expect("a request");
    assert!(w.pending_requests.is_empty());
    let response = response(request);
    w.with(|hub, fx| hub.respond(id, ticket, response, fx));
}

#[test]
fn pages_are_read_without_a_subscription_and_the_stream_continues_from_the_first() {
    for recovers in [true, false] {
        let mut w = test_hub(map(recovers), false);
        let slot = connect(&mut w);
        command(&mut w, slot, "subscribe", json!({"type": 1, "phase": 2, "limit": 1}));
        respond(&mut w, |request| {
            let Request::MapState(_, query) = request else { panic!("{request:?}") };
            assert_eq!((query.limit, &*query.cursor), (2, ""), "at least the smallest page");
            Response::MapState(Box::new(StatePage {
                position: position(5),
                entries: vec![publication("a", 2, false)],
                scores: vec![0],
                cursor: "ka".into(),
            }))
        });
        let page = json!({"type": 1, "phase": 2, "epoch": "e", "offset": 5, "cursor": "ka",
            "state": [{"key": "a", "data": 2, "offset": 2}]});
        assert_eq!(reply(&mut w, slot), json!({"id": 2, "subscribe": page}));
        assert!(w.subscribed_topics.is_empty(), "a page makes no subscription");
        command(&mut w, slot, "subscribe", json!({"type": 1, "phase": 1, "epoch": "e", "offset": 5}));
        respond(&mut w, |request| {
            let Request::History(_, query) = request else { panic!("{request:?}") };
            assert_eq!(query.since, Some(position(5)));
            let publications = vec![publication("b", 6, false), publication("a", 7, true)];
            Response::History(History::Page(HistoryPage { position: position(7), publications }))
        });
        let mut live = json!({"type": 1, "positioned": true, "epoch": "e", "offset": 7, "publications": [
            {"key": "b", "data": 6, "offset": 6}, {"key": "a", "data": "", "offset": 7, "removed": true}]});
        if recovers {
            live["recoverable"] = json!(true);
        }
        assert_eq!(reply(&mut w, slot), json!({"id": 2, "subscribe": live}));
        let topic = Topic::Channel(Channel::new("m:a").unwrap());
        w.fan_out(&topic, &[publication("c", 8, false)]);
        let pushed = json!({"push": {"channel": "m:a", "pub": {"key": "c", "data": 8, "offset": 8}}});
        assert_eq!(reply(&mut w, slot), pushed);
        command(&mut w, slot, "unsubscribe", json!({}));
        let left = w
            .notifications
            .iter()
            .any(|n| matches!(n, Notification::MapLeft(channel, _) if channel.as_str() == "m:a"));
        assert!(left, "{:?}", w.notifications);
    }
}

#[test]
fn a_stream_that_does_not_reach_back_is_error_112_and_a_map_needs_its_epoch() {
    let mut w = test_hub(map(true), false);
    let slot = connect(&mut w);
    command(
        &mut w,
        slot,
        "subscribe",
        json!({"type": 1, "phase": 1, "epoch": "e", "offset": 5, "recover": true}),
    );
    respond(&mut w, |_| Response::History(History::Unrecoverable(position(900))));
    assert_eq!(reply(&mut w, slot)["error"]["code"], 112);
    assert!(!w.hub.is_subscribed(slot, &Channel::new("m:a").unwrap()));
    for (fields, code) in [
        (json!({"type": 1, "phase": 1}), 107),
        (json!({"type": 1, "phase": 3}), 107),
        (json!({"type": 2, "phase": 2}), 108),
        (json!({"type": 4, "phase": 2}), 108),
        (json!({}), 108),
    ] {
        command(&mut w, slot, "subscribe", fields.clone());
        assert_eq!(reply(&mut w, slot)["error"]["code"], code, "{fields}");
    }
}

#[test]
fn clients_change_keys_only_where_that_is_permitted() {
    let set = json!({"type": 1, "key": "k", "data": 1});
    let remove = json!({"type": 1, "key": "k", "removed": true});
    let mut w = test_hub(map(true), false);
    let slot = connect(&mut w);
    for fields in [&set, &remove] {
        command(&mut w, slot, "publish", fields.clone());
        assert_eq!(reply(&mut w, slot)["error"]["code"], 103);
    }
    let anonymous = MapNamespace {
        allow_publish_for_client: true,
        allow_publish_for_anonymous: true,
        client_key: MapClientKey::ClientId,
        ..map(true)
    };
    let mut w = test_hub(anonymous, false);
    let slot = connect(&mut w);
    command(&mut w, slot, "publish", set);
    let own = w.hub.client_id(w.hub.session_id(slot));
    respond(&mut w, |request| {
        let Request::MapChange(_, change) = request else { panic!("{request:?}") };
        assert_eq!((&*change.key, change.info.map(|info| info.client)), (&*own, Some(own.clone())));
        Response::Published(0)
    });
    assert_eq!(reply(&mut w, slot), json!({"id": 2, "publish": {}}));
    command(&mut w, slot, "publish", remove);
    assert_eq!(reply(&mut w, slot)["error"]["code"], 103);
    command(&mut w, slot, "publish", json!({"data": 1}));
    assert_eq!(reply(&mut w, slot)["error"]["code"], 108, "a publication without a key");
    let mut w = test_hub(map(true), true);
    let slot = connect(&mut w);
    command(&mut w, slot, "publish", json!({"type": 1, "key": "k".repeat(256), "data": 1}));
    let error = reply(&mut w, slot);
    assert_eq!(error["error"]["code"], 107);
    assert!(error["error"]["message"].as_str().unwrap().contains("255 bytes"), "{error}");
}

#[test]
fn other_protocols_do_not_subscribe_to_a_map() {
    let mut w = test_hub(map(true), true);
    let resp = |words: [&str; 2]| format!("*2\r\n$9\r\n{}\r\n$3\r\n{}\r\n", words[0], words[1]);
    for subscribe in ["SUBSCRIBE m:a\r\n".to_owned(), resp(["SUBSCRIBE", "m:a"])] {
        let slot = w.open();
        w.input(slot, &subscribe);
        let answer = String::from_utf8(w.bytes(slot)).unwrap();
        assert!(answer.contains("the channel is a map"), "{subscribe:?}: {answer}");
    }
    let slot = w.open();
    w.input(slot, "PUBLISH m:a x\r\n");
    let answer = String::from_utf8(w.bytes(slot)).unwrap();
    assert!(answer.contains("108"), "{answer}");
    assert!(!w.subscribed_topics.contains(&Topic::Channel(Channel::new("m:a").unwrap())));
}

#[test]
fn the_maps_of_presence_have_a_client_until_it_leaves_and_are_renewed() {
    let maps = PresenceMaps { clients: Some("clients:".into()), users: Some("users:".into()) };
    let presence = |kind| {
        let map = MapNamespace { kind, ..map(true) };
        NamespaceOptions { map: Some(Box::new(map)), ..NamespaceOptions::default() }
    };
    let namespaces = [
        ("m", NamespaceOptions { presence_maps: Some(Box::new(maps)), ..NamespaceOptions::default() }),
        ("clients", presence(MapKind::Clients)),
        ("users", presence(MapKind::Users)),
    ];
    let namespaces = namespaces.map(|(name, options)| Namespace { name: name.into(), options });
    let namespaces = Namespaces::new(NamespaceOptions::default(), namespaces);
    let access = Access { open: true, anonymous_connect: true, ..Access::default() };
    let mut w = TestHub::without_auto_subscribe(Settings { namespaces, access, ..settings() });
    let slot = connect(&mut w);
    let own = w.hub.client_id(w.hub.session_id(slot));
    command(&mut w, slot, "subscribe", json!({}));
    assert_eq!(reply(&mut w, slot), json!({"id": 2, "subscribe": {}}));
    let entered = |w: &mut TestHub| match &w.notifications[..] {
        // An anonymous client has no user.
        [Notification::MapEntered(channel, key, Some(info))] => {
            assert_eq!((channel.as_str(), &**key, &*info.client), ("clients:m:a", &*own, &*own));
            w.notifications.clear();
        }
        other => panic!("{other:?}"),
    };
    entered(&mut w);
    w.expire(slot, Timer::Presence);
    entered(&mut w);
    for (kind, code) in [(1, 108), (2, 0), (3, 108)] {
        let fields = json!({"channel": "clients:m:a", "type": kind, "phase": 2});
        w.input(slot, format!("{}\n", json!({"id": 2, "subscribe": fields})));
        if code == 0 {
            respond(&mut w, |_| {
                let (entries, scores, cursor) = (Vec::new(), Vec::new(), String::new());
                Response::MapState(Box::new(StatePage { position: position(1), entries, scores, cursor }))
            });
            assert_eq!(reply(&mut w, slot)["subscribe"]["type"], 2);
        } else {
            assert_eq!(reply(&mut w, slot)["error"]["code"], code, "type {kind}");
        }
    }
    command(&mut w, slot, "publish", json!({"type": 2, "key": "k", "data": 1}));
    assert_eq!(reply(&mut w, slot)["error"]["code"], 108);
    command(&mut w, slot, "unsubscribe", json!({}));
    let [Notification::MapLeft(channel, key)] = &w.notifications[..] else { panic!("{:?}", w.notifications) };
    assert_eq!((channel.as_str(), &**key), ("clients:m:a", &*own));
    assert_eq!(reply(&mut w, slot), json!({"id": 2, "unsubscribe": {}}));
    // 255 bytes are the longest name, with the prefix.
    let long = format!("m:{}", "a".repeat(250));
    w.input(slot, format!("{}\n", json!({"id": 3, "subscribe": {"channel": long}})));
    let error = reply(&mut w, slot);
    assert_eq!(error["error"]["code"], 107);
    assert!(error.to_string().contains("map_clients_presence_channel_prefix"), "{error}");
}
