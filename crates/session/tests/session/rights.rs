//! What a subscription gives besides publications: recovery, positions, joins. Each takes a right or an option that
//! forces it, whichever way the subscription comes about.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidings_hub::{
    Access, Admission, ChannelOverrides, Connected, Decide, Directive, Effects, Namespace, NamespaceOptions,
    Namespaces, Order, Rejection, Request, Response, Settings, Slot,
};
use tidings_wire::{Channel, ClientInfo, Position, Publication, Topic, code};
use tidings_wire::{History, HistoryPage};

use crate::world::{World, named, settings};

fn channel(name: &str) -> Channel {
    Channel::new(name).unwrap()
}

/// A channel with a history, to which clients may subscribe.
fn kept() -> NamespaceOptions {
    NamespaceOptions {
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        history_size: 10,
        history_ttl: Duration::from_secs(60),
        history_meta_ttl: Duration::from_secs(60),
        ..NamespaceOptions::default()
    }
}

/// Tokens are names of users; `forced` and `free` as tokens of subscriptions set an option or none; `named:a,b` is the
/// user `named` with these channels.
fn authority(question: &Decide) -> Response {
    match question {
        Decide::Connect { token, .. } => {
            let (user, channels) = token.split_once(" in ").unwrap_or((token, ""));
            let channels = channels.split(',').filter(|name| !name.is_empty());
            Response::Connected(Box::new(Connected {
                user: if user == "nobody" { String::new() } else { user.to_owned() },
                subs: channels.map(|name| (channel(name), Admission::default())).collect(),
                ..Connected::default()
            }))
        }
        Decide::Subscribe { token, .. } => {
            let force_recovery = (token == "forced").then_some(true);
            let overrides = ChannelOverrides { force_recovery, ..ChannelOverrides::default() };
            Response::Allowed(Box::new(Admission { overrides, ..Admission::default() }))
        }
        _ => Response::Published(1),
    }
}

fn world(options: NamespaceOptions) -> World {
    let named = Namespace { name: "closed".into(), options: NamespaceOptions::default() };
    let mut w = World::new(Settings {
        access: Access { open: false, tokens: true, reserved: Some("tidings.".into()), ..Access::default() },
        namespaces: Namespaces::new(options, [named]).with_private_prefix("$"),
        auto_subscribe: vec![],
        personal_channel: Some(String::new()),
        ..settings()
    });
    w.authority = authority;
    w
}

/// Sends a command; histories are at offset 2, and both publications are kept.
fn say(w: &mut World, slot: Slot, command: &Value) -> Vec<Value> {
    w.input(slot, format!("{command}\n"));
    while let Some((id, ticket, request)) = w.questions.pop_front() {
        let Request::History(channel, query) = request else { panic!("{request:?}") };
        let position = |offset| Position { offset, epoch: "e".into() };
        let since = query.since.map_or(0, |since| since.offset);
        let publications = (since + 1..=2).map(|offset| {
            let mut publication = Publication::new(channel.clone(), format!("secret {offset}"));
            publication.position = Some(position(offset));
            Arc::new(publication)
        });
        let publications = publications.take(query.limit.unwrap_or(usize::MAX)).collect();
        let page = History::Page(HistoryPage { position: position(2), publications });
        w.with(|hub, fx| hub.respond(id, ticket, Response::History(page), fx));
    }
    read(w, slot)
}

fn read(w: &mut World, slot: Slot) -> Vec<Value> {
    w.output(slot).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn connect(w: &mut World, token: &str, subs: &Value) -> (Slot, Value) {
    let slot = w.open();
    let answer = say(w, slot, &json!({"id": 1, "connect": {"token": token, "subs": subs}}));
    (slot, answer.into_iter().next().unwrap_or_default())
}

/// The reply to a subscribe that requests everything there is.
fn recover(w: &mut World, slot: Slot, name: &str, token: &str) -> Value {
    let request = json!({"channel": name, "token": token, "recover": true, "recoverable": true, "positioned": true,
        "offset": 1, "epoch": "e"});
    say(w, slot, &json!({"id": 2, "subscribe": request})).remove(0)["subscribe"].take()
}

const NOTHING: &str = "a subscription without recovery";

fn is_plain(reply: &Value) -> bool {
    *reply == json!({})
}

fn is_recovered(reply: &Value) -> bool {
    reply["recoverable"] == true
        && reply["recovered"] == true
        && reply["publications"][0]["data"] == "secret 2"
        && reply["offset"] == 2
}

type Change = fn(&mut NamespaceOptions);

#[test]
fn a_history_is_recovered_from_only_with_the_right_to_it() {
    let cases: [(&str, Change, bool, bool); 7] = [
        ("no right", |_| (), false, false),
        ("clients", |o| o.allow_history_for_client = true, true, false),
        ("subscribers", |o| o.allow_history_for_subscriber = true, true, false),
        ("anonymous alone", |o| o.allow_history_for_anonymous = true, false, false),
        ("allowed", |o| o.allow_recovery = true, true, true),
        ("forced", |o| o.force_recovery = true, true, true),
        (
            "both",
            |o| (o.allow_history_for_subscriber, o.allow_history_for_anonymous) = (true, true),
            true,
            true,
        ),
    ];
    for (case, change, user, nobody) in cases {
        for (who, right) in [("ann", user), ("nobody", nobody)] {
            let mut options = kept();
            change(&mut options);
            let mut w = world(options);
            let (slot, _) = connect(&mut w, who, &json!({}));
            for name in ["news", "$private"] {
                let token = if name == "news" { "" } else { "free" };
                let reply = recover(&mut w, slot, name, token);
                assert!(
                    if right { is_recovered(&reply) } else { is_plain(&reply) },
                    "{case}, {who}: {reply}"
                );
            }
        }
    }
    // An option of the subscription, which the application signs, goes before all.
    let mut w = world(kept());
    let (slot, _) = connect(&mut w, "ann", &json!({}));
    assert!(is_recovered(&recover(&mut w, slot, "news", "forced")));
}

#[test]
fn what_the_application_s_hook_allows_has_no_recovery_beyond_the_rights() {
    for (allowed, right) in [(false, false), (true, true)] {
        let mut w = world(NamespaceOptions { subscribe_proxy: true, allow_recovery: allowed, ..kept() });
        let (slot, _) = connect(&mut w, "ann", &json!({}));
        let reply = recover(&mut w, slot, "news", "");
        assert!(if right { is_recovered(&reply) } else { is_plain(&reply) }, "{reply}");
    }
}

#[test]
fn positions_are_told_where_they_are_requested_and_allowed_or_forced() {
    let cases: [(&str, Change, bool); 4] = [
        ("no right", |_| (), false),
        ("allowed", |o| o.allow_positioning = true, true),
        ("readers", |o| o.allow_history_for_client = true, true),
        ("forced", |o| o.force_positioning = true, true),
    ];
    for (case, change, right) in cases {
        let mut options = kept();
        change(&mut options);
        let mut w = world(options);
        let (slot, _) = connect(&mut w, "ann", &json!({}));
        let request = json!({"id": 2, "subscribe": {"channel": "news", "positioned": true}});
        let reply = say(&mut w, slot, &request).remove(0)["subscribe"].take();
        let expected = if right { json!({"positioned": true, "offset": 2, "epoch": "e"}) } else { json!({}) };
        assert_eq!(reply, expected, "{case}");
    }
}

#[test]
fn joins_are_told_to_those_who_may_ask_who_is_present() {
    let cases: [(&str, Change, bool); 4] = [
        ("no right", |_| (), false),
        ("presence", |o| o.allow_presence_for_subscriber = true, true),
        ("presence for others", |o| o.allow_presence_for_anonymous = true, false),
        ("forced", |o| o.force_push_join_leave = true, true),
    ];
    for (case, change, right) in cases {
        let mut options = NamespaceOptions { join_leave: true, ..kept() };
        change(&mut options);
        let mut w = world(options);
        let (slot, _) = connect(&mut w, "ann", &json!({}));
        say(&mut w, slot, &json!({"id": 2, "subscribe": {"channel": "room", "join_leave": true}}));
        let info = ClientInfo { user: "bob".into(), client: "c".into(), conn_info: None, chan_info: None };
        w.with(|hub, fx| hub.changed(&channel("room"), true, &info, fx));
        assert_eq!(read(&mut w, slot).len(), usize::from(right), "{case}");
    }
}

#[test]
fn subscriptions_of_the_server_recover_and_tell_of_joins_only_where_an_option_says_so() {
    let rights = NamespaceOptions {
        join_leave: true,
        allow_recovery: true,
        allow_history_for_client: true,
        allow_presence_for_client: true,
        ..kept()
    };
    let since = json!({"news": {"recover": true, "recoverable": true, "offset": 1, "epoch": "e"}});
    let info = ClientInfo { user: "bob".into(), client: "c".into(), conn_info: None, chan_info: None };
    for forced in [false, true] {
        let options =
            NamespaceOptions { force_recovery: forced, force_push_join_leave: forced, ..rights.clone() };
        let mut w = world(options);
        let (slot, answer) = connect(&mut w, "ann in news", &since);
        let reply = &answer["connect"]["subs"]["news"];
        assert!(if forced { is_recovered(reply) } else { is_plain(reply) }, "{answer}");
        let order = Order::Subscribe {
            channel: channel("more"),
            admission: Box::default(),
            since: Some(Position { offset: 1, epoch: "e".into() }),
        };
        let directive = Directive { user: "ann".into(), client: None, session: None, order };
        w.with(|hub, fx| hub.order(&directive, fx));
        let told = say(&mut w, slot, &json!({}));
        assert_eq!(told[0]["push"]["subscribe"]["recoverable"] == true, forced, "{told:?}");
        assert_eq!(told.len() == 2, forced, "{told:?}");
        w.with(|hub, fx| hub.changed(&channel("news"), true, &info, fx));
        assert_eq!(read(&mut w, slot).len(), usize::from(forced));
    }
}

#[test]
fn subs_of_connect_are_made_where_the_client_may_subscribe_and_passed_over_elsewhere() {
    let options = NamespaceOptions {
        allow_user_limited_channels: true,
        allow_history_for_subscriber: true,
        allow_positioning: true,
        ..kept()
    };
    let mut w = world(options);
    let subs = json!({
        "news": {"recover": true, "offset": 1, "epoch": "e"}, "held": {"positioned": true}, "open": {},
        "$private": {}, "closed:a": {}, "talk#bob": {}, "talk#ann,bob": {}, "tidings.node.control": {}, "a\nb": {}
    });
    let (slot, answer) = connect(&mut w, "ann", &subs);
    let made = answer["connect"]["subs"].as_object().expect("subs");
    assert_eq!(made.keys().collect::<Vec<_>>(), ["#ann", "held", "news", "open", "talk#ann,bob"]);
    assert!(is_recovered(&made["news"]), "{answer}");
    assert_eq!(made["held"], json!({"positioned": true, "offset": 2, "epoch": "e"}));
    assert_eq!(made["open"], json!({}));
    assert!(!w.wanted.iter().any(|topic| topic.as_str().starts_with("tidings.")), "{:?}", w.wanted);
    w.publish("open", "1");
    assert_eq!(read(&mut w, slot)[0]["push"]["channel"], "open");
}

#[test]
fn subs_of_connect_are_made_for_one_way_clients_with_the_same_rights() {
    let mut w = world(kept());
    let mut fx = Effects::default();
    let slot = w.hub.open_as(named("uni_http_stream").into(), None, &mut fx).slot;
    let pushes = say(
        &mut w,
        slot,
        &json!({"id": 1, "connect": {"token": "ann", "subs": {
            "news": {"recover": true, "offset": 1, "epoch": "e"}, "closed:a": {}
        }}}),
    );
    let made = pushes[0]["connect"]["subs"].as_object().expect("subs");
    assert_eq!(made.keys().collect::<Vec<_>>(), ["#ann", "news"]);
    assert!(is_plain(&made["news"]), "{NOTHING}: {pushes:?}");
    w.publish("news", "1");
    assert_eq!(read(&mut w, slot)[0]["channel"], "news");
}

#[test]
fn a_sub_of_an_unknown_namespace_ends_the_connection_that_requests_it() {
    let mut w = world(kept());
    let (slot, answer) = connect(&mut w, "ann", &json!({"nothing:a": {}}));
    assert_eq!(answer["push"]["disconnect"]["code"], 3501, "{answer}");
    assert!(w.closed.contains(&slot));
}

#[test]
fn a_client_is_let_into_no_more_channels_by_its_subs_than_it_may_have() {
    let mut w = world(kept());
    let subs: serde_json::Map<String, Value> = (0..200).map(|i| (format!("c{i}"), json!({}))).collect();
    let (slot, answer) = connect(&mut w, "ann", &Value::Object(subs));
    assert_eq!(answer["push"]["disconnect"]["code"], 3505, "{answer}");
    assert!(w.closed.contains(&slot) && w.wanted.is_empty());
    // The limit holds for those of the token and of the client together.
    let channels: Vec<_> = (0..100).map(|i| format!("t{i}")).collect();
    let subs: serde_json::Map<String, Value> = (0..100).map(|i| (format!("c{i}"), json!({}))).collect();
    let (_, answer) = connect(&mut w, &format!("ann in {}", channels.join(",")), &Value::Object(subs));
    assert_eq!(answer["push"]["disconnect"]["code"], 3505, "{answer}");
    assert!(w.wanted.is_empty());
}

#[test]
fn a_sub_that_cannot_be_recovered_is_told_so_and_takes_no_other_with_it() {
    let mut w = world(NamespaceOptions { allow_recovery: true, ..kept() });
    let lost = json!({"recover": true, "offset": 1, "epoch": "another", "flag": 2});
    let (_, answer) = connect(&mut w, "ann", &json!({"news": lost, "open": {}}));
    let made = &answer["connect"]["subs"];
    assert_eq!((&made["news"]["was_recovering"], &made["news"]["recovered"]), (&json!(true), &Value::Null));
    assert_eq!(made["open"], json!({}));
}

#[test]
fn a_connect_that_fails_half_way_leaves_no_subscription_behind() {
    let mut w = World::new(Settings {
        access: Access { open: true, ..Access::default() },
        namespaces: Namespaces::new(kept(), []),
        auto_subscribe: vec![],
        recovery_bytes: 64,
        ..settings()
    });
    let slot = w.open();
    let subs = json!({"a": {"recoverable": true}, "b": {"recoverable": true}, "c": {"recoverable": true}});
    w.input(slot, format!("{}\n", json!({"id": 1, "connect": {"subs": subs}})));
    let publications: Vec<_> = (1..100)
        .map(|offset| {
            let mut publication = Publication::new(channel("b"), "more than is kept".to_owned());
            publication.position = Some(Position { offset, epoch: "e".into() });
            Arc::new(publication)
        })
        .collect();
    w.fan_out(&Topic::Channel(channel("b")), &publications);
    while let Some((id, ticket, _)) = w.questions.pop_front() {
        let page = History::Page(HistoryPage {
            position: Position { offset: 0, epoch: "e".into() },
            publications: vec![],
        });
        w.with(|hub, fx| hub.respond(id, ticket, Response::History(page), fx));
    }
    assert_eq!(read(&mut w, slot)[0]["error"]["code"], 100);
    assert!(w.wanted.is_empty() && w.hub.stats().subscriptions == 0, "{:?}", w.wanted);
    let again = say(&mut w, slot, &json!({"id": 2, "connect": {"subs": {"a": {}}}}));
    assert_eq!(again[0]["connect"]["subs"], json!({"a": {}}));
}

#[test]
fn what_a_refused_connect_requested_is_not_kept_for_the_next() {
    let mut w = world(NamespaceOptions { allow_subscribe_for_anonymous: false, ..kept() });
    w.authority = |question| match question {
        Decide::Connect { token, .. } if token == "bad" => {
            Response::Failed(Rejection::from(code::UNAUTHORIZED).into())
        }
        other => authority(other),
    };
    let slot = w.open();
    for id in 1..50 {
        let request = json!({"id": id, "connect": {"token": "bad", "subs": {(format!("c{id}")): {}}}});
        assert_eq!(say(&mut w, slot, &request)[0]["error"]["code"], 101);
    }
    let request = json!({"id": 99, "connect": {"token": "ann", "subs": {"news": {}}}});
    let answer = say(&mut w, slot, &request).remove(0);
    let made = answer["connect"]["subs"].as_object().expect("subs");
    assert_eq!(made.keys().collect::<Vec<_>>(), ["#ann", "news"]);
}

#[test]
fn channels_of_unknown_namespaces_and_of_the_server_are_refused_in_tokens_with_their_codes() {
    for (token, code) in [("ann in nothing:a", 102), ("ann in tidings.node.control", 103)] {
        let mut w = world(kept());
        let (_, answer) = connect(&mut w, token, &json!({}));
        assert_eq!(answer["error"]["code"], code, "{token}");
        let line = w.open();
        let refused = format!("ERROR {code} ");
        assert!(w.say(line, format!("AUTH {token}\r\n")).starts_with(&refused), "{token}");
        let redis = w.open();
        let auth = format!("*2\r\n$4\r\nAUTH\r\n${}\r\n{token}\r\n", token.len());
        assert!(w.say(redis, auth).starts_with('-'), "{token}");
        let mut fx = Effects::default();
        let events = w.hub.open_as(named("events").into(), None, &mut fx).slot;
        say_raw(&mut w, events, &json!({"id": 1, "connect": {"token": token}}));
        assert!(w.output(events).contains(&format!("\"code\":{code}")), "{token}");
        assert!(w.wanted.is_empty(), "{token}: {:?}", w.wanted);
    }
}

fn say_raw(w: &mut World, slot: Slot, command: &Value) {
    w.input(slot, format!("{command}\n"));
}

#[test]
fn the_server_s_own_channels_are_closed_on_every_path() {
    for name in ["tidings.node.control", "tidings.", "tidings.anything"] {
        let mut w = world(kept());
        let (slot, _) = connect(&mut w, "ann", &json!({}));
        for command in [
            json!({"subscribe": {"channel": name}}),
            json!({"subscribe": {"channel": name, "token": "free"}}),
            json!({"publish": {"channel": name, "data": 1}}),
            json!({"history": {"channel": name}}),
        ] {
            let mut command = command;
            command["id"] = 2.into();
            assert_eq!(say(&mut w, slot, &command)[0]["error"]["code"], 103, "{command}");
        }
        let order = Order::Subscribe { channel: channel(name), admission: Box::default(), since: None };
        let directive = Directive { user: "ann".into(), client: None, session: None, order };
        let line = w.open();
        assert_eq!(w.say(line, "AUTH ann\r\n"), "CONFIRMED\r\n");
        w.with(|hub, fx| hub.order(&directive, fx));
        assert!(read(&mut w, slot).is_empty());
        assert_eq!(w.say(line, format!("SUBSCRIBE {name}\r\n")), "ERROR 103 permission denied\r\n");
        assert_eq!(w.say(line, format!("PUBLISH {name} x\r\n")), "ERROR 103 permission denied\r\n");
        assert_eq!(w.say(line, format!("UNSUBSCRIBE {name}\r\n")), "ALREADY UNSUBSCRIBED\r\n");
        assert!(!w.wanted.contains(&Topic::Channel(channel(name))), "{:?}", w.wanted);
    }
}

#[test]
fn a_backend_neither_subscribes_to_the_server_s_channels_nor_publishes_there() {
    let mut w = World::new(crate::world::with_key(Namespaces::default()));
    let redis = w.open();
    assert_eq!(w.say(redis, "*2\r\n$4\r\nAUTH\r\n$6\r\nsesame\r\n"), "+OK\r\n");
    let command = |words: &[&str]| {
        let words: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        words
    };
    for (count, words) in
        [(2, command(&["SUBSCRIBE", "tidings.x"])), (3, command(&["PUBLISH", "tidings.x", "y"]))]
    {
        assert!(w.say(redis, format!("*{count}\r\n{words}")).starts_with("-NOPERM"), "{words}");
    }
    assert!(w.wanted.is_empty());
}

#[test]
fn a_personal_channel_is_the_exact_user_s() {
    let options = NamespaceOptions { allow_user_limited_channels: true, ..NamespaceOptions::default() };
    let mut w = world(options);
    for user in ["bob", "eve"] {
        let (slot, _) = connect(&mut w, user, &json!({}));
        let code = |w: &mut World, name: &str| {
            say(w, slot, &json!({"id": 2, "subscribe": {"channel": name}}))[0]["error"]["code"].as_u64()
        };
        for name in ["#bob,eve", "#eve,bob", "#ann", "#", "#x#bob", "#x#eve"] {
            assert_eq!(code(&mut w, name), Some(103), "{user}: {name}");
        }
        assert_eq!(code(&mut w, "dialog#bob,eve"), None, "one for both");
    }
    // Their ids would name others' channels.
    let long = "b".repeat(255);
    for user in ["bob,eve", "x#bob", &long] {
        let (_, answer) = connect(&mut w, user, &json!({}));
        assert_eq!(answer["error"]["code"], 103, "{user}");
        let line = w.open();
        assert!(w.say(line, format!("AUTH {user}\r\n")).starts_with("ERROR 103"), "{user}");
    }
}

#[test]
fn a_personal_channel_is_no_other_user_s_without_user_limited_channels_either() {
    let options = NamespaceOptions {
        allow_subscribe_for_client: true,
        allow_history_for_client: true,
        history_size: 10,
        history_ttl: Duration::from_secs(60),
        ..NamespaceOptions::default()
    };
    for namespace in ["", "own"] {
        let named = Namespace { name: "own".into(), options: options.clone() };
        let mut w = World::new(Settings {
            access: Access { open: false, tokens: true, ..Access::default() },
            namespaces: Namespaces::new(options.clone(), [named]),
            auto_subscribe: vec![],
            personal_channel: Some(namespace.into()),
            ..settings()
        });
        w.authority = authority;
        let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}:") };
        let (slot, _) = connect(&mut w, "eve", &json!({}));
        for command in ["subscribe", "history"] {
            let of_bob = json!({"id": 2, command: {"channel": format!("{prefix}#bob")}});
            assert_eq!(say(&mut w, slot, &of_bob)[0]["error"]["code"], 103, "{command} {of_bob}");
        }
        let public = json!({"id": 3, "subscribe": {"channel": format!("{prefix}news#bob")}});
        assert!(say(&mut w, slot, &public)[0]["subscribe"].is_object(), "{public}");
    }
}

#[test]
fn ids_with_separators_are_in_no_channel_for_certain_users() {
    let options = NamespaceOptions { allow_user_limited_channels: true, ..NamespaceOptions::default() };
    let mut w = World::new(Settings {
        access: Access { open: false, tokens: true, ..Access::default() },
        namespaces: Namespaces::new(options, []),
        auto_subscribe: vec![],
        ..settings()
    });
    w.authority = authority;
    for (user, name) in [("bob,eve", "#bob,eve"), ("bob,eve", "talk#bob,eve"), ("a#b", "talk#a#b")] {
        let (slot, answer) = connect(&mut w, user, &json!({}));
        assert!(answer["connect"].is_object(), "without personal channels there is nothing to refuse");
        let refused = say(&mut w, slot, &json!({"id": 2, "subscribe": {"channel": name}}));
        assert_eq!(refused[0]["error"]["code"], 103, "{user}: {name}");
    }
}
