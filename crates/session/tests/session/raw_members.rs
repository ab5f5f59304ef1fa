//! Those who are somebody on the line and RESP ports: the same rules, and the same orders of the application, hold for
//! them as for clients of the client protocol.

use tidings_hub::{
    Access, Admission, Connected, Decide, Directive, NamespaceOptions, Namespaces, Order, Response, Settings,
};
use tidings_wire::{Channel, code};

use crate::world::{World, settings};

fn channel(name: &str) -> Channel {
    Channel::new(name).unwrap()
}

/// Tokens are names of users; `vip`'s grants a channel besides.
fn authority(question: &Decide) -> Response {
    match question {
        Decide::Connect { token, .. } => Response::Connected(Box::new(Connected {
            user: token.clone(),
            subs: if token == "vip" { vec![(channel("$lounge"), Admission::default())] } else { vec![] },
            ..Connected::default()
        })),
        _ => Response::Published(1),
    }
}

fn world(settings: Settings) -> World {
    let mut w = World::new(settings);
    w.authority = authority;
    w
}

fn options() -> NamespaceOptions {
    NamespaceOptions {
        allow_subscribe_for_client: true,
        allow_user_limited_channels: true,
        ..NamespaceOptions::default()
    }
}

fn with_tokens(options: NamespaceOptions) -> Settings {
    let access = Access { open: false, tokens: true, ..Access::default() };
    let namespaces = Namespaces::new(options, []).with_private_prefix("$");
    Settings { access, namespaces, auto_subscribe: vec![], ..settings() }
}

fn resp(words: &[&str]) -> String {
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    command
}

fn for_ann(order: Order) -> Directive {
    Directive { user: "ann".into(), client: None, session: None, order }
}

#[test]
fn private_channels_and_those_of_other_users_are_closed_on_every_port() {
    for anonymous in [false, true] {
        let options = NamespaceOptions { allow_subscribe_for_anonymous: anonymous, ..options() };
        let mut w = world(with_tokens(options));
        let (line, redis) = (w.open(), w.open());
        if !anonymous {
            assert_eq!(w.say(line, "AUTH ann\r\n"), "CONFIRMED\r\n");
            assert_eq!(w.say(redis, resp(&["AUTH", "ann"])), "+OK\r\n");
            assert_eq!(w.say(line, "SUBSCRIBE talk#bob,ann\r\n"), "CONFIRMED\r\n");
        }
        assert_eq!(w.say(line, "SUBSCRIBE news\r\n"), "CONFIRMED\r\n");
        for name in ["$p", "talk#bob", "#bob"] {
            let refused = w.say(line, format!("SUBSCRIBE {name}\r\n"));
            assert_eq!(refused, "ERROR 103 permission denied\r\n", "{name}");
            let refused = w.say(redis, resp(&["SUBSCRIBE", name]));
            assert!(refused.starts_with("-NOPERM"), "{name}: {refused}");
            let refused = w.say(redis, resp(&["PUBSUB", "NUMSUB", name]));
            assert!(refused.starts_with("-NOPERM"), "{name}: {refused}");
        }
    }
}

#[test]
fn an_option_for_anonymous_clients_alone_allows_nothing_on_the_line_and_resp_ports() {
    let alone = NamespaceOptions {
        allow_subscribe_for_anonymous: true,
        allow_publish_for_anonymous: true,
        ..NamespaceOptions::default()
    };
    let subscribers = NamespaceOptions {
        allow_subscribe_for_client: true,
        allow_publish_for_subscriber: true,
        allow_publish_for_anonymous: false,
        ..alone.clone()
    };
    let both = NamespaceOptions { allow_publish_for_anonymous: true, ..subscribers.clone() };
    for (options, subscribes, publishes) in
        [(alone, false, false), (subscribers, true, false), (both, true, true)]
    {
        let mut w = world(with_tokens(options));
        let (line, redis) = (w.open(), w.open());
        let denied = "ERROR 103 permission denied\r\n";
        assert_eq!(w.say(line, "SUBSCRIBE news\r\n") == denied, !subscribes);
        assert_eq!(w.say(redis, resp(&["SUBSCRIBE", "news"])).starts_with("-NOPERM"), !subscribes);
        assert_eq!(w.say(line, "PUBLISH news x\r\n") == denied, !publishes);
        w.output(redis);
        assert!(w.say(redis, resp(&["UNSUBSCRIBE", "news"])).starts_with("*3"));
        assert!(w.say(redis, resp(&["PUBLISH", "news", "x"])).starts_with("-NOPERM"), "not subscribed");
    }
}

#[test]
fn automatic_subscriptions_are_none_to_private_channels() {
    let options = NamespaceOptions { allow_subscribe_for_anonymous: true, ..options() };
    let mut w =
        world(Settings { auto_subscribe: vec![channel("$p"), channel("news")], ..with_tokens(options) });
    let line = w.open();
    assert_eq!(w.say(line, "PING\r\n"), "PONG\r\n");
    w.publish("$p", "secret");
    w.publish("news", "open");
    assert_eq!(w.output(line), "MESSAGE news open\r\n");
}

#[test]
fn a_token_opens_the_channels_that_it_grants() {
    let mut w = world(with_tokens(options()));
    let (line, redis) = (w.open(), w.open());
    assert_eq!(w.say(line, "AUTH vip\r\nSUBSCRIBE $lounge\r\n"), "CONFIRMED\r\nCONFIRMED\r\n");
    assert_eq!(w.say(redis, resp(&["AUTH", "vip"])), "+OK\r\n");
    assert!(w.say(redis, resp(&["SUBSCRIBE", "$lounge"])).starts_with("*3\r\n$9\r\nsubscribe"));
    // Who says that it is somebody else has what that one has.
    assert_eq!(w.say(line, "AUTH ann\r\nUNSUBSCRIBE $lounge\r\n"), "CONFIRMED\r\nCONFIRMED\r\n");
    assert_eq!(w.say(line, "SUBSCRIBE $lounge\r\n"), "ERROR 103 permission denied\r\n");
}

#[test]
fn an_application_s_orders_reach_its_users_on_every_port() {
    let mut w = world(with_tokens(options()));
    let (line, redis, other) = (w.open(), w.open(), w.open());
    w.say(line, "AUTH ann\r\nSUBSCRIBE lobby\r\n");
    w.say(redis, resp(&["AUTH", "ann"]));
    w.say(redis, resp(&["SUBSCRIBE", "lobby"]));
    w.say(other, "AUTH bob\r\nSUBSCRIBE lobby\r\n");

    let out = Order::Unsubscribe { channel: Some(channel("lobby")), code: 2000, reason: "enough".into() };
    w.with(|hub, fx| hub.order(&for_ann(out), fx));
    assert_eq!(w.output(line), "ERROR 2000 enough: lobby\r\n");
    assert_eq!(w.output(redis), "*3\r\n$11\r\nunsubscribe\r\n$5\r\nlobby\r\n:0\r\n");
    w.publish("lobby", "1");
    assert_eq!([w.output(line), w.output(redis)], ["", ""]);
    assert_eq!(w.output(other), "MESSAGE lobby 1\r\n");

    let vip = Order::Subscribe { channel: channel("$vip"), admission: Box::default(), since: None };
    w.with(|hub, fx| hub.order(&for_ann(vip), fx));
    w.publish("$vip", "2");
    assert_eq!(w.output(line), "MESSAGE $vip 2\r\n");
    assert_eq!(w.output(redis), "", "it would take it for an answer");

    // Messages of a channel with a space could not be told from those of another one on a plain line.
    let room = Order::Subscribe { channel: channel("my room"), admission: Box::default(), since: None };
    w.with(|hub, fx| hub.order(&for_ann(room), fx));
    w.publish("my room", "3");
    assert_eq!(w.output(line), "");

    // More time changes nothing that they could see; no time left does.
    let longer = Order::Refresh { expired: false, expires: Some(9_999_999_999) };
    w.with(|hub, fx| hub.order(&for_ann(longer), fx));
    assert_eq!([w.output(line), w.output(redis)], ["", ""]);
    let banned =
        Order::Disconnect { code: code::FORCE_DISCONNECT.number, reason: "banned".into(), except: vec![] };
    w.with(|hub, fx| hub.order(&for_ann(banned), fx));
    assert_eq!(w.output(line), "ERROR 3503 banned\r\n");
    assert_eq!(w.output(redis), "-ERR 3503 banned\r\n");
    assert!(w.closed.contains(&line) && w.closed.contains(&redis) && !w.closed.contains(&other));
}

#[test]
fn a_redis_client_that_is_reset_is_nobody() {
    let mut w = world(with_tokens(options()));
    let redis = w.open();
    w.say(redis, resp(&["AUTH", "ann"]));
    assert_eq!(w.say(redis, resp(&["RESET"])), "+RESET\r\n");
    assert_eq!(w.hub.stats().users, 0);
    assert!(w.say(redis, resp(&["SUBSCRIBE", "talk#ann"])).starts_with("-NOPERM"));
}

#[test]
fn where_the_application_lets_in_nobody_is_asked_about_before_it_has() {
    let proxied = NamespaceOptions { publish_proxy: true, ..options() };
    let mut w = world(Settings { connect_proxy: true, ..with_tokens(proxied) });
    let (line, redis) = (w.open(), w.open());
    assert_eq!(w.say(line, "PUBLISH a x\r\n"), "ERROR 103 permission denied\r\n");
    assert!(w.say(redis, resp(&["PUBLISH", "a", "x"])).starts_with("-NOPERM"));
    assert_eq!(w.say(line, "AUTH ann\r\nPUBLISH a x\r\n"), "CONFIRMED\r\nCONFIRMED\r\n");
}

#[test]
fn what_comes_by_itself_comes_once_one_has_said_who_one_is() {
    let mut w = world(Settings { auto_subscribe: vec![channel("updates")], ..with_tokens(options()) });
    let line = w.open();
    assert_eq!(w.say(line, "PING\r\n"), "PONG\r\n");
    w.publish("updates", "not yet");
    assert_eq!(w.say(line, "AUTH ann\r\n"), "CONFIRMED\r\n");
    w.publish("updates", "now");
    assert_eq!(w.output(line), "now\r\n");
    // Who does not want it is not subscribed again by the next token.
    assert_eq!(w.say(line, "UNSUBSCRIBE\r\nAUTH vip\r\n"), "CONFIRMED\r\nCONFIRMED\r\n");
    w.publish("updates", "unwanted");
    assert_eq!(w.output(line), "");
}
