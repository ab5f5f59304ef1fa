//! Options of subscriptions besides publications: recovery, positions, joins. Each requires a right, or an option that
//! forces it, for every origin of the subscription.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidings_hub::{
    Access, Admission, AuthorizationRequest, ChannelOverrides, Connected, Namespace, NamespaceOptions,
    Namespaces, Rejection, SessionAction, SessionCommand, Settings, Slot,
};
use tidings_session::{Effects, Request, Response};
use tidings_wire::{Channel, ClientInfo, Position, Publication, Topic, code};
use tidings_wire::{History, HistoryPage};

use crate::test_hub::{TestHub, named, settings};

fn channel(name: &str) -> Channel {
    Channel::new(name).unwrap()
}

/// A channel with a history that clients may subscribe to.
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

/// The authority of the tests. A connection token is the name of its user; `named:a,b` is the user `named` with these
/// channels. The subscription tokens `forced` and `free` force an option or none.
fn authority(decision: &AuthorizationRequest) -> Response {
    match decision {
        AuthorizationRequest::Connect { token, .. } => {
            let (user, channels) = token.split_once(" in ").unwrap_or((token, ""));
            let channels = channels.split(',').filter(|name| !name.is_empty());
            Response::Connected(Box::new(Connected {
                user: if user == "anonymous" { String::new() } else { user.to_owned() },
                subs: channels.map(|name| (channel(name), Admission::default())).collect(),
                ..Connected::default()
            }))
        }
        AuthorizationRequest::Subscribe { token, .. } => {
            let force_recovery = (token == "forced").then_some(true);
            let overrides = ChannelOverrides { force_recovery, ..ChannelOverrides::default() };
            Response::Allowed(Box::new(Admission { overrides, ..Admission::default() }))
        }
        _ => Response::Published(1),
    }
}

fn test_hub(options: NamespaceOptions) -> TestHub {
    let named = Namespace { name: "closed".into(), options: NamespaceOptions::default() };
    let mut w = TestHub::without_auto_subscribe(Settings {
        access: Access { open: false, tokens: true, reserved: Some("tidings.".into()), ..Access::default() },
        namespaces: Namespaces::new(options, [named]).with_private_prefix("$"),
        personal_channel: Some(String::new()),
        ..settings()
    });
    w.authority = authority;
    w
}

/// Sends a command; histories are at offset 2 and contain both publications.
fn exchange(w: &mut TestHub, slot: Slot, command: &Value) -> Vec<Value> {
    w.input(slot, format!("{command}\n"));
    while let Some((id, ticket, request)) = w.pending_requests.pop_front() {
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

fn read(w: &mut TestHub, slot: Slot) -> Vec<Value> {
    w.output(slot).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn connect(w: &mut TestHub, token: &str, subs: &Value) -> (Slot, Value) {
    let slot = w.open();
    let response = exchange(w, slot, &json!({"id": 1, "connect": {"token": token, "subs": subs}}));
    (slot, response.into_iter().next().unwrap_or_default())
}

/// The reply to a subscribe that requests all options.
fn recover(w: &mut TestHub, slot: Slot, name: &str, token: &str) -> Value {
    let request = json!({"channel": name, "token": token, "recover": true, "recoverable": true, "positioned": true,
        "offset": 1, "epoch": "e"});
    exchange(w, slot, &json!({"id": 2, "subscribe": request})).remove(0)["subscribe"].take()
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
fn recovery_requires_the_right_to_the_history() {
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
    for (case, change, user, anonymous) in cases {
        for (who, right) in [("ann", user), ("anonymous", anonymous)] {
            let mut options = kept();
            change(&mut options);
            let mut w = test_hub(options);
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
    // An option in the subscription token takes precedence.
    let mut w = test_hub(kept());
    let (slot, _) = connect(&mut w, "ann", &json!({}));
    assert!(is_recovered(&recover(&mut w, slot, "news", "forced")));
}

#[test]
fn a_subscription_allowed_by_a_hook_has_no_recovery_beyond_the_rights() {
    for (allowed, right) in [(false, false), (true, true)] {
        let mut w = test_hub(NamespaceOptions { subscribe_proxy: true, allow_recovery: allowed, ..kept() });
        let (slot, _) = connect(&mut w, "ann", &json!({}));
        let reply = recover(&mut w, slot, "news", "");
        assert!(if right { is_recovered(&reply) } else { is_plain(&reply) }, "{reply}");
    }
}

#[test]
fn positions_are_sent_if_requested_and_allowed_or_if_forced() {
    let cases: [(&str, Change, bool); 4] = [
        ("no right", |_| (), false),
        ("allowed", |o| o.allow_positioning = true, true),
        ("readers", |o| o.allow_history_for_client = true, true),
        ("forced", |o| o.force_positioning = true, true),
    ];
    for (case, change, right) in cases {
        let mut options = kept();
        change(&mut options);
        let mut w = test_hub(options);
        let (slot, _) = connect(&mut w, "ann", &json!({}));
        let request = json!({"id": 2, "subscribe": {"channel": "news", "positioned": true}});
        let reply = exchange(&mut w, slot, &request).remove(0)["subscribe"].take();
        let expected = if right { json!({"positioned": true, "offset": 2, "epoch": "e"}) } else { json!({}) };
        assert_eq!(reply, expected, "{case}");
    }
}

#[test]
fn joins_are_sent_to_clients_with_the_right_to_the_presence() {
    let cases: [(&str, Change, bool); 4] = [
        ("no right", |_| (), false),
        ("presence", |o| o.allow_presence_for_subscriber = true, true),
        ("presence for others", |o| o.allow_presence_for_anonymous = true, false),
        ("forced", |o| o.force_push_join_leave = true, true),
    ];
    for (case, change, right) in cases {
        let mut options = NamespaceOptions { join_leave: true, ..kept() };
        change(&mut options);
        let mut w = test_hub(options);
        let (slot, _) = connect(&mut w, "ann", &json!({}));
        exchange(&mut w, slot, &json!({"id": 2, "subscribe": {"channel": "room", "join_leave": true}}));
        let info = ClientInfo { user: "bob".into(), client: "c".into(), conn_info: None, chan_info: None };
        w.with(|hub, fx| hub.on_presence_change(&channel("room"), true, &info, fx));
        assert_eq!(read(&mut w, slot).len(), usize::from(right), "{case}");
    }
}

#[test]
fn subscriptions_of_the_server_have_recovery_and_joins_only_by_options() {
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
        let mut w = test_hub(options);
        let (slot, response) = connect(&mut w, "ann in news", &since);
        let reply = &response["connect"]["subs"]["news"];
        assert!(if forced { is_recovered(reply) } else { is_plain(reply) }, "{response}");
        let action = SessionAction::Subscribe {
            channel: channel("more"),
            admission: Box::default(),
            since: Some(Position { offset: 1, epoch: "e".into() }),
        };
        let command = SessionCommand { user: "ann".into(), client: None, session: None, action };
        w.with(|hub, fx| hub.apply_session_command(&command, fx));
        let pushes = exchange(&mut w, slot, &json!({}));
        assert_eq!(pushes[0]["push"]["subscribe"]["recoverable"] == true, forced, "{pushes:?}");
        assert_eq!(pushes.len() == 2, forced, "{pushes:?}");
        w.with(|hub, fx| hub.on_presence_change(&channel("news"), true, &info, fx));
        assert_eq!(read(&mut w, slot).len(), usize::from(forced));
    }
}

#[test]
fn subs_of_connect_are_made_if_permitted_and_skipped_otherwise() {
    let options = NamespaceOptions {
        allow_user_limited_channels: true,
        allow_history_for_subscriber: true,
        allow_positioning: true,
        ..kept()
    };
    let mut w = test_hub(options);
    let subs = json!({
        "news": {"recover": true, "offset": 1, "epoch": "e"}, "held": {"positioned": true}, "open": {},
        "$private": {}, "closed:a": {}, "talk#bob": {}, "talk#ann,bob": {}, "tidings.node.control": {}, "a\nb": {}
    });
    let (slot, response) = connect(&mut w, "ann", &subs);
    let made = response["connect"]["subs"].as_object().expect("subs");
    assert_eq!(made.keys().collect::<Vec<_>>(), ["#ann", "held", "news", "open", "talk#ann,bob"]);
    assert!(is_recovered(&made["news"]), "{response}");
    assert_eq!(made["held"], json!({"positioned": true, "offset": 2, "epoch": "e"}));
    assert_eq!(made["open"], json!({}));
    assert!(
        !w.subscribed_topics.iter().any(|topic| topic.as_str().starts_with("tidings.")),
        "{:?}",
        w.subscribed_topics
    );
    w.publish("open", "1");
    assert_eq!(read(&mut w, slot)[0]["push"]["channel"], "open");
}

#[test]
fn subs_of_connect_are_made_for_one_way_clients_with_the_same_rights() {
    let mut w = test_hub(kept());
    let mut fx = Effects::default();
    let slot = w.hub.open_as(named("uni_http_stream").into(), None, &mut fx).slot;
    let pushes = exchange(
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
    let mut w = test_hub(kept());
    let (slot, response) = connect(&mut w, "ann", &json!({"nothing:a": {}}));
    assert_eq!(response["push"]["disconnect"]["code"], 3501, "{response}");
    assert!(w.closed.contains(&slot));
}

#[test]
fn subs_of_connect_are_limited_to_the_number_of_channels() {
    let mut w = test_hub(kept());
    let subs: serde_json::Map<String, Value> = (0..200).map(|i| (format!("c{i}"), json!({}))).collect();
    let (slot, response) = connect(&mut w, "ann", &Value::Object(subs));
    assert_eq!(response["push"]["disconnect"]["code"], 3505, "{response}");
    assert!(w.closed.contains(&slot) && w.subscribed_topics.is_empty());
    // The limit applies to the channels of the token and of the client together.
    let channels: Vec<_> = (0..100).map(|i| format!("t{i}")).collect();
    let subs: serde_json::Map<String, Value> = (0..100).map(|i| (format!("c{i}"), json!({}))).collect();
    let (_, response) = connect(&mut w, &format!("ann in {}", channels.join(",")), &Value::Object(subs));
    assert_eq!(response["push"]["disconnect"]["code"], 3505, "{response}");
    assert!(w.subscribed_topics.is_empty());
}

#[test]
fn a_sub_that_cannot_be_recovered_does_not_affect_others() {
    let mut w = test_hub(NamespaceOptions { allow_recovery: true, ..kept() });
    let lost = json!({"recover": true, "offset": 1, "epoch": "another", "flag": 2});
    let (_, response) = connect(&mut w, "ann", &json!({"news": lost, "open": {}}));
    let made = &response["connect"]["subs"];
    assert_eq!((&made["news"]["was_recovering"], &made["news"]["recovered"]), (&json!(true), &Value::Null));
    assert_eq!(made["open"], json!({}));
}

#[test]
fn a_connect_that_fails_leaves_no_subscriptions() {
    let mut w = TestHub::without_auto_subscribe(Settings {
        access: Access { open: true, ..Access::default() },
        namespaces: Namespaces::new(kept(), []),
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
    while let Some((id, ticket, _)) = w.pending_requests.pop_front() {
        let page = History::Page(HistoryPage {
            position: Position { offset: 0, epoch: "e".into() },
            publications: vec![],
        });
        w.with(|hub, fx| hub.respond(id, ticket, Response::History(page), fx));
    }
    assert_eq!(read(&mut w, slot)[0]["error"]["code"], 100);
    assert!(w.subscribed_topics.is_empty() && w.hub.stats().subscriptions == 0, "{:?}", w.subscribed_topics);
    let again = exchange(&mut w, slot, &json!({"id": 2, "connect": {"subs": {"a": {}}}}));
    assert_eq!(again[0]["connect"]["subs"], json!({"a": {}}));
}

#[test]
fn the_subs_of_a_refused_connect_are_not_kept_for_the_next() {
    let mut w = test_hub(NamespaceOptions { allow_subscribe_for_anonymous: false, ..kept() });
    w.authority = |decision| match decision {
        AuthorizationRequest::Connect { token, .. } if token == "bad" => {
            Response::Failed(Rejection::from(code::UNAUTHORIZED).into())
        }
        other => authority(other),
    };
    let slot = w.open();
    for id in 1..50 {
        let request = json!({"id": id, "connect": {"token": "bad", "subs": {(format!("c{id}")): {}}}});
        assert_eq!(exchange(&mut w, slot, &request)[0]["error"]["code"], 101);
    }
    let request = json!({"id": 99, "connect": {"token": "ann", "subs": {"news": {}}}});
    let response = exchange(&mut w, slot, &request).remove(0);
    let made = response["connect"]["subs"].as_object().expect("subs");
    assert_eq!(made.keys().collect::<Vec<_>>(), ["#ann", "news"]);
}

#[test]
fn unknown_and_internal_channels_in_tokens_are_refused_with_their_codes() {
    for (token, code) in [("ann in nothing:a", 102), ("ann in tidings.node.control", 103)] {
        let mut w = test_hub(kept());
        let (_, response) = connect(&mut w, token, &json!({}));
        assert_eq!(response["error"]["code"], code, "{token}");
        let line = w.open();
        let refused = format!("ERROR {code} ");
        assert!(w.exchange(line, format!("AUTH {token}\r\n")).starts_with(&refused), "{token}");
        let redis = w.open();
        let auth = format!("*2\r\n$4\r\nAUTH\r\n${}\r\n{token}\r\n", token.len());
        assert!(w.exchange(redis, auth).starts_with('-'), "{token}");
        let mut fx = Effects::default();
        let events = w.hub.open_as(named("events").into(), None, &mut fx).slot;
        say_raw(&mut w, events, &json!({"id": 1, "connect": {"token": token}}));
        assert!(w.output(events).contains(&format!("\"code\":{code}")), "{token}");
        assert!(w.subscribed_topics.is_empty(), "{token}: {:?}", w.subscribed_topics);
    }
}

fn say_raw(w: &mut TestHub, slot: Slot, command: &Value) {
    w.input(slot, format!("{command}\n"));
}

#[test]
fn internal_channels_are_denied_on_every_path() {
    for name in ["tidings.node.control", "tidings.", "tidings.anything"] {
        let mut w = test_hub(kept());
        let (slot, _) = connect(&mut w, "ann", &json!({}));
        for command in [
            json!({"subscribe": {"channel": name}}),
            json!({"subscribe": {"channel": name, "token": "free"}}),
            json!({"publish": {"channel": name, "data": 1}}),
            json!({"history": {"channel": name}}),
        ] {
            let mut command = command;
            command["id"] = 2.into();
            assert_eq!(exchange(&mut w, slot, &command)[0]["error"]["code"], 103, "{command}");
        }
        let action =
            SessionAction::Subscribe { channel: channel(name), admission: Box::default(), since: None };
        let command = SessionCommand { user: "ann".into(), client: None, session: None, action };
        let line = w.open();
        assert_eq!(w.exchange(line, "AUTH ann\r\n"), "CONFIRMED\r\n");
        w.with(|hub, fx| hub.apply_session_command(&command, fx));
        assert!(read(&mut w, slot).is_empty());
        assert_eq!(w.exchange(line, format!("SUBSCRIBE {name}\r\n")), "ERROR 103 permission denied\r\n");
        assert_eq!(w.exchange(line, format!("PUBLISH {name} x\r\n")), "ERROR 103 permission denied\r\n");
        assert_eq!(w.exchange(line, format!("UNSUBSCRIBE {name}\r\n")), "ALREADY UNSUBSCRIBED\r\n");
        assert!(!w.subscribed_topics.contains(&Topic::Channel(channel(name))), "{:?}", w.subscribed_topics);
    }
}

#[test]
fn internal_channels_are_denied_to_backends() {
    let mut w = TestHub::new(crate::test_hub::with_key(Namespaces::default()));
    let redis = w.open();
    assert_eq!(w.exchange(redis, "*2\r\n$4\r\nAUTH\r\n$6\r\nsesame\r\n"), "+OK\r\n");
    let command = |words: &[&str]| {
        let words: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        words
    };
    for (count, words) in
        [(2, command(&["SUBSCRIBE", "tidings.x"])), (3, command(&["PUBLISH", "tidings.x", "y"]))]
    {
        assert!(w.exchange(redis, format!("*{count}\r\n{words}")).starts_with("-NOPERM"), "{words}");
    }
    assert!(w.subscribed_topics.is_empty());
}

#[test]
fn a_personal_channel_belongs_to_exactly_one_user() {
    let options = NamespaceOptions { allow_user_limited_channels: true, ..NamespaceOptions::default() };
    let mut w = test_hub(options);
    for user in ["bob", "eve"] {
        let (slot, _) = connect(&mut w, user, &json!({}));
        let code = |w: &mut TestHub, name: &str| {
            exchange(w, slot, &json!({"id": 2, "subscribe": {"channel": name}}))[0]["error"]["code"].as_u64()
        };
        for name in ["#bob,eve", "#eve,bob", "#ann", "#", "#x#bob", "#x#eve"] {
            assert_eq!(code(&mut w, name), Some(103), "{user}: {name}");
        }
        assert_eq!(code(&mut w, "dialog#bob,eve"), None, "a channel of both users");
    }
    // Their ids would match channels of other users.
    let long = "b".repeat(255);
    for user in ["bob,eve", "x#bob", &long] {
        let (_, response) = connect(&mut w, user, &json!({}));
        assert_eq!(response["error"]["code"], 103, "{user}");
        let line = w.open();
        assert!(w.exchange(line, format!("AUTH {user}\r\n")).starts_with("ERROR 103"), "{user}");
    }
}

#[test]
fn personal_channels_are_denied_to_others_without_user_limited_channels_too() {
    let options = NamespaceOptions {
        allow_subscribe_for_client: true,
        allow_history_for_client: true,
        history_size: 10,
        history_ttl: Duration::from_secs(60),
        ..NamespaceOptions::default()
    };
    for namespace in ["", "own"] {
        let named = Namespace { name: "own".into(), options: options.clone() };
        let mut w = TestHub::without_auto_subscribe(Settings {
            access: Access { open: false, tokens: true, ..Access::default() },
            namespaces: Namespaces::new(options.clone(), [named]),
            personal_channel: Some(namespace.into()),
            ..settings()
        });
        w.authority = authority;
        let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}:") };
        let (slot, _) = connect(&mut w, "eve", &json!({}));
        for command in ["subscribe", "history"] {
            let of_bob = json!({"id": 2, command: {"channel": format!("{prefix}#bob")}});
            assert_eq!(exchange(&mut w, slot, &of_bob)[0]["error"]["code"], 103, "{command} {of_bob}");
        }
        let public = json!({"id": 3, "subscribe": {"channel": format!("{prefix}news#bob")}});
        assert!(exchange(&mut w, slot, &public)[0]["subscribe"].is_object(), "{public}");
    }
}

#[test]
fn ids_with_separators_match_no_user_limited_channel() {
    let options = NamespaceOptions { allow_user_limited_channels: true, ..NamespaceOptions::default() };
    let mut w = TestHub::without_auto_subscribe(Settings {
        access: Access { open: false, tokens: true, ..Access::default() },
        namespaces: Namespaces::new(options, []),
        ..settings()
    });
    w.authority = authority;
    for (user, name) in [("bob,eve", "#bob,eve"), ("bob,eve", "talk#bob,eve"), ("a#b", "talk#a#b")] {
        let (slot, response) = connect(&mut w, user, &json!({}));
        assert!(response["connect"].is_object(), "without personal channels there is nothing to refuse");
        let refused = exchange(&mut w, slot, &json!({"id": 2, "subscribe": {"channel": name}}));
        assert_eq!(refused[0]["error"]["code"], 103, "{user}: {name}");
    }
}
