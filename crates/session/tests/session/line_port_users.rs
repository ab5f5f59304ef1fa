//! Plain lines and RESP with users: the rules and the commands of the application are those of the client protocol.

use tidings_hub::{
    Access, Admission, AuthorizationRequest, Connected, NamespaceOptions, Namespaces, SessionAction,
    SessionCommand, Settings,
};
use tidings_session::ProtocolSettings;
use tidings_session::Response;
use tidings_wire::{Channel, code};

use crate::test_hub::{TestHub, settings};

fn channel(name: &str) -> Channel {
    Channel::new(name).unwrap()
}

/// The authority of the tests. A token is the name of its user; `vip` is granted a channel in addition.
fn authority(decision: &AuthorizationRequest) -> Response {
    match decision {
        AuthorizationRequest::Connect { token, .. } => Response::Connected(Box::new(Connected {
            user: token.clone(),
            subs: if token == "vip" { vec![(channel("$lounge"), Admission::default())] } else { vec![] },
            ..Connected::default()
        })),
        _ => Response::Published(1),
    }
}

fn test_hub(settings: Settings, auto_subscribe: Vec<Channel>) -> TestHub {
    let protocols = ProtocolSettings { auto_subscribe, ..ProtocolSettings::workbench() };
    let mut w = TestHub::with_protocols(settings, protocols);
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
    Settings { access, namespaces, ..settings() }
}

fn resp(words: &[&str]) -> String {
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    command
}

fn for_ann(action: SessionAction) -> SessionCommand {
    SessionCommand { user: "ann".into(), client: None, session: None, action }
}

#[test]
fn private_channels_and_channels_of_other_users_are_denied_on_every_port() {
    for anonymous in [false, true] {
        let options = NamespaceOptions { allow_subscribe_for_anonymous: anonymous, ..options() };
        let mut w = test_hub(with_tokens(options), vec![]);
        let (line, redis) = (w.open(), w.open());
        if !anonymous {
            assert_eq!(w.exchange(line, "AUTH ann\r\n"), "CONFIRMED\r\n");
            assert_eq!(w.exchange(redis, resp(&["AUTH", "ann"])), "+OK\r\n");
            assert_eq!(w.exchange(line, "SUBSCRIBE talk#bob,ann\r\n"), "CONFIRMED\r\n");
        }
        assert_eq!(w.exchange(line, "SUBSCRIBE news\r\n"), "CONFIRMED\r\n");
        for name in ["$p", "talk#bob", "#bob"] {
            let refused = w.exchange(line, format!("SUBSCRIBE {name}\r\n"));
            assert_eq!(refused, "ERROR 103 permission denied\r\n", "{name}");
            let refused = w.exchange(redis, resp(&["SUBSCRIBE", name]));
            assert!(refused.starts_with("-NOPERM"), "{name}: {refused}");
            let refused = w.exchange(redis, resp(&["PUBSUB", "NUMSUB", name]));
            assert!(refused.starts_with("-NOPERM"), "{name}: {refused}");
        }
    }
}

#[test]
fn an_option_for_anonymous_clients_alone_allows_nothing_on_plain_lines_and_resp() {
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
        let mut w = test_hub(with_tokens(options), vec![]);
        let (line, redis) = (w.open(), w.open());
        let denied = "ERROR 103 permission denied\r\n";
        assert_eq!(w.exchange(line, "SUBSCRIBE news\r\n") == denied, !subscribes);
        assert_eq!(w.exchange(redis, resp(&["SUBSCRIBE", "news"])).starts_with("-NOPERM"), !subscribes);
        assert_eq!(w.exchange(line, "PUBLISH news x\r\n") == denied, !publishes);
        w.output(redis);
        assert!(w.exchange(redis, resp(&["UNSUBSCRIBE", "news"])).starts_with("*3"));
        assert!(w.exchange(redis, resp(&["PUBLISH", "news", "x"])).starts_with("-NOPERM"), "not subscribed");
    }
}

#[test]
fn private_channels_are_not_subscribed_automatically() {
    let options = NamespaceOptions { allow_subscribe_for_anonymous: true, ..options() };
    let mut w = test_hub(with_tokens(options), vec![channel("$p"), channel("news")]);
    let line = w.open();
    assert_eq!(w.exchange(line, "PING\r\n"), "PONG\r\n");
    w.publish("$p", "secret");
    w.publish("news", "open");
    assert_eq!(w.output(line), "MESSAGE news open\r\n");
}

#[test]
fn a_token_permits_the_channels_that_it_grants() {
    let mut w = test_hub(with_tokens(options()), vec![]);
    let (line, redis) = (w.open(), w.open());
    assert_eq!(w.exchange(line, "AUTH vip\r\nSUBSCRIBE $lounge\r\n"), "CONFIRMED\r\nCONFIRMED\r\n");
    assert_eq!(w.exchange(redis, resp(&["AUTH", "vip"])), "+OK\r\n");
    assert!(w.exchange(redis, resp(&["SUBSCRIBE", "$lounge"])).starts_with("*3\r\n$9\r\nsubscribe"));
    // A session that authenticates as another user gets the rights of that user.
    assert_eq!(w.exchange(line, "AUTH ann\r\nUNSUBSCRIBE $lounge\r\n"), "CONFIRMED\r\nCONFIRMED\r\n");
    assert_eq!(w.exchange(line, "SUBSCRIBE $lounge\r\n"), "ERROR 103 permission denied\r\n");
}

#[test]
fn commands_of_the_application_reach_users_on_every_port() {
    let mut w = test_hub(with_tokens(options()), vec![]);
    let (line, redis, other) = (w.open(), w.open(), w.open());
    w.exchange(line, "AUTH ann\r\nSUBSCRIBE lobby\r\n");
    w.exchange(redis, resp(&["AUTH", "ann"]));
    w.exchange(redis, resp(&["SUBSCRIBE", "lobby"]));
    w.exchange(other, "AUTH bob\r\nSUBSCRIBE lobby\r\n");

    let out =
        SessionAction::Unsubscribe { channel: Some(channel("lobby")), code: 2000, reason: "enough".into() };
    w.with(|hub, fx| hub.apply_session_command(&for_ann(out), fx));
    assert_eq!(w.output(line), "ERROR 2000 enough: lobby\r\n");
    assert_eq!(w.output(redis), "*3\r\n$11\r\nunsubscribe\r\n$5\r\nlobby\r\n:0\r\n");
    w.publish("lobby", "1");
    assert_eq!([w.output(line), w.output(redis)], ["", ""]);
    assert_eq!(w.output(other), "MESSAGE lobby 1\r\n");

    let vip = SessionAction::Subscribe { channel: channel("$vip"), admission: Box::default(), since: None };
    w.with(|hub, fx| hub.apply_session_command(&for_ann(vip), fx));
    w.publish("$vip", "2");
    assert_eq!(w.output(line), "MESSAGE $vip 2\r\n");
    assert_eq!(w.output(redis), "", "a client would take it as a reply");

    // On plain lines, a message of a channel with a space would look like a message of another channel.
    let room =
        SessionAction::Subscribe { channel: channel("my room"), admission: Box::default(), since: None };
    w.with(|hub, fx| hub.apply_session_command(&for_ann(room), fx));
    w.publish("my room", "3");
    assert_eq!(w.output(line), "");

    // A later expiry has no visible effect; an immediate one ends the session.
    let longer = SessionAction::Refresh { expired: false, expires: Some(9_999_999_999) };
    w.with(|hub, fx| hub.apply_session_command(&for_ann(longer), fx));
    assert_eq!([w.output(line), w.output(redis)], ["", ""]);
    let banned = SessionAction::Disconnect {
        code: code::FORCE_DISCONNECT.number,
        reason: "banned".into(),
        except: vec![],
    };
    w.with(|hub, fx| hub.apply_session_command(&for_ann(banned), fx));
    assert_eq!(w.output(line), "ERROR 3503 banned\r\n");
    assert_eq!(w.output(redis), "-ERR 3503 banned\r\n");
    assert!(w.closed.contains(&line) && w.closed.contains(&redis) && !w.closed.contains(&other));
}

#[test]
fn reset_makes_a_redis_client_anonymous() {
    let mut w = test_hub(with_tokens(options()), vec![]);
    let redis = w.open();
    w.exchange(redis, resp(&["AUTH", "ann"]));
    assert_eq!(w.exchange(redis, resp(&["RESET"])), "+RESET\r\n");
    assert_eq!(w.hub.stats().users, 0);
    assert!(w.exchange(redis, resp(&["SUBSCRIBE", "talk#ann"])).starts_with("-NOPERM"));
}

#[test]
fn with_a_connect_hook_no_other_hook_is_called_before_the_connection_is_accepted() {
    let proxied = NamespaceOptions { publish_proxy: true, ..options() };
    let mut w = test_hub(Settings { connect_proxy: true, ..with_tokens(proxied) }, vec![]);
    let (line, redis) = (w.open(), w.open());
    assert_eq!(w.exchange(line, "PUBLISH a x\r\n"), "ERROR 103 permission denied\r\n");
    assert!(w.exchange(redis, resp(&["PUBLISH", "a", "x"])).starts_with("-NOPERM"));
    assert_eq!(w.exchange(line, "AUTH ann\r\nPUBLISH a x\r\n"), "CONFIRMED\r\nCONFIRMED\r\n");
}

#[test]
fn automatic_subscriptions_that_were_denied_are_made_after_auth() {
    let mut w = test_hub(with_tokens(options()), vec![channel("updates")]);
    let line = w.open();
    assert_eq!(w.exchange(line, "PING\r\n"), "PONG\r\n");
    w.publish("updates", "not yet");
    assert_eq!(w.exchange(line, "AUTH ann\r\n"), "CONFIRMED\r\n");
    w.publish("updates", "now");
    assert_eq!(w.output(line), "now\r\n");
    // A channel that the client has unsubscribed is not subscribed again by the next token.
    assert_eq!(w.exchange(line, "UNSUBSCRIBE\r\nAUTH vip\r\n"), "CONFIRMED\r\nCONFIRMED\r\n");
    w.publish("updates", "unwanted");
    assert_eq!(w.output(line), "");
}
