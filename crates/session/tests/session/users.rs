//! Clients with a user: tokens, presence, commands of the application, expiry.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidings_capabilities::Capabilities;
use tidings_hub::{
    Access, Admission, AuthorizationRequest, ChannelOverrides, Connected, Failure, NamespaceOptions,
    Namespaces, Rejection, SessionAction, SessionCommand, Settings, Slot, Timer,
};
use tidings_session::{Effects, Notification, Request, Response};
use tidings_wire::{Channel, ClientInfo, Topic, code};

use crate::test_hub::{Broker, TestHub, named, settings};

fn channel(name: &str) -> Channel {
    Channel::new(name).unwrap()
}

/// The authority of the tests. A token is the name of its user; `subs` has two subscriptions, `late` expires.
fn authority(decision: &AuthorizationRequest) -> Response {
    match decision {
        AuthorizationRequest::Reject { .. } => Response::Failed(Rejection::from(code::UNAUTHORIZED).into()),
        AuthorizationRequest::Renew { .. } => Response::Failed(Rejection::from(code::EXPIRED).into()),
        AuthorizationRequest::Connect { token, .. } if token == "bad" => {
            Response::Failed(Rejection::from(code::UNAUTHORIZED).into())
        }
        AuthorizationRequest::Connect { token, .. } if token == "expired" => {
            Response::Failed(Rejection::from(code::TOKEN_EXPIRED).into())
        }
        AuthorizationRequest::Connect { token, .. } if token == "banned" => {
            Response::Failed(Failure::Disconnect(4500, "go away".into()))
        }
        AuthorizationRequest::Connect { token, .. } => Response::Connected(Box::new(Connected {
            user: token.clone(),
            expires: (token == "late").then_some(1_060),
            info: Some(r#"{"name":"Ann"}"#.into()),
            data: Some(r#"{"hello":1}"#.into()),
            subs: if token == "subs" {
                vec![(channel("one"), Admission::default()), (channel("two"), Admission::default())]
            } else {
                vec![]
            },
            ..Connected::default()
        })),
        AuthorizationRequest::Subscribe { token, .. } if token == "no" => {
            Response::Failed(Rejection::from(code::PERMISSION_DENIED).into())
        }
        AuthorizationRequest::Subscribe { .. } => Response::Allowed(Box::new(Admission {
            info: Some("[7]".into()),
            expires: Some(1_030),
            overrides: ChannelOverrides { presence: Some(true), ..ChannelOverrides::default() },
            ..Admission::default()
        })),
        AuthorizationRequest::Refresh { .. } | AuthorizationRequest::SubRefresh { .. } => {
            Response::Renewed(Box::new(tidings_hub::Renewed { expires: Some(2_000), ..Default::default() }))
        }
        AuthorizationRequest::Rpc { data, .. } => Response::Replied(data.clone()),
        AuthorizationRequest::SignIn { user, .. } => {
            Response::Connected(Box::new(Connected { user: user.clone(), ..Connected::default() }))
        }
        AuthorizationRequest::Publish { .. } => Response::Published(1),
    }
}

fn options() -> NamespaceOptions {
    NamespaceOptions {
        allow_subscribe_for_client: true,
        allow_publish_for_subscriber: true,
        allow_user_limited_channels: true,
        ..NamespaceOptions::default()
    }
}

fn with_tokens(options: NamespaceOptions) -> TestHub {
    let access = Access { open: false, tokens: true, ..Access::default() };
    let namespaces = Namespaces::new(options, []).with_private_prefix("$");
    let mut w = TestHub::without_auto_subscribe(Settings { access, namespaces, ..settings() });
    w.authority = authority;
    w.hub.set_time(Duration::from_secs(1_000));
    w
}

fn exchange(w: &mut TestHub, slot: Slot, command: &Value) -> Vec<Value> {
    w.input(slot, format!("{command}\n"));
    read(w, slot)
}

fn read(w: &mut TestHub, slot: Slot) -> Vec<Value> {
    w.output(slot).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn connect(w: &mut TestHub, token: &str) -> (Slot, Value) {
    let slot = w.open();
    let response = exchange(w, slot, &json!({"id": 1, "connect": {"token": token}}));
    (slot, response.into_iter().next().unwrap_or_default())
}

fn subscribe(w: &mut TestHub, slot: Slot, name: &str) -> Value {
    exchange(w, slot, &json!({"id": 2, "subscribe": {"channel": name}})).remove(0)
}

#[test]
fn a_token_sets_the_user_and_an_invalid_one_is_rejected() {
    let mut w = with_tokens(options());
    let (slot, response) = connect(&mut w, "ann");
    assert_eq!(response["connect"]["data"], json!({"hello": 1}));
    assert!(subscribe(&mut w, slot, "news")["subscribe"].is_object());
    for (token, code) in [("bad", 101), ("expired", 109), ("", 101)] {
        let (slot, response) = connect(&mut w, token);
        assert_eq!(response["error"]["code"], code, "{token}");
        let ended = exchange(&mut w, slot, &json!({"id": 2, "subscribe": {"channel": "news"}}));
        assert_eq!(ended[0]["push"]["disconnect"]["code"], 3501, "not connected");
    }
    let (slot, response) = connect(&mut w, "banned");
    assert_eq!(response["push"]["disconnect"]["code"], 4500);
    assert!(w.closed.contains(&slot));
}

#[test]
fn subscriptions_by_the_server_are_in_the_reply_and_live() {
    let mut w = with_tokens(options());
    let (slot, response) = connect(&mut w, "subs");
    let subs = response["connect"]["subs"].as_object().unwrap();
    assert_eq!(subs.keys().collect::<Vec<_>>(), ["one", "two"]);
    w.publish("two", "1");
    assert_eq!(read(&mut w, slot)[0]["push"]["channel"], "two");
    // The client cannot request lost publications of a server-side subscription: it reconnects.
    w.with(|hub, fx| hub.on_publications_lost(&Topic::Channel(channel("one")), fx));
    assert_eq!(read(&mut w, slot)[0]["push"]["disconnect"]["code"], 3010);
}

#[test]
fn a_user_has_a_personal_channel_that_others_cannot_access() {
    let mut w = TestHub::without_auto_subscribe(Settings {
        personal_channel: Some(String::new()),
        access: Access { open: false, tokens: true, ..Access::default() },
        namespaces: Namespaces::new(options(), []),
        ..settings()
    });
    w.authority = authority;
    let (ann, response) = connect(&mut w, "ann");
    assert!(response["connect"]["subs"]["#ann"].is_object());
    let (bob, _) = connect(&mut w, "bob");
    assert_eq!(subscribe(&mut w, bob, "#ann")["error"]["code"], 103);
    assert!(subscribe(&mut w, bob, "dialog#ann,bob")["subscribe"].is_object());
    assert_eq!(subscribe(&mut w, ann, "dialog#bob,carl")["error"]["code"], 103);
    w.publish("#ann", "1");
    assert_eq!(read(&mut w, ann).len(), 1);
    assert!(read(&mut w, bob).is_empty());
}

#[test]
fn a_private_channel_requires_a_subscription_token() {
    let mut w = with_tokens(options());
    let (slot, _) = connect(&mut w, "ann");
    assert_eq!(subscribe(&mut w, slot, "$vip")["error"]["code"], 103);
    let refused = exchange(&mut w, slot, &json!({"id": 3, "subscribe": {"channel": "$vip", "token": "no"}}));
    assert_eq!(refused[0]["error"]["code"], 103);
    let allowed = exchange(&mut w, slot, &json!({"id": 4, "subscribe": {"channel": "$vip", "token": "yes"}}));
    assert_eq!(
        (&allowed[0]["subscribe"]["expires"], &allowed[0]["subscribe"]["ttl"]),
        (&json!(true), &json!(30))
    );
    // The token enables presence, and contains the information for other clients.
    let [Notification::Present(of, info, _)] = &w.notifications[..] else { panic!("{:?}", w.notifications) };
    assert_eq!((of.as_str(), &*info.user), ("$vip", "ann"));
    assert_eq!(info.chan_info.as_deref(), Some(&b"[7]"[..]));
}

#[test]
fn an_expired_connection_ends_and_a_renewed_one_stays() {
    let mut w = with_tokens(options());
    let (late, response) = connect(&mut w, "late");
    assert_eq!((&response["connect"]["expires"], &response["connect"]["ttl"]), (&json!(true), &json!(60)));
    let expiry = w.timers.iter().find(|(_, timer, _)| *timer == Timer::Expiry).expect("a timer");
    assert_eq!(expiry.2, Duration::from_secs(85), "including the time for a new token");
    w.hub.set_time(Duration::from_secs(1_085));
    let renewed = exchange(&mut w, late, &json!({"id": 2, "refresh": {"token": "new"}}));
    assert_eq!(renewed[0]["refresh"]["ttl"], 915);
    w.expire(late, Timer::Expiry);
    assert!(!w.closed.contains(&late));
    w.hub.set_time(Duration::from_secs(2_025));
    w.expire(late, Timer::Expiry);
    assert_eq!(read(&mut w, late)[0]["push"]["disconnect"]["code"], 3005);
    assert!(w.closed.contains(&late));
}

#[test]
fn an_expired_subscription_ends_and_a_renewed_one_stays() {
    let mut w = with_tokens(options());
    let (slot, _) = connect(&mut w, "ann");
    exchange(&mut w, slot, &json!({"id": 4, "subscribe": {"channel": "$vip", "token": "yes"}}));
    w.hub.set_time(Duration::from_secs(1_055));
    let renewed =
        exchange(&mut w, slot, &json!({"id": 5, "sub_refresh": {"channel": "$vip", "token": "new"}}));
    assert_eq!(renewed[0]["sub_refresh"]["ttl"], 945);
    w.expire(slot, Timer::SubExpiry);
    assert!(read(&mut w, slot).is_empty());
    w.hub.set_time(Duration::from_secs(2_025));
    w.expire(slot, Timer::SubExpiry);
    assert_eq!(read(&mut w, slot)[0]["push"]["unsubscribe"]["code"], 2501);
    let unknown =
        exchange(&mut w, slot, &json!({"id": 6, "sub_refresh": {"channel": "$vip", "token": "new"}}));
    assert_eq!(unknown[0]["error"]["code"], 103);
}

#[test]
fn presence_is_refreshed_and_ends_with_the_subscription() {
    let mut w = with_tokens(NamespaceOptions { presence: true, join_leave: true, ..options() });
    let (slot, _) = connect(&mut w, "ann");
    subscribe(&mut w, slot, "room");
    assert!(
        matches!(&w.notifications[..], [Notification::Present(..), Notification::Joined(..)]),
        "{:?}",
        w.notifications
    );
    w.expire(slot, Timer::Presence);
    assert!(matches!(w.notifications.last(), Some(Notification::Present(..))));
    w.notifications.clear();
    exchange(&mut w, slot, &json!({"id": 3, "unsubscribe": {"channel": "room"}}));
    assert!(
        matches!(&w.notifications[..], [Notification::Absent(..), Notification::Left(..)]),
        "{:?}",
        w.notifications
    );
    subscribe(&mut w, slot, "room");
    w.notifications.clear();
    w.close(slot);
    assert!(
        matches!(&w.notifications[..], [Notification::Absent(..), Notification::Left(..)]),
        "also when the connection is closed"
    );
}

#[test]
fn joins_and_leaves_are_sent_only_to_subscribers_that_request_them() {
    let mut w =
        with_tokens(NamespaceOptions { join_leave: true, allow_presence_for_subscriber: true, ..options() });
    let (watching, _) = connect(&mut w, "ann");
    exchange(&mut w, watching, &json!({"id": 2, "subscribe": {"channel": "room", "join_leave": true}}));
    let (quiet, _) = connect(&mut w, "bob");
    subscribe(&mut w, quiet, "room");
    let info = ClientInfo { user: "carl".into(), client: "c".into(), conn_info: None, chan_info: None };
    for (joined, name) in [(true, "join"), (false, "leave")] {
        w.with(|hub, fx| hub.on_presence_change(&channel("room"), joined, &info, fx));
        let pushes = read(&mut w, watching);
        assert_eq!(pushes[0]["push"][name]["info"]["user"], "carl");
        assert!(read(&mut w, quiet).is_empty());
    }
}

#[test]
fn an_order_reaches_exactly_the_connections_of_a_user() {
    let mut w = with_tokens(options());
    let users: Vec<Slot> = ["ann", "ann", "bob"].iter().map(|user| connect(&mut w, user).0).collect();
    let action =
        |action: SessionAction| SessionCommand { user: "ann".into(), client: None, session: None, action };
    let sub = SessionAction::Subscribe { channel: channel("vip"), admission: Box::default(), since: None };
    w.with(|hub, fx| hub.apply_session_command(&action(sub), fx));
    for (slot, count) in users.iter().zip([1, 1, 0]) {
        let pushes = read(&mut w, *slot);
        assert_eq!(pushes.len(), count);
        assert!(pushes.iter().all(|push| push["push"]["subscribe"].is_object()));
    }
    w.publish("vip", "1");
    assert_eq!([read(&mut w, users[0]).len(), read(&mut w, users[2]).len()], [1, 0]);
    read(&mut w, users[1]);
    let unsub = SessionAction::Unsubscribe { channel: None, code: 2000, reason: "enough".into() };
    w.with(|hub, fx| hub.apply_session_command(&action(unsub), fx));
    assert_eq!(read(&mut w, users[0])[0]["push"]["unsubscribe"]["code"], 2000);
    read(&mut w, users[1]);
    let refresh = SessionAction::Refresh { expired: false, expires: Some(1_500) };
    w.with(|hub, fx| hub.apply_session_command(&action(refresh), fx));
    assert_eq!(read(&mut w, users[0])[0]["push"]["refresh"]["ttl"], 500);
    let end = SessionAction::Disconnect { code: 3503, reason: "force disconnect".into(), except: vec![] };
    w.with(|hub, fx| hub.apply_session_command(&action(end), fx));
    assert!(w.closed.contains(&users[0]) && w.closed.contains(&users[1]) && !w.closed.contains(&users[2]));
}

#[test]
fn an_order_to_unsubscribe_also_cancels_pending_subscribes() {
    let mut w = with_tokens(options());
    let (slot, _) = connect(&mut w, "ann");
    w.broker = Broker::Slow;
    let action =
        |action: SessionAction| SessionCommand { user: "ann".into(), client: None, session: None, action };
    let sub = SessionAction::Subscribe { channel: channel("vip"), admission: Box::default(), since: None };
    w.with(|hub, fx| hub.apply_session_command(&action(sub), fx));
    let unsub = SessionAction::Unsubscribe { channel: Some(channel("vip")), code: 2000, reason: "no".into() };
    w.with(|hub, fx| hub.apply_session_command(&action(unsub), fx));
    w.with(|hub, fx| hub.on_topic_live(&Topic::Channel(channel("vip")), fx));
    assert!(read(&mut w, slot).is_empty() && w.subscribed_topics.is_empty());
    assert_eq!(w.hub.stats().subscriptions, 0);
}

#[test]
fn an_order_can_target_one_connection() {
    let mut w = with_tokens(options());
    let (first, response) = connect(&mut w, "ann");
    let (second, _) = connect(&mut w, "ann");
    let client = response["connect"]["client"].as_str().map(str::to_owned);
    let action = SessionAction::Disconnect { code: 3500, reason: "x".into(), except: vec![] };
    let command = SessionCommand { user: String::new(), client, session: None, action };
    w.with(|hub, fx| hub.apply_session_command(&command, fx));
    assert!(w.closed.contains(&first) && !w.closed.contains(&second));
}

#[test]
fn an_order_without_a_target_is_for_anonymous_connections() {
    let mut w = with_tokens(options());
    w.authority = |decision| match decision {
        AuthorizationRequest::Connect { token, .. } if token == "anonymous" => {
            Response::Connected(Box::default())
        }
        other => authority(other),
    };
    let [ann, anonymous] = ["ann", "anonymous"].map(|token| connect(&mut w, token).0);
    let silent = w.open();
    let action = SessionAction::Refresh { expired: true, expires: None };
    let command = SessionCommand { user: String::new(), client: None, session: None, action };
    w.with(|hub, fx| hub.apply_session_command(&command, fx));
    assert_eq!(read(&mut w, anonymous)[0]["push"]["disconnect"]["code"], 3005);
    assert!(w.closed.contains(&anonymous) && !w.closed.contains(&ann) && !w.closed.contains(&silent));
}

#[test]
fn requests_are_answered_in_the_order_of_their_responses() {
    let mut w =
        with_tokens(NamespaceOptions { presence: true, allow_presence_for_client: true, ..options() });
    let (slot, _) = connect(&mut w, "ann");
    exchange(&mut w, slot, &json!({"id": 2, "presence": {"channel": "a"}}));
    exchange(&mut w, slot, &json!({"id": 3, "presence_stats": {"channel": "a"}}));
    let echoed = exchange(&mut w, slot, &json!({"id": 4, "rpc": {"method": "m", "data": {"x": 1}}}));
    assert_eq!(echoed[0], json!({"id": 4, "rpc": {"data": {"x": 1}}}), "before the other two responses");
    let requests: Vec<_> = w.pending_requests.drain(..).collect();
    for (id, ticket, request) in requests.into_iter().rev() {
        let response = match request {
            Request::Presence(_) => Response::Members(vec![]),
            _ => Response::Presence(3, 2),
        };
        w.with(|hub, fx| hub.respond(id, ticket, response, fx));
    }
    let replies = read(&mut w, slot);
    assert_eq!(replies[0], json!({"id": 3, "presence_stats": {"num_clients": 3, "num_users": 2}}));
    assert_eq!(replies[1]["id"], 2);
}

#[test]
fn missing_features_of_a_channel_are_not_available_and_missing_rights_are_denied() {
    let mut w = with_tokens(NamespaceOptions { presence: true, ..options() });
    let (slot, _) = connect(&mut w, "ann");
    let code = |w: &mut TestHub, command: Value| exchange(w, slot, &command)[0]["error"]["code"].as_u64();
    assert_eq!(code(&mut w, json!({"id": 2, "history": {"channel": "a"}})), Some(108));
    assert_eq!(code(&mut w, json!({"id": 3, "presence": {"channel": "a"}})), Some(103));
    assert_eq!(code(&mut w, json!({"id": 4, "publish": {"channel": "a", "data": 1}})), Some(103));
    assert_eq!(code(&mut w, json!({"id": 5, "publish": {"channel": "a\tb", "data": 1}})), Some(107));
}

#[test]
fn a_connection_token_works_as_a_password_on_plain_lines_and_resp() {
    let mut w = with_tokens(options());
    let line = w.open();
    assert_eq!(w.exchange(line, "AUTH bad\r\n"), "ERROR 101 unauthorized\r\n");
    assert_eq!(w.exchange(line, "SUBSCRIBE news\r\n"), "ERROR 103 permission denied\r\n");
    assert_eq!(w.exchange(line, "AUTH ann\r\nSUBSCRIBE news\r\n"), "CONFIRMED\r\nCONFIRMED\r\n");
    let resp = w.open();
    assert!(
        w.exchange(resp, "*3\r\n$4\r\nAUTH\r\n$1\r\nx\r\n$7\r\nexpired\r\n").starts_with("-WRONGPASS 109")
    );
    assert_eq!(w.exchange(resp, "*3\r\n$4\r\nAUTH\r\n$1\r\nx\r\n$3\r\nann\r\n"), "+OK\r\n");
    let modern = w.open();
    let hello = |token: &str| {
        format!(
            "*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n${}\r\n{token}\r\n",
            token.len()
        )
    };
    assert!(w.exchange(modern, hello("bad")).starts_with("-WRONGPASS 101"));
    assert!(w.exchange(modern, hello("ann")).starts_with("%7\r\n"), "in RESP3, as requested");
}

#[test]
fn lost_publications_are_reported_in_every_protocol() {
    let mut w = TestHub::without_auto_subscribe(settings());
    let plain = w.open();
    w.exchange(plain, "SUBSCRIBE news\r\n");
    let resp = w.open();
    w.exchange(resp, "*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nnews\r\n");
    let json = w.open();
    w.exchange(json, "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}\n");
    w.with(|hub, fx| hub.on_publications_lost(&Topic::Channel(channel("news")), fx));
    assert_eq!(w.output(plain), "ERROR 2500 insufficient state: messages of news were lost\r\n");
    assert!(w.output(resp).starts_with("-ERR 3010") && w.closed.contains(&resp));
    assert_eq!(read(&mut w, json)[0]["push"]["unsubscribe"]["code"], 2500);
    w.publish("news", "on");
    assert_eq!(w.output(plain), "MESSAGE news on\r\n", "the subscription continues");
}

#[test]
fn decisions_of_the_application_apply_in_every_protocol() {
    let hooks = NamespaceOptions {
        subscribe_proxy: true,
        publish_proxy: true,
        allow_subscribe_for_anonymous: true,
        allow_publish_for_anonymous: true,
        ..NamespaceOptions::default()
    };
    let mut w = TestHub::new(Settings { namespaces: Namespaces::new(hooks, []), ..settings() });
    w.authority = |decision| match decision {
        AuthorizationRequest::Publish { body, .. } if body == "no" => {
            Response::Failed(Rejection::from(code::PERMISSION_DENIED).into())
        }
        other => authority(other),
    };
    let plain = w.open();
    assert_eq!(
        w.exchange(plain, "PUBLISH news yes\r\nPUBLISH news no\r\n"),
        "CONFIRMED\r\nERROR 103 permission denied\r\n"
    );
    assert_eq!(w.exchange(plain, "SUBSCRIBE news\r\n"), "ERROR 103 permission denied\r\n");
    assert!(w.subscribed_topics.is_empty(), "automatic subscriptions need the permission as well");
    let resp = w.open();
    let publish = |body: &str| format!("*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n${}\r\n{body}\r\n", body.len());
    assert_eq!(w.exchange(resp, publish("yes")), ":1\r\n");
    assert!(w.exchange(resp, publish("no")).starts_with("-NOPERM 103"));
    let json = w.open();
    exchange(&mut w, json, &json!({"id": 1, "connect": {}}));
    assert!(subscribe(&mut w, json, "news")["subscribe"].is_object(), "the application allows it");
    assert_eq!(w.notifications.len(), 1, "with the presence that the application enabled");
}

#[test]
fn an_expiry_in_the_far_future_costs_nothing_and_ends_no_session() {
    let mut w = with_tokens(options());
    w.authority = |decision| match decision {
        AuthorizationRequest::Refresh { .. } => Response::Renewed(Box::new(tidings_hub::Renewed {
            expires: Some(u64::MAX),
            ..Default::default()
        })),
        other => authority(other),
    };
    let (slot, _) = connect(&mut w, "late");
    let timers = w.timers.len();
    for id in 2..200 {
        exchange(&mut w, slot, &json!({"id": id, "refresh": {"token": "new"}}));
    }
    assert_eq!(w.timers.len(), timers, "the running timer is sufficient");
    for _ in 0..3 {
        w.hub.set_time(Duration::from_secs(1_000_000));
        w.expire(slot, Timer::Expiry);
    }
    assert!(!w.closed.contains(&slot));
    assert!(
        w.timers.iter().all(|(_, _, after)| *after <= Duration::from_secs(600)),
        "no timer is longer than ten minutes"
    );
}

#[test]
fn a_ping_interval_below_a_second_is_sent_as_one_second() {
    let mut w = TestHub::new(Settings { ping_interval: Duration::from_millis(500), ..settings() });
    let slot = w.open();
    let response = exchange(&mut w, slot, &json!({"id": 1, "connect": {}}));
    assert_eq!(response[0]["connect"]["ping"], 1);
}

#[test]
fn an_event_source_may_request_the_channels_of_its_token() {
    let mut w = with_tokens(NamespaceOptions::default());
    let mut fx = Effects::default();
    let slot = w.hub.open_as(named("events").into(), None, &mut fx).slot;
    w.input(
        slot,
        "{\"id\":1,\"connect\":{\"token\":\"subs\"}}\n{\"id\":2,\"subscribe\":{\"channel\":\"one\"}}\n",
    );
    assert_eq!(w.output(slot), ":ok\n\n");
    w.publish("two", "not asked for");
    w.publish("one", "asked for");
    assert_eq!(w.output(slot), "data: asked for\n\n");
    let unsub = SessionAction::Unsubscribe { channel: None, code: 2000, reason: "enough".into() };
    let command = SessionCommand { user: "subs".into(), client: None, session: None, action: unsub };
    w.with(|hub, fx| hub.apply_session_command(&command, fx));
    assert!(w.output(slot).starts_with("event: error\ndata: {\"code\":3503"));
    assert!(w.closed.contains(&slot), "so that the client does not wait for ever");
}

#[test]
fn a_renewal_without_the_capability_leaves_no_subscription_that_waited_for_the_broker() {
    let mut w = with_tokens(NamespaceOptions::default());
    w.authority = |decision| {
        let caps = r#"[{"channels": ["news"], "allow": ["sub"]}]"#;
        let capabilities = Some(Arc::new(Capabilities::from_json(caps).expect("capabilities")));
        match decision {
            AuthorizationRequest::Connect { .. } => {
                let user = "ann".to_owned();
                Response::Connected(Box::new(Connected { user, capabilities, ..Connected::default() }))
            }
            AuthorizationRequest::Refresh { token, .. } => {
                let capabilities = Some(capabilities.filter(|_| token == "same"));
                Response::Renewed(Box::new(tidings_hub::Renewed { capabilities, ..Default::default() }))
            }
            other => authority(other),
        }
    };
    for (token, is_subscribed) in [("same", true), ("none", false)] {
        let slot = w.open();
        exchange(&mut w, slot, &json!({"id": 1, "connect": {"token": "ann"}}));
        w.set_broker(Broker::Slow);
        assert_eq!(
            exchange(&mut w, slot, &json!({"id": 2, "subscribe": {"channel": "news"}})),
            Vec::<Value>::new()
        );
        // The commands of a client take effect in their order.
        exchange(&mut w, slot, &json!({"id": 3, "refresh": {"token": token}}));
        w.set_broker(Broker::Up);
        assert_eq!(w.hub.is_subscribed(slot, &channel("news")), is_subscribed, "{token}");
        w.close(slot);
        assert!(w.subscribed_topics.is_empty(), "no topic is kept for it");
    }
}
