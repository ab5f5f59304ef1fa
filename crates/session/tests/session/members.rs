//! Tokens, presence, orders of the application, and time: what the client protocol promises to those who are
//! somebody.

use std::time::Duration;

use serde_json::{Value, json};
use tidings_hub::{
    Access, Admission, ChannelOverrides, Connected, Decide, Directive, Effects, Failure, NamespaceOptions,
    Namespaces, Notification, Order, Rejection, Request, Response, Settings, Slot, Timer,
};
use tidings_wire::{Channel, ClientInfo, Topic, code};

use crate::world::{Broker, World, named, settings};

fn channel(name: &str) -> Channel {
    Channel::new(name).unwrap()
}

/// Tokens are names of users here; `subs` gets two subscriptions, `late` expires.
fn authority(question: &Decide) -> Response {
    match question {
        Decide::Reject { .. } => Response::Failed(Rejection::from(code::UNAUTHORIZED).into()),
        Decide::Connect { token, .. } if token == "bad" => {
            Response::Failed(Rejection::from(code::UNAUTHORIZED).into())
        }
        Decide::Connect { token, .. } if token == "expired" => {
            Response::Failed(Rejection::from(code::TOKEN_EXPIRED).into())
        }
        Decide::Connect { token, .. } if token == "banned" => {
            Response::Failed(Failure::Disconnect(4500, "go away".into()))
        }
        Decide::Connect { token, .. } => Response::Connected(Box::new(Connected {
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
        Decide::Subscribe { token, .. } if token == "no" => {
            Response::Failed(Rejection::from(code::PERMISSION_DENIED).into())
        }
        Decide::Subscribe { .. } => Response::Allowed(Box::new(Admission {
            info: Some("[7]".into()),
            expires: Some(1_030),
            overrides: ChannelOverrides { presence: Some(true), ..ChannelOverrides::default() },
            ..Admission::default()
        })),
        Decide::Refresh { .. } | Decide::SubRefresh { .. } => {
            Response::Renewed { expires: Some(2_000), info: None, token: None }
        }
        Decide::Rpc { data, .. } => Response::Replied(data.clone()),
        Decide::Publish { .. } => Response::Published(1),
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

fn with_tokens(options: NamespaceOptions) -> World {
    let access = Access { open: false, tokens: true, ..Access::default() };
    let namespaces = Namespaces::new(options, []).with_private_prefix("$");
    let mut w = World::new(Settings { access, namespaces, auto_subscribe: vec![], ..settings() });
    w.authority = authority;
    w.hub.set_time(1_000);
    w
}

fn say(w: &mut World, slot: Slot, command: &Value) -> Vec<Value> {
    w.input(slot, format!("{command}\n"));
    read(w, slot)
}

fn read(w: &mut World, slot: Slot) -> Vec<Value> {
    w.output(slot).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn connect(w: &mut World, token: &str) -> (Slot, Value) {
    let slot = w.open();
    let answer = say(w, slot, &json!({"id": 1, "connect": {"token": token}}));
    (slot, answer.into_iter().next().unwrap_or_default())
}

fn subscribe(w: &mut World, slot: Slot, name: &str) -> Value {
    say(w, slot, &json!({"id": 2, "subscribe": {"channel": name}})).remove(0)
}

#[test]
fn a_token_makes_a_user_and_a_refused_one_never_an_anonymous_client() {
    let mut w = with_tokens(options());
    let (slot, answer) = connect(&mut w, "ann");
    assert_eq!(answer["connect"]["data"], json!({"hello": 1}));
    assert!(subscribe(&mut w, slot, "news")["subscribe"].is_object());
    for (token, code) in [("bad", 101), ("expired", 109), ("", 101)] {
        let (slot, answer) = connect(&mut w, token);
        assert_eq!(answer["error"]["code"], code, "{token}");
        let ended = say(&mut w, slot, &json!({"id": 2, "subscribe": {"channel": "news"}}));
        assert_eq!(ended[0]["push"]["disconnect"]["code"], 3501, "not connected");
    }
    let (slot, answer) = connect(&mut w, "banned");
    assert_eq!(answer["push"]["disconnect"]["code"], 4500);
    assert!(w.closed.contains(&slot));
}

#[test]
fn what_the_server_subscribes_a_client_to_is_in_the_answer_and_live() {
    let mut w = with_tokens(options());
    let (slot, answer) = connect(&mut w, "subs");
    let subs = answer["connect"]["subs"].as_object().unwrap();
    assert_eq!(subs.keys().collect::<Vec<_>>(), ["one", "two"]);
    w.publish("two", "1");
    assert_eq!(read(&mut w, slot)[0]["push"]["channel"], "two");
    // Lost publications cannot be asked for again by the client: it connects again.
    w.with(|hub, fx| hub.lost(&Topic::Channel(channel("one")), fx));
    assert_eq!(read(&mut w, slot)[0]["push"]["disconnect"]["code"], 3010);
}

#[test]
fn a_user_has_a_channel_of_its_own_and_no_other_gets_in() {
    let mut w = World::new(Settings {
        personal_channel: Some(String::new()),
        access: Access { open: false, tokens: true, ..Access::default() },
        namespaces: Namespaces::new(options(), []),
        auto_subscribe: vec![],
        ..settings()
    });
    w.authority = authority;
    let (ann, answer) = connect(&mut w, "ann");
    assert!(answer["connect"]["subs"]["#ann"].is_object());
    let (bob, _) = connect(&mut w, "bob");
    assert_eq!(subscribe(&mut w, bob, "#ann")["error"]["code"], 103);
    assert!(subscribe(&mut w, bob, "dialog#ann,bob")["subscribe"].is_object());
    assert_eq!(subscribe(&mut w, ann, "dialog#bob,carl")["error"]["code"], 103);
    w.publish("#ann", "1");
    assert_eq!(read(&mut w, ann).len(), 1);
    assert!(read(&mut w, bob).is_empty());
}

#[test]
fn a_private_channel_takes_a_subscription_token() {
    let mut w = with_tokens(options());
    let (slot, _) = connect(&mut w, "ann");
    assert_eq!(subscribe(&mut w, slot, "$vip")["error"]["code"], 103);
    let refused = say(&mut w, slot, &json!({"id": 3, "subscribe": {"channel": "$vip", "token": "no"}}));
    assert_eq!(refused[0]["error"]["code"], 103);
    let allowed = say(&mut w, slot, &json!({"id": 4, "subscribe": {"channel": "$vip", "token": "yes"}}));
    assert_eq!(
        (&allowed[0]["subscribe"]["expires"], &allowed[0]["subscribe"]["ttl"]),
        (&json!(true), &json!(30))
    );
    // The token switched presence on, and says what others see.
    let [Notification::Present(of, info, _)] = &w.told[..] else { panic!("{:?}", w.told) };
    assert_eq!((of.as_str(), &*info.user), ("$vip", "ann"));
    assert_eq!(info.chan_info.as_deref(), Some(&b"[7]"[..]));
}

#[test]
fn an_expired_connection_ends_and_a_renewed_one_stays() {
    let mut w = with_tokens(options());
    let (late, answer) = connect(&mut w, "late");
    assert_eq!((&answer["connect"]["expires"], &answer["connect"]["ttl"]), (&json!(true), &json!(60)));
    let expiry = w.timers.iter().find(|(_, timer, _)| *timer == Timer::Expiry).expect("a timer");
    assert_eq!(expiry.2, Duration::from_secs(85), "with the time to bring a new token");
    w.hub.set_time(1_085);
    let renewed = say(&mut w, late, &json!({"id": 2, "refresh": {"token": "new"}}));
    assert_eq!(renewed[0]["refresh"]["ttl"], 915);
    w.fire(late, Timer::Expiry);
    assert!(!w.closed.contains(&late));
    w.hub.set_time(2_025);
    w.fire(late, Timer::Expiry);
    assert_eq!(read(&mut w, late)[0]["push"]["disconnect"]["code"], 3005);
    assert!(w.closed.contains(&late));
}

#[test]
fn an_expired_subscription_ends_and_a_renewed_one_stays() {
    let mut w = with_tokens(options());
    let (slot, _) = connect(&mut w, "ann");
    say(&mut w, slot, &json!({"id": 4, "subscribe": {"channel": "$vip", "token": "yes"}}));
    w.hub.set_time(1_055);
    let renewed = say(&mut w, slot, &json!({"id": 5, "sub_refresh": {"channel": "$vip", "token": "new"}}));
    assert_eq!(renewed[0]["sub_refresh"]["ttl"], 945);
    w.fire(slot, Timer::SubExpiry);
    assert!(read(&mut w, slot).is_empty());
    w.hub.set_time(2_025);
    w.fire(slot, Timer::SubExpiry);
    assert_eq!(read(&mut w, slot)[0]["push"]["unsubscribe"]["code"], 2501);
    let unknown = say(&mut w, slot, &json!({"id": 6, "sub_refresh": {"channel": "$vip", "token": "new"}}));
    assert_eq!(unknown[0]["error"]["code"], 103);
}

#[test]
fn presence_is_said_again_and_again_and_ends_with_the_subscription() {
    let mut w = with_tokens(NamespaceOptions { presence: true, join_leave: true, ..options() });
    let (slot, _) = connect(&mut w, "ann");
    subscribe(&mut w, slot, "room");
    assert!(matches!(&w.told[..], [Notification::Present(..), Notification::Joined(..)]), "{:?}", w.told);
    w.fire(slot, Timer::Presence);
    assert!(matches!(w.told.last(), Some(Notification::Present(..))));
    w.told.clear();
    say(&mut w, slot, &json!({"id": 3, "unsubscribe": {"channel": "room"}}));
    assert!(matches!(&w.told[..], [Notification::Absent(..), Notification::Left(..)]), "{:?}", w.told);
    subscribe(&mut w, slot, "room");
    w.told.clear();
    w.close(slot);
    assert!(matches!(&w.told[..], [Notification::Absent(..), Notification::Left(..)]), "also when it is cut");
}

#[test]
fn others_are_told_who_comes_and_goes_only_if_they_want_to_know() {
    let mut w =
        with_tokens(NamespaceOptions { join_leave: true, allow_presence_for_subscriber: true, ..options() });
    let (curious, _) = connect(&mut w, "ann");
    say(&mut w, curious, &json!({"id": 2, "subscribe": {"channel": "room", "join_leave": true}}));
    let (quiet, _) = connect(&mut w, "bob");
    subscribe(&mut w, quiet, "room");
    let info = ClientInfo { user: "carl".into(), client: "c".into(), conn_info: None, chan_info: None };
    for (joined, name) in [(true, "join"), (false, "leave")] {
        w.with(|hub, fx| hub.changed(&channel("room"), joined, &info, fx));
        let told = read(&mut w, curious);
        assert_eq!(told[0]["push"][name]["info"]["user"], "carl");
        assert!(read(&mut w, quiet).is_empty());
    }
}

#[test]
fn an_order_reaches_all_connections_of_a_user_and_nobody_else() {
    let mut w = with_tokens(options());
    let users: Vec<Slot> = ["ann", "ann", "bob"].iter().map(|user| connect(&mut w, user).0).collect();
    let order = |order: Order| Directive { user: "ann".into(), client: None, session: None, order };
    let sub = Order::Subscribe { channel: channel("vip"), admission: Box::default(), since: None };
    w.with(|hub, fx| hub.order(&order(sub), fx));
    for (slot, count) in users.iter().zip([1, 1, 0]) {
        let told = read(&mut w, *slot);
        assert_eq!(told.len(), count);
        assert!(told.iter().all(|push| push["push"]["subscribe"].is_object()));
    }
    w.publish("vip", "1");
    assert_eq!([read(&mut w, users[0]).len(), read(&mut w, users[2]).len()], [1, 0]);
    read(&mut w, users[1]);
    let unsub = Order::Unsubscribe { channel: None, code: 2000, reason: "enough".into() };
    w.with(|hub, fx| hub.order(&order(unsub), fx));
    assert_eq!(read(&mut w, users[0])[0]["push"]["unsubscribe"]["code"], 2000);
    read(&mut w, users[1]);
    let refresh = Order::Refresh { expired: false, expires: Some(1_500) };
    w.with(|hub, fx| hub.order(&order(refresh), fx));
    assert_eq!(read(&mut w, users[0])[0]["push"]["refresh"]["ttl"], 500);
    let end = Order::Disconnect { code: 3503, reason: "force disconnect".into(), except: vec![] };
    w.with(|hub, fx| hub.order(&order(end), fx));
    assert!(w.closed.contains(&users[0]) && w.closed.contains(&users[1]) && !w.closed.contains(&users[2]));
}

#[test]
fn an_order_to_unsubscribe_also_ends_what_is_still_under_way() {
    let mut w = with_tokens(options());
    let (slot, _) = connect(&mut w, "ann");
    w.broker = Broker::Slow;
    let order = |order: Order| Directive { user: "ann".into(), client: None, session: None, order };
    let sub = Order::Subscribe { channel: channel("vip"), admission: Box::default(), since: None };
    w.with(|hub, fx| hub.order(&order(sub), fx));
    let unsub = Order::Unsubscribe { channel: Some(channel("vip")), code: 2000, reason: "no".into() };
    w.with(|hub, fx| hub.order(&order(unsub), fx));
    w.with(|hub, fx| hub.live(&Topic::Channel(channel("vip")), fx));
    assert!(read(&mut w, slot).is_empty() && w.wanted.is_empty());
    assert_eq!(w.hub.stats().subscriptions, 0);
}

#[test]
fn an_order_can_be_for_one_connection_alone() {
    let mut w = with_tokens(options());
    let (first, answer) = connect(&mut w, "ann");
    let (second, _) = connect(&mut w, "ann");
    let client = answer["connect"]["client"].as_str().map(str::to_owned);
    let order = Order::Disconnect { code: 3500, reason: "x".into(), except: vec![] };
    let directive = Directive { user: String::new(), client, session: None, order };
    w.with(|hub, fx| hub.order(&directive, fx));
    assert!(w.closed.contains(&first) && !w.closed.contains(&second));
}

#[test]
fn an_order_for_nobody_in_particular_is_for_anonymous_connections() {
    let mut w = with_tokens(options());
    w.authority = |question| match question {
        Decide::Connect { token, .. } if token == "nobody" => Response::Connected(Box::default()),
        other => authority(other),
    };
    let [ann, nobody] = ["ann", "nobody"].map(|token| connect(&mut w, token).0);
    let silent = w.open();
    let order = Order::Refresh { expired: true, expires: None };
    let directive = Directive { user: String::new(), client: None, session: None, order };
    w.with(|hub, fx| hub.order(&directive, fx));
    assert_eq!(read(&mut w, nobody)[0]["push"]["disconnect"]["code"], 3005);
    assert!(w.closed.contains(&nobody) && !w.closed.contains(&ann) && !w.closed.contains(&silent));
}

#[test]
fn questions_are_answered_as_their_answers_come_whatever_the_order() {
    let mut w =
        with_tokens(NamespaceOptions { presence: true, allow_presence_for_client: true, ..options() });
    let (slot, _) = connect(&mut w, "ann");
    say(&mut w, slot, &json!({"id": 2, "presence": {"channel": "a"}}));
    say(&mut w, slot, &json!({"id": 3, "presence_stats": {"channel": "a"}}));
    let echoed = say(&mut w, slot, &json!({"id": 4, "rpc": {"method": "m", "data": {"x": 1}}}));
    assert_eq!(echoed[0], json!({"id": 4, "rpc": {"data": {"x": 1}}}), "before the other two");
    let asked: Vec<_> = w.questions.drain(..).collect();
    for (id, ticket, request) in asked.into_iter().rev() {
        let answer = match request {
            Request::Presence(_) => Response::Members(vec![]),
            _ => Response::Presence(3, 2),
        };
        w.with(|hub, fx| hub.respond(id, ticket, answer, fx));
    }
    let answers = read(&mut w, slot);
    assert_eq!(answers[0], json!({"id": 3, "presence_stats": {"num_clients": 3, "num_users": 2}}));
    assert_eq!(answers[1]["id"], 2);
}

#[test]
fn what_a_channel_does_not_keep_is_not_available_and_what_is_not_allowed_is_denied() {
    let mut w = with_tokens(NamespaceOptions { presence: true, ..options() });
    let (slot, _) = connect(&mut w, "ann");
    let code = |w: &mut World, command: Value| say(w, slot, &command)[0]["error"]["code"].as_u64();
    assert_eq!(code(&mut w, json!({"id": 2, "history": {"channel": "a"}})), Some(108));
    assert_eq!(code(&mut w, json!({"id": 3, "presence": {"channel": "a"}})), Some(103));
    assert_eq!(code(&mut w, json!({"id": 4, "publish": {"channel": "a", "data": 1}})), Some(103));
    assert_eq!(code(&mut w, json!({"id": 5, "publish": {"channel": "a\tb", "data": 1}})), Some(107));
}

#[test]
fn a_connection_token_is_a_password_on_the_line_and_resp_ports() {
    let mut w = with_tokens(options());
    let line = w.open();
    assert_eq!(w.say(line, "AUTH bad\r\n"), "ERROR 101 unauthorized\r\n");
    assert_eq!(w.say(line, "SUBSCRIBE news\r\n"), "ERROR 103 permission denied\r\n");
    assert_eq!(w.say(line, "AUTH ann\r\nSUBSCRIBE news\r\n"), "CONFIRMED\r\nCONFIRMED\r\n");
    let resp = w.open();
    assert!(w.say(resp, "*3\r\n$4\r\nAUTH\r\n$1\r\nx\r\n$7\r\nexpired\r\n").starts_with("-WRONGPASS 109"));
    assert_eq!(w.say(resp, "*3\r\n$4\r\nAUTH\r\n$1\r\nx\r\n$3\r\nann\r\n"), "+OK\r\n");
    let modern = w.open();
    let hello = |token: &str| {
        format!(
            "*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$7\r\ndefault\r\n${}\r\n{token}\r\n",
            token.len()
        )
    };
    assert!(w.say(modern, hello("bad")).starts_with("-WRONGPASS 101"));
    assert!(w.say(modern, hello("ann")).starts_with("%7\r\n"), "in RESP3, as asked for");
}

#[test]
fn lost_publications_are_told_in_every_dialect() {
    let mut w = World::new(Settings { auto_subscribe: vec![], ..settings() });
    let plain = w.open();
    w.say(plain, "SUBSCRIBE news\r\n");
    let resp = w.open();
    w.say(resp, "*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nnews\r\n");
    let json = w.open();
    w.say(json, "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}\n");
    w.with(|hub, fx| hub.lost(&Topic::Channel(channel("news")), fx));
    assert_eq!(w.output(plain), "ERROR 2500 insufficient state: messages of news were lost\r\n");
    assert!(w.output(resp).starts_with("-ERR 3010") && w.closed.contains(&resp));
    assert_eq!(read(&mut w, json)[0]["push"]["unsubscribe"]["code"], 2500);
    w.publish("news", "on");
    assert_eq!(w.output(plain), "MESSAGE news on\r\n", "and goes on");
}

#[test]
fn where_the_application_decides_no_dialect_gets_around_it() {
    let hooks = NamespaceOptions {
        subscribe_proxy: true,
        publish_proxy: true,
        allow_subscribe_for_anonymous: true,
        allow_publish_for_anonymous: true,
        ..NamespaceOptions::default()
    };
    let mut w = World::new(Settings {
        namespaces: Namespaces::new(hooks, []),
        auto_subscribe: vec![channel("updates")],
        ..settings()
    });
    w.authority = |question| match question {
        Decide::Publish { body, .. } if body == "no" => {
            Response::Failed(Rejection::from(code::PERMISSION_DENIED).into())
        }
        other => authority(other),
    };
    let plain = w.open();
    assert_eq!(
        w.say(plain, "PUBLISH news yes\r\nPUBLISH news no\r\n"),
        "CONFIRMED\r\nERROR 103 permission denied\r\n"
    );
    assert_eq!(w.say(plain, "SUBSCRIBE news\r\n"), "ERROR 103 permission denied\r\n");
    assert!(w.wanted.is_empty(), "nor by itself");
    let resp = w.open();
    let publish = |body: &str| format!("*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n${}\r\n{body}\r\n", body.len());
    assert_eq!(w.say(resp, publish("yes")), ":1\r\n");
    assert!(w.say(resp, publish("no")).starts_with("-NOPERM 103"));
    let json = w.open();
    say(&mut w, json, &json!({"id": 1, "connect": {}}));
    assert!(subscribe(&mut w, json, "news")["subscribe"].is_object(), "it was asked, and said yes");
    assert_eq!(w.told.len(), 1, "with what it said of the subscription");
}

#[test]
fn a_time_that_never_comes_costs_nothing_and_ends_nobody() {
    let mut w = with_tokens(options());
    w.authority = |question| match question {
        Decide::Refresh { .. } => Response::Renewed { expires: Some(u64::MAX), info: None, token: None },
        other => authority(other),
    };
    let (slot, _) = connect(&mut w, "late");
    let timers = w.timers.len();
    for id in 2..200 {
        say(&mut w, slot, &json!({"id": id, "refresh": {"token": "new"}}));
    }
    assert_eq!(w.timers.len(), timers, "the look that is on its way will do");
    for _ in 0..3 {
        w.hub.set_time(1_000_000);
        w.fire(slot, Timer::Expiry);
    }
    assert!(!w.closed.contains(&slot));
    assert!(w.timers.iter().all(|(_, _, after)| *after <= Duration::from_secs(600)), "nor for long");
}

#[test]
fn pings_in_less_than_a_second_are_told_as_one() {
    let mut w = World::new(Settings { ping_interval: Duration::from_millis(500), ..settings() });
    let slot = w.open();
    let answer = say(&mut w, slot, &json!({"id": 1, "connect": {}}));
    assert_eq!(answer[0]["connect"]["ping"], 1);
}

#[test]
fn an_event_source_gets_what_it_asks_for_and_may_ask_for_what_its_token_grants() {
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
    let unsub = Order::Unsubscribe { channel: None, code: 2000, reason: "enough".into() };
    let directive = Directive { user: "subs".into(), client: None, session: None, order: unsub };
    w.with(|hub, fx| hub.order(&directive, fx));
    assert!(w.output(slot).starts_with("event: error\ndata: {\"code\":3503"));
    assert!(w.closed.contains(&slot), "rather than wait for ever");
}
