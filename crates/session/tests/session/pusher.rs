//! The Pusher protocol over WebSocket frames.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidings_hub::{
    AuthorizationRequest, CloseReason, Connected, Failure, Namespaces, Rejection, Settings, Slot, Timer,
};
use tidings_pusher::{App, Key, Limits};
use tidings_session::{Direction, Link, Peer, Protocol, ProtocolSettings, PusherOpening};
use tidings_session::{Effects, Notification, Request, Response};
use tidings_wire::history::HistoryPage;
use tidings_wire::ws::{self, Event, Opcode, Reader, Role, Rules};
use tidings_wire::{
    Channel, ClientInfo, Extra, Framing, History, Position, Publication, RecoveryMode, Topic, code,
};

use crate::test_hub::{TestHub, with_key};

fn app(prefix: &str, client_events: bool) -> Arc<App> {
    let limits = Limits { connections: 5, presence_members: 2, event_size: 100, client_event_rate: 10 };
    Arc::new(App {
        id: "1".into(),
        key: "k".into(),
        secret: Key::new("s"),
        prefix: prefix.into(),
        client_events,
        subscription_count: true,
        watchlist_events: client_events,
        connect_hook: !client_events,
        activity_timeout: 120,
        limits,
        counters: Arc::default(),
    })
}

/// A hub with an app without a prefix, and one with the prefix `shop:` without client events and watchlists.
fn hub() -> TestHub {
    let apps = vec![app("", true), app("shop:", false)];
    let namespaces = Namespaces::default().with_beginning("cache-", "cache-", |options| {
        (options.history_size, options.history_ttl) = (1, Duration::from_secs(60));
        options.force_recovery_mode = RecoveryMode::Cache;
    });
    let protocols =
        ProtocolSettings { pusher_apps: (0..).zip(apps).collect(), ..ProtocolSettings::workbench() };
    let settings = Settings { ping_interval: Duration::from_secs(25), ..with_key(namespaces) };
    let mut w = TestHub::with_protocols(settings, protocols);
    w.authority = |request| match request {
        AuthorizationRequest::SignIn { user, .. } if user == "blocked" => {
            Response::Failed(Rejection::from(code::PERMISSION_DENIED).into())
        }
        AuthorizationRequest::SignIn { user, .. } => {
            Response::Connected(Box::new(Connected { user: user.clone(), ..Connected::default() }))
        }
        _ => Response::Failed(Failure::Unavailable),
    };
    w
}

fn open(w: &mut TestHub, opening: PusherOpening) -> Slot {
    let link = Link::new(Framing::WebSocket { deflate: false }, Protocol::Pusher, Direction::TwoWay);
    let mut slot = None;
    w.with(|hub, fx: &mut Effects| {
        slot = Some(hub.open_as(Peer::with_parameter(link, opening.parameter()), None, fx).slot);
    });
    slot.expect("a session")
}

/// The messages that were sent, and the code of the Close frame. Data that is a text is parsed.
fn received(w: &mut TestHub, slot: Slot) -> (Vec<Value>, Option<u16>) {
    let bytes = w.sent.remove(&slot).unwrap_or_default();
    let rules = Rules { role: Role::Client, max_message: 1 << 20 };
    let (mut reader, mut message, mut rest) = (Reader::default(), Vec::new(), &bytes[..]);
    let (mut messages, mut closed) = (Vec::new(), None);
    while !rest.is_empty() {
        let (used, event) = reader.read(rest, &rules, &mut message).expect("frames");
        rest = &rest[used..];
        match event {
            Event::Message(_) => {
                let mut value: Value = serde_json::from_slice(&std::mem::take(&mut message)).unwrap();
                let parsed = value["data"].as_str().and_then(|text| serde_json::from_str(text).ok());
                if let Some(parsed) = parsed {
                    value["data"] = parsed;
                }
                messages.push(value);
            }
            Event::Close(close) => closed = Some(close.code().map_or(0, |code| code.0)),
            other => panic!("{other:?}"),
        }
    }
    (messages, closed)
}

fn send(w: &mut TestHub, slot: Slot, message: &Value) {
    send_text(w, slot, &message.to_string());
}

fn send_text(w: &mut TestHub, slot: Slot, text: &str) {
    let mut bytes = Vec::new();
    ws::masked_frame(Opcode::Text, text.as_bytes(), [1, 2, 3, 4], &mut bytes);
    w.input(slot, bytes);
}

fn exchange(w: &mut TestHub, slot: Slot, message: &Value) -> Vec<Value> {
    send(w, slot, message);
    received(w, slot).0
}

/// A client of an app, and its socket id.
fn connect_to(w: &mut TestHub, number: u8) -> (Slot, String) {
    let slot = open(w, PusherOpening::App(number));
    let (messages, closed) = received(w, slot);
    assert_eq!((messages.len(), closed), (1, None), "{messages:?}");
    assert_eq!(messages[0]["event"], "pusher:connection_established");
    assert_eq!(messages[0]["data"]["activity_timeout"], 120);
    (slot, messages[0]["data"]["socket_id"].as_str().unwrap().to_owned())
}

fn connect(w: &mut TestHub) -> (Slot, String) {
    connect_to(w, 0)
}

/// The `auth` of a subscription, or with `::user::…` of a sign-in.
fn auth(text: &str) -> String {
    format!("k:{}", Key::new("s").sign(text.as_bytes()))
}

fn subscribe(channel: &str) -> Value {
    json!({"event": "pusher:subscribe", "data": {"channel": channel}})
}

fn subscribe_private(channel: &str, socket: &str) -> Value {
    let auth = auth(&format!("{socket}:{channel}"));
    json!({"event": "pusher:subscribe", "data": {"channel": channel, "auth": auth}})
}

fn subscribe_presence(channel: &str, socket: &str, user: &str) -> Value {
    let data = member_data(user);
    let auth = auth(&format!("{socket}:{channel}:{data}"));
    json!({"event": "pusher:subscribe", "data": {"channel": channel, "auth": auth, "channel_data": data}})
}

fn member_data(user: &str) -> String {
    json!({"user_id": user, "user_info": {"name": user}}).to_string()
}

fn succeeded(channel: &str, data: &Value) -> Value {
    json!({"event": "pusher_internal:subscription_succeeded", "channel": channel, "data": data})
}

fn client_event(channel: &str, data: &Value) -> Value {
    json!({"event": "client-typing", "channel": channel, "data": data})
}

/// Sends an event that is published, and confirms it.
fn published(w: &mut TestHub, slot: Slot, message: &Value) {
    w.respond_at_once = false;
    assert_eq!(exchange(w, slot, message), Vec::<Value>::new());
    w.respond_next(Response::Published(1));
    assert_eq!(received(w, slot).0, Vec::<Value>::new());
}

/// Publishes with an event's name and information about the client, as a broker does.
fn publish(w: &mut TestHub, channel: &str, event: Option<&str>, body: &str, info: Option<ClientInfo>) {
    let channel = Channel::new(channel).unwrap();
    let tags = event.map(|event| ("event".to_owned(), event.to_owned())).into_iter().collect();
    let extra = Some(Box::new(Extra { tags, info, ..Extra::default() }));
    let publication = Publication { extra, ..Publication::new(channel.clone(), body.to_owned()) };
    w.fan_out(&Topic::Channel(channel), &[Arc::new(publication)]);
}

/// Responds to the next request for the members of a channel.
fn respond_members(w: &mut TestHub, members: &[ClientInfo]) {
    let (id, ticket, request) = w.pending_requests.pop_front().expect("a request");
    assert!(matches!(request, Request::Presence(_)), "{request:?}");
    w.with(|hub, fx| hub.respond(id, ticket, Response::Members(members.to_vec()), fx));
}

fn member(client: &str, user: &str) -> ClientInfo {
    ClientInfo { client: client.into(), chan_info: Some(member_data(user).into()), ..ClientInfo::default() }
}

/// Passes the published joins and leaves on to the hub, like a broker.
fn announce(w: &mut TestHub) {
    for notification in std::mem::take(&mut w.notifications) {
        let (joined, channel, info) = match notification {
            Notification::Joined(channel, info) => (true, channel, info),
            Notification::Left(channel, info) => (false, channel, info),
            _ => continue,
        };
        w.with(|hub, fx| hub.on_presence_change(&channel, joined, &info, fx));
    }
}

fn change(event: &str, channel: &str, data: &Value) -> Value {
    json!({"event": format!("pusher_internal:{event}"), "channel": channel, "data": data})
}

#[test]
fn a_connection_that_cannot_begin_ends_with_its_error() {
    let mut w = hub();
    for (opening, code) in [
        (PusherOpening::UnknownApp, 4001),
        // A reload during the handshake has removed the app.
        (PusherOpening::App(9), 4200),
        (PusherOpening::InvalidVersion, 4006),
        (PusherOpening::UnsupportedVersion, 4007),
        (PusherOpening::NoVersion, 4008),
    ] {
        let slot = open(&mut w, opening);
        let (messages, closed) = received(&mut w, slot);
        assert_eq!((messages.len(), closed), (1, Some(code)), "{opening:?}");
        assert_eq!(
            (&messages[0]["event"], &messages[0]["data"]["code"]),
            (&json!("pusher:error"), &json!(code))
        );
    }
}

#[test]
fn an_app_has_a_limit_of_connections() {
    let mut w = hub();
    let slots: Vec<Slot> = (0..5).map(|_| connect(&mut w).0).collect();
    let refused = open(&mut w, PusherOpening::App(0));
    assert_eq!(received(&mut w, refused).1, Some(4004));
    w.close(refused);
    let also_refused = open(&mut w, PusherOpening::App(0));
    assert_eq!(received(&mut w, also_refused).1, Some(4004), "a refused connection does not count");
    w.close(slots[0]);
    connect(&mut w);
}

#[test]
fn an_event_is_a_publication_with_a_tag_and_arrives_under_the_name_of_the_app() {
    let mut w = hub();
    let (a, _) = connect(&mut w);
    let (b, _) = connect_to(&mut w, 1);
    assert_eq!(exchange(&mut w, a, &subscribe("news")), [succeeded("news", &json!({}))]);
    assert_eq!(exchange(&mut w, b, &subscribe("news")), [succeeded("news", &json!({}))]);
    publish(&mut w, "news", Some("order.created"), r#"{"id":1}"#, None);
    let event = json!({"event": "order.created", "channel": "news", "data": {"id": 1}});
    assert_eq!(received(&mut w, a).0, [event]);
    publish(&mut w, "shop:news", Some("pusher:error"), "text", None);
    let event = json!({"event": "message", "channel": "news", "data": "text"});
    assert_eq!((received(&mut w, a).0, received(&mut w, b).0), (vec![], vec![event]));
    send(&mut w, a, &json!({"event": "pusher:unsubscribe", "data": {"channel": "news"}}));
    publish(&mut w, "news", None, "{}", None);
    assert_eq!(received(&mut w, a).0, Vec::<Value>::new());
}

#[test]
fn a_private_channel_needs_a_signature_for_this_connection() {
    let mut w = hub();
    let (slot, socket) = connect(&mut w);
    let message = subscribe_private("private-a", &socket);
    assert_eq!(exchange(&mut w, slot, &message), [succeeded("private-a", &json!({}))]);
    let of_other = subscribe_private("private-b", "1.2");
    for (message, status) in [
        (of_other, 401),
        (subscribe("private-b"), 401),
        (subscribe("private-encrypted-b"), 401),
        (subscribe("a b"), 400),
        (subscribe("a:b"), 400),
        (subscribe("#server-to-user-1"), 400),
    ] {
        let answer = exchange(&mut w, slot, &message);
        assert_eq!(answer[0]["event"], "pusher:subscription_error", "{message}");
        assert_eq!(answer[0]["data"]["status"], status, "{message}");
    }
    let again = exchange(&mut w, slot, &message);
    assert_eq!(again[0]["data"]["error"], "already subscribed");
    assert!(!w.closed.contains(&slot));
}

#[test]
fn a_member_gets_the_users_of_its_channel_and_each_change_once() {
    let mut w = hub();
    let (a, a_socket) = connect(&mut w);
    assert_eq!(exchange(&mut w, a, &subscribe_presence("presence-a", &a_socket, "ann")), Vec::<Value>::new());
    assert!(matches!(w.notifications[..], [Notification::Present(..), Notification::Joined(..)]));
    respond_members(&mut w, &[member("other-node", "zoe")]);
    let users = json!({"presence": {"count": 2, "ids": ["ann", "zoe"], "hash": {"ann": {"name": "ann"}, "zoe": {"name": "zoe"}}}});
    assert_eq!(received(&mut w, a).0, [succeeded("presence-a", &users)]);
    announce(&mut w);
    assert_eq!(received(&mut w, a).0, Vec::<Value>::new(), "its own join");

    // A second connection of the same user.
    let (b, b_socket) = connect(&mut w);
    let message = subscribe_presence("presence-a", &b_socket, "ann");
    assert_eq!(exchange(&mut w, b, &message), [succeeded("presence-a", &users)]);
    announce(&mut w);
    assert_eq!((received(&mut w, a).0, received(&mut w, b).0), (vec![], vec![]));
    // A third user is one too many.
    let (c, c_socket) = connect(&mut w);
    let full = exchange(&mut w, c, &subscribe_presence("presence-a", &c_socket, "bob"));
    assert_eq!(
        (&full[0]["data"]["type"], &full[0]["data"]["status"]),
        (&json!("LimitReached"), &json!(4004))
    );

    let channel = Channel::new("presence-a").unwrap();
    w.with(|hub, fx| hub.on_presence_change(&channel, false, &member("other-node", "zoe"), fx));
    let gone = change("member_removed", "presence-a", &json!({"user_id": "zoe"}));
    assert_eq!((received(&mut w, a).0, received(&mut w, b).0), (vec![gone.clone()], vec![gone]));
    exchange(&mut w, c, &subscribe_presence("presence-a", &c_socket, "bob"));
    announce(&mut w);
    let come = change("member_added", "presence-a", &json!({"user_id": "bob", "user_info": {"name": "bob"}}));
    assert_eq!((received(&mut w, a).0, received(&mut w, b).0), (vec![come.clone()], vec![come]));

    w.close(a);
    announce(&mut w);
    assert_eq!(received(&mut w, c).0, Vec::<Value>::new(), "the user has another connection");
    send(&mut w, b, &json!({"event": "pusher:unsubscribe", "data": {"channel": "presence-a"}}));
    announce(&mut w);
    assert_eq!(received(&mut w, c).0, [change("member_removed", "presence-a", &json!({"user_id": "ann"}))]);
    assert_eq!(received(&mut w, b).0, Vec::<Value>::new());
}

#[test]
fn members_are_read_again_in_case_a_leave_was_lost() {
    let mut w = hub();
    let (a, socket) = connect(&mut w);
    w.with(|hub, _| hub.set_time(Duration::from_secs(1_000)));
    send(&mut w, a, &subscribe_presence("presence-a", &socket, "ann"));
    respond_members(&mut w, &[member("other-node", "zoe")]);
    announce(&mut w);
    received(&mut w, a);
    w.expire(a, Timer::Ping);
    assert!(w.pending_requests.is_empty(), "the list is new");
    w.with(|hub, _| hub.set_time(Duration::from_secs(1_060)));
    w.expire(a, Timer::Ping);
    let own = w.hub.client_id(w.hub.session_id(a));
    respond_members(&mut w, &[member(&own, "ann")]);
    let messages = received(&mut w, a).0;
    assert_eq!(messages.last(), Some(&change("member_removed", "presence-a", &json!({"user_id": "zoe"}))));
}

#[test]
fn a_cache_channel_sends_its_last_event_or_a_miss() {
    let mut w = hub();
    let (a, _) = connect(&mut w);
    let respond = |w: &mut TestHub, publications: Vec<Arc<Publication>>| {
        let (id, ticket, request) = w.pending_requests.pop_front().expect("a request");
        assert!(matches!(request, Request::History(..)), "{request:?}");
        let position = Position { offset: publications.len() as u64, epoch: "e".into() };
        let history = History::Page(HistoryPage { position, publications });
        w.with(|hub, fx| hub.respond(id, ticket, Response::History(history), fx));
    };
    send(&mut w, a, &subscribe("cache-a"));
    respond(&mut w, vec![]);
    let miss = json!({"event": "pusher:cache_miss", "channel": "cache-a", "data": {}});
    assert_eq!(received(&mut w, a).0, [succeeded("cache-a", &json!({})), miss]);
    let (b, _) = connect(&mut w);
    send(&mut w, b, &subscribe("cache-a"));
    let position = Some(Position { offset: 1, epoch: "e".into() });
    let last = Publication { position, ..Publication::new(Channel::new("cache-a").unwrap(), "{\"n\":1}") };
    respond(&mut w, vec![Arc::new(last)]);
    let event = json!({"event": "message", "channel": "cache-a", "data": {"n": 1}});
    assert_eq!(received(&mut w, b).0, [succeeded("cache-a", &json!({})), event]);
}

#[test]
fn a_client_event_reaches_the_other_subscribers_with_the_id_of_its_member() {
    let mut w = hub();
    let (a, socket) = connect(&mut w);
    send(&mut w, a, &subscribe_presence("presence-a", &socket, "ann"));
    respond_members(&mut w, &[]);
    received(&mut w, a);
    published(&mut w, a, &client_event("presence-a", &json!({"x": 1})));
    assert_eq!(w.tags, [("event".to_owned(), "client-typing".to_owned())]);
    let own = w.hub.client_id(w.hub.session_id(a));
    publish(&mut w, "presence-a", Some("client-typing"), "{}", Some(member(&own, "ann")));
    assert_eq!(received(&mut w, a).0, Vec::<Value>::new(), "its own event");
    publish(&mut w, "presence-a", Some("client-typing"), "{}", Some(member("other", "zoe")));
    let event = json!({"event": "client-typing", "channel": "presence-a", "data": {}, "user_id": "zoe"});
    assert_eq!(received(&mut w, a).0, [event]);
}

#[test]
fn client_events_have_rules() {
    let mut w = hub();
    let (a, socket) = connect(&mut w);
    send(&mut w, a, &subscribe_private("private-a", &socket));
    send(&mut w, a, &subscribe("public"));
    let (b, b_socket) = connect_to(&mut w, 1);
    send(&mut w, b, &subscribe_private("private-a", &b_socket));
    received(&mut w, a);
    received(&mut w, b);
    let rejected = |w: &mut TestHub, slot, message: &Value, text: &str| {
        let answer = exchange(w, slot, message);
        assert_eq!(answer[0]["data"]["code"], 4301, "{message}");
        assert!(answer[0]["data"]["message"].as_str().unwrap().contains(text), "{answer:?}");
    };
    rejected(&mut w, a, &client_event("private-b", &json!(1)), "not subscribed");
    rejected(&mut w, a, &client_event("public", &json!(1)), "private and presence");
    rejected(&mut w, a, &client_event("private-encrypted-a", &json!(1)), "private and presence");
    rejected(&mut w, a, &client_event("private-a", &json!("x".repeat(101))), "limits.event_size");
    rejected(&mut w, b, &client_event("private-a", &json!(1)), "client_events");
    w.with(|hub, _| hub.set_time(Duration::from_secs(1)));
    for _ in 0..10 {
        published(&mut w, a, &client_event("private-a", &json!(1)));
    }
    rejected(&mut w, a, &client_event("private-a", &json!(1)), "limits.client_event_rate");
    w.with(|hub, _| hub.set_time(Duration::from_secs(2)));
    published(&mut w, a, &client_event("private-a", &json!(1)));
    assert!(w.closed.is_empty());
}

#[test]
fn a_signed_in_user_gets_its_own_events_and_can_be_disconnected() {
    let mut w = hub();
    let (a, socket) = connect_to(&mut w, 1);
    let user = r#"{"id":"7","name":"Ann"}"#;
    let sign_in = |user: &str| {
        let auth = auth(&format!("{socket}::user::{user}"));
        json!({"event": "pusher:signin", "data": {"auth": auth, "user_data": user}})
    };
    let success = json!({"event": "pusher:signin_success", "data": {"user_data": user}});
    assert_eq!(exchange(&mut w, a, &sign_in(user)), [success]);
    publish(&mut w, "shop:#server-to-user-7", Some("hello"), "{}", None);
    let event = json!({"event": "hello", "channel": "#server-to-user-7", "data": {}});
    assert_eq!(received(&mut w, a).0, [event]);
    assert_eq!(exchange(&mut w, a, &sign_in(user))[0]["data"]["message"], "signed in already");
    let action = tidings_hub::SessionAction::Disconnect {
        code: code::FORCE_DISCONNECT.number,
        reason: "bye".into(),
        except: vec![],
    };
    let of = |user: &str| tidings_hub::SessionCommand {
        user: user.into(),
        client: None,
        session: None,
        action: action.clone(),
    };
    w.with(|hub, fx| hub.apply_session_command(&of("7"), fx));
    assert_eq!(received(&mut w, a), (vec![], None), "the user of another app");
    w.with(|hub, fx| hub.apply_session_command(&of("shop:7"), fx));
    assert_eq!(received(&mut w, a).1, Some(4009));
}

fn sign_in(socket: &str, user: &Value) -> Value {
    let user = user.to_string();
    let auth = auth(&format!("{socket}::user::{user}"));
    json!({"event": "pusher:signin", "data": {"auth": auth, "user_data": user}})
}

fn watched(name: &str, user: &str) -> Value {
    let events = json!({"events": [{"name": name, "user_ids": [user]}]});
    json!({"event": "pusher_internal:watchlist_events", "data": events})
}

#[test]
fn a_signed_in_user_gets_online_and_offline_events_of_its_watchlist_once() {
    let mut w = hub();
    let (ann, ann_socket) = connect(&mut w);
    let user = json!({"id": "ann", "watchlist": ["zoe", "bob", "ann"]});
    let messages = exchange(&mut w, ann, &sign_in(&ann_socket, &user));
    assert_eq!(messages.len(), 1, "{messages:?}");
    // Two users are watched, and not the own one. The members of their channels are read from the broker.
    respond_members(&mut w, &[]);
    respond_members(&mut w, &[member("other-node", "zoe")]);
    assert!(w.pending_requests.is_empty());
    assert_eq!(received(&mut w, ann).0, [watched("online", "zoe")]);
    announce(&mut w);

    let (bob, bob_socket) = connect(&mut w);
    exchange(&mut w, bob, &sign_in(&bob_socket, &json!({"id": "bob"})));
    announce(&mut w);
    let (again, again_socket) = connect(&mut w);
    exchange(&mut w, again, &sign_in(&again_socket, &json!({"id": "bob"})));
    announce(&mut w);
    assert_eq!(received(&mut w, ann).0, [watched("online", "bob")]);
    // A later watcher learns it at once, because the members are known on this shard.
    let (cat, cat_socket) = connect(&mut w);
    let messages = exchange(&mut w, cat, &sign_in(&cat_socket, &json!({"id": "cat", "watchlist": ["bob"]})));
    assert_eq!(messages[1..], [watched("online", "bob")]);

    w.close(bob);
    announce(&mut w);
    assert_eq!(received(&mut w, ann).0, Vec::<Value>::new(), "the user has another connection");
    w.close(again);
    announce(&mut w);
    assert_eq!(received(&mut w, ann).0, [watched("offline", "bob")]);
    assert_eq!(received(&mut w, cat).0, [watched("offline", "bob")]);
    // Watchers are no members: no leave is published for them.
    w.close(cat);
    let left = w.notifications.iter().filter(|event| matches!(event, Notification::Left(..))).count();
    assert_eq!(left, 1, "{:?}", w.notifications);
}

#[test]
fn users_whose_state_could_not_be_read_are_read_again_in_turn() {
    let mut w = hub();
    w.with(|hub, _| hub.set_time(Duration::from_secs(1_000)));
    let (ann, socket) = connect(&mut w);
    let users: Vec<String> = (0..20).map(|number| format!("user-{number}")).collect();
    exchange(&mut w, ann, &sign_in(&socket, &json!({"id": "ann", "watchlist": users})));
    while let Some((id, ticket, _)) = w.pending_requests.pop_front() {
        w.with(|hub, fx| hub.respond(id, ticket, Response::Failed(Failure::Unavailable), fx));
    }
    assert_eq!(received(&mut w, ann).0, Vec::<Value>::new());
    let mut online = BTreeSet::new();
    for ping in 1..=3 {
        w.with(|hub, _| hub.set_time(Duration::from_secs(1_000 + 25 * ping)));
        w.expire(ann, Timer::Ping);
        while let Some((id, ticket, request)) = w.pending_requests.pop_front() {
            let Request::Presence(channel) = request else { panic!("{request:?}") };
            let user = channel.as_str().strip_prefix("#online-").expect("a user").to_owned();
            let members = Response::Members(vec![member("other-node", &user)]);
            w.with(|hub, fx| hub.respond(id, ticket, members, fx));
        }
        for message in received(&mut w, ann).0 {
            if let Some(user) = message["data"]["events"][0]["user_ids"][0].as_str() {
                assert!(online.insert(user.to_owned()), "{user} twice");
            }
        }
        send(&mut w, ann, &json!({"event": "pusher:pong", "data": {}}));
    }
    assert_eq!(online, users.into_iter().collect());
}

#[test]
fn a_member_of_another_protocol_is_not_the_watched_user() {
    let mut w = hub();
    let (ann, socket) = connect(&mut w);
    exchange(&mut w, ann, &sign_in(&socket, &json!({"id": "ann", "watchlist": ["bob"]})));
    respond_members(&mut w, &[member("other-node", "mallory")]);
    assert_eq!(received(&mut w, ann).0, Vec::<Value>::new());
    let channel = Channel::new("#online-bob").unwrap();
    for joined in [true, false] {
        w.with(|hub, fx| hub.on_presence_change(&channel, joined, &member("other", "eve"), fx));
    }
    assert_eq!(received(&mut w, ann).0, Vec::<Value>::new());
    w.with(|hub, fx| hub.on_presence_change(&channel, true, &member("own", "bob"), fx));
    assert_eq!(received(&mut w, ann).0, [watched("online", "bob")]);
}

#[test]
fn a_watchlist_has_limits_and_the_user_is_signed_in_all_the_same() {
    let mut w = hub();
    let rejected = |text: &str| json!({"event": "pusher:error", "data": {"code": 4302, "message": text}});
    let long: Vec<String> = (0..101).map(|number| number.to_string()).collect();
    for (watchlist, text) in [
        (json!(long), "the watchlist has more than 100 users"),
        (json!("bob"), "the watchlist must be a list of user ids"),
        (json!([""]), "a user id has 1 to 128 bytes without control characters"),
    ] {
        let (ann, socket) = connect(&mut w);
        let messages = exchange(&mut w, ann, &sign_in(&socket, &json!({"id": "a", "watchlist": watchlist})));
        assert_eq!(messages[0]["event"], "pusher:signin_success");
        assert_eq!(messages[1..], [rejected(text)]);
        w.close(ann);
    }
    // Watched users count as channels of the connection: 128, of which the user has two.
    let (ann, socket) = connect(&mut w);
    for number in 0..100 {
        send(&mut w, ann, &subscribe(&format!("news-{number}")));
    }
    received(&mut w, ann);
    let many: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let messages = exchange(&mut w, ann, &sign_in(&socket, &json!({"id": "a", "watchlist": many})));
    let errors: Vec<&Value> = messages.iter().filter(|message| message["event"] == "pusher:error").collect();
    assert_eq!(errors.len(), 1, "{messages:?}");
    assert_eq!(errors[0]["data"]["code"], 4302);
    // An app without watchlists ignores them.
    let (shop, socket) = connect_to(&mut w, 1);
    w.pending_requests.clear();
    let messages = exchange(&mut w, shop, &sign_in(&socket, &json!({"id": "a", "watchlist": ["b"]})));
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(w.pending_requests.is_empty());
}

#[test]
fn a_sign_in_that_is_not_valid_ends_the_connection() {
    let mut w = hub();
    for user in [r#"{"id":""}"#, "{}", r#"{"id":"blocked"}"#] {
        let (a, socket) = connect(&mut w);
        let auth = auth(&format!("{socket}::user::{user}"));
        send(&mut w, a, &json!({"event": "pusher:signin", "data": {"auth": auth, "user_data": user}}));
        assert_eq!(received(&mut w, a).1, Some(4009), "{user}");
        w.close(a);
    }
    let (a, _) = connect(&mut w);
    let auth = auth("1.2::user::{\"id\":\"1\"}");
    send(
        &mut w,
        a,
        &json!({"event": "pusher:signin", "data": {"auth": auth, "user_data": "{\"id\":\"1\"}"}}),
    );
    assert_eq!(received(&mut w, a).1, Some(4009), "the signature of another connection");
}

#[test]
fn signing_in_keeps_the_memberships() {
    let mut w = hub();
    let (a, socket) = connect(&mut w);
    send(&mut w, a, &subscribe_presence("presence-a", &socket, "ann"));
    respond_members(&mut w, &[]);
    let user = r#"{"id":"ann"}"#;
    let auth = auth(&format!("{socket}::user::{user}"));
    send(&mut w, a, &json!({"event": "pusher:signin", "data": {"auth": auth, "user_data": user}}));
    w.notifications.clear();
    w.close(a);
    let ended: Vec<&str> = w
        .notifications
        .iter()
        .map(|event| match event {
            Notification::Absent(channel, ..) | Notification::Left(channel, ..) => channel.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ended.iter().filter(|channel| **channel == "presence-a").count(), 2, "{ended:?}");
    assert_eq!(ended.iter().filter(|channel| **channel == "#online-ann").count(), 2, "{ended:?}");
}

#[test]
fn pings_are_answered_in_both_directions() {
    let mut w = hub();
    let (a, _) = connect(&mut w);
    let pong = json!({"event": "pusher:pong", "data": {}});
    assert_eq!(exchange(&mut w, a, &json!({"event": "pusher:ping", "data": {}})), [pong]);
    w.expire(a, Timer::Ping);
    assert_eq!(received(&mut w, a).0, [json!({"event": "pusher:ping", "data": {}})]);
    send(&mut w, a, &json!({"event": "pusher:pong", "data": {}}));
    w.expire(a, Timer::Pong);
    assert!(!w.closed.contains(&a));
    w.expire(a, Timer::Ping);
    w.expire(a, Timer::Pong);
    assert_eq!(received(&mut w, a).1, Some(4201));
}

#[test]
fn a_message_that_is_not_valid_is_an_error_and_the_connection_goes_on() {
    let mut w = hub();
    let (a, _) = connect(&mut w);
    for text in
        ["", "{", "[]", "{\"event\":\"pusher:unknown\"}", "{\"event\":\"pusher:subscribe\",\"data\":{}}"]
    {
        send_text(&mut w, a, text);
        let (messages, closed) = received(&mut w, a);
        assert_eq!((messages.len(), closed), (1, None), "{text}");
        assert_eq!(
            (&messages[0]["event"], &messages[0]["data"]["code"]),
            (&json!("pusher:error"), &Value::Null)
        );
    }
    assert_eq!(exchange(&mut w, a, &subscribe("news")), [succeeded("news", &json!({}))]);
}

#[test]
fn a_close_code_states_whether_to_connect_again() {
    let mut w = hub();
    for (reason, number) in [
        (CloseReason::Shutdown(Duration::ZERO), 4200),
        (CloseReason::Slow(3), 4100),
        (CloseReason::Overloaded, 4100),
        (CloseReason::Code(code::FORCE_DISCONNECT.number, "bye".into()), 4009),
        (CloseReason::Done, 1000),
    ] {
        let (a, _) = connect(&mut w);
        w.with(|hub, fx| hub.end(a, &reason, fx));
        assert_eq!(received(&mut w, a).1, Some(number), "{reason:?}");
        w.close(a);
    }
    let (a, _) = connect(&mut w);
    send(&mut w, a, &subscribe("news"));
    received(&mut w, a);
    let topic = Topic::Channel(Channel::new("news").unwrap());
    w.with(|hub, fx| hub.on_publications_lost(&topic, fx));
    assert_eq!(received(&mut w, a).1, Some(4200), "events were lost");
}

#[test]
fn subscribers_get_the_number_of_subscriptions() {
    let mut w = hub();
    let (a, _) = connect(&mut w);
    let (b, _) = connect_to(&mut w, 1);
    for slot in [a, b] {
        send(&mut w, slot, &subscribe("news"));
        received(&mut w, slot);
    }
    let counts = [(Channel::new("shop:news").unwrap(), 7), (Channel::new("shop:other").unwrap(), 3)];
    w.with(|hub, fx| tidings_session::subscription_counts(hub, &counts, fx));
    let count = change("subscription_count", "news", &json!({"subscription_count": 7}));
    assert_eq!((received(&mut w, a).0, received(&mut w, b).0), (vec![], vec![count]));
}

#[test]
fn an_idle_session_keeps_nothing() {
    let mut w = hub();
    let (a, _) = connect(&mut w);
    send(&mut w, a, &subscribe("news"));
    received(&mut w, a);
    w.input(a, []);
    assert!(w.hub.is_idle(a));
}
