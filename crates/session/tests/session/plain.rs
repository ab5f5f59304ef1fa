//! Plain lines.

use crate::test_hub::{Broker, TestHub, part_three, settings, with_key};
use tidings_hub::{Failure, Flow, Namespace, NamespaceOptions, Namespaces, Settings, Slot, Timer};
use tidings_session::Response;
use tidings_wire::plain::{Escape, unescape};

#[test]
fn part_one_echoes_every_line() {
    let mut w = TestHub::new(settings());
    let c = w.open();
    assert_eq!(w.exchange(c, "hello\r\n"), "hello\r\n");
    assert_eq!(w.exchange(c, "zażółć\n"), "zażółć\r\n");
    assert_eq!(w.exchange(c, "\r\n"), "\r\n");
    assert_eq!(w.exchange(c, "subscribe\r\n"), "subscribe\r\n");
}

#[test]
fn part_two_pushes_every_update_to_every_connection_between_other_commands() {
    let mut w = TestHub::new(settings());
    let (a, b) = (w.open(), w.open());
    w.exchange(a, "first\r\n");
    w.expire(b, Timer::FirstByte);
    w.publish("updates", "hello world");
    assert_eq!(w.output(a), "hello world\r\n");
    assert_eq!(w.output(b), "hello world\r\n");
    assert_eq!(w.exchange(b, "still here\r\n"), "still here\r\n");
}

#[test]
fn part_three_controls_its_subscriptions() {
    let mut w = TestHub::with_protocols(settings(), part_three());
    let c = w.open();
    w.publish("updates", "unseen");
    assert_eq!(w.exchange(c, "UNSUBSCRIBE\r\n"), "ALREADY UNSUBSCRIBED\r\n");
    assert_eq!(w.exchange(c, "SUBSCRIBE\r\n"), "CONFIRMED\r\n");
    assert_eq!(w.exchange(c, "SUBSCRIBE\r\n"), "ALREADY SUBSCRIBED\r\n");
    w.publish("updates", "seen");
    assert_eq!(w.output(c), "seen\r\n");
    assert_eq!(w.exchange(c, "UNSUBSCRIBE\r\n"), "CONFIRMED\r\n");
    w.publish("updates", "unseen");
    assert_eq!(w.exchange(c, "HELLO\r\n"), "UNKNOWN COMMAND\r\n");
    assert_eq!(w.exchange(c, "subscribe\r\n"), "UNKNOWN COMMAND\r\n");
}

/// A client that is subscribed to a named channel and to the default one.
fn subscribed(settings: Settings) -> (TestHub, Slot) {
    let mut w = TestHub::with_protocols(settings, part_three());
    let c = w.open();
    assert_eq!(w.exchange(c, "SUBSCRIBE scores:nba\r\nSUBSCRIBE updates\r\n"), "CONFIRMED\r\nCONFIRMED\r\n");
    (w, c)
}

#[test]
fn a_body_without_line_breaks_arrives_byte_for_byte() {
    let (mut w, c) = subscribed(settings());
    w.publish("scores:nba", r#"{"text":"say \"hi\""}"#);
    assert_eq!(w.output(c), "MESSAGE scores:nba {\"text\":\"say \\\"hi\\\"\"}\r\n");
    w.publish("updates", r"C:\new");
    assert_eq!(w.output(c), "C:\\new\r\n");
}

#[test]
fn json_over_several_lines_arrives_on_one_and_other_text_with_line_breaks_is_escaped() {
    let (mut w, c) = subscribed(settings());
    w.publish("scores:nba", "{\n  \"a\": \"\\\"1\\\"\"\r\n}");
    assert_eq!(w.output(c), "MESSAGE scores:nba {   \"a\": \"\\\"1\\\"\"  }\r\n");
    w.publish("scores:nba", "LAL 101\r\nBOS 99\\");
    w.publish("updates", "a\nb");
    assert_eq!(w.output(c), "MESSAGE scores:nba LAL 101\\r\\nBOS 99\\\\\r\na\\nb\r\n");
}

#[test]
fn with_escape_always_every_body_can_be_unescaped() {
    let (mut w, c) = subscribed(Settings { escape: Escape::Always, ..settings() });
    for body in [r#"{"text":"say \"hi\""}"#, "{\n}", r"C:\new", "a\r\nb"] {
        w.publish("updates", body);
        let line = w.output(c);
        assert_eq!(unescape(line.trim_end().as_bytes()), body.as_bytes());
    }
}

#[test]
fn a_carriage_return_alone_ends_a_line_at_once() {
    let mut w = TestHub::new(settings());
    let c = w.open();
    assert_eq!(w.exchange(c, "PING\r"), "PONG\r\n");
    assert_eq!(w.exchange(c, "\nPING\r"), "PONG\r\n", "the line feed after it belongs to it");
    assert_eq!(w.exchange(c, "PING\r\0"), "PONG\r\n", "as telnet sends it");
    assert_eq!(w.exchange(c, "a\rb\r\r\n"), "a\r\nb\r\n\r\n");
    assert_eq!(w.exchange(c, "\n"), "\r\n");
}

#[test]
fn commands_that_end_in_carriage_returns_are_held_back_like_others() {
    let mut w = TestHub::with_protocols(settings(), part_three());
    w.broker = Broker::Slow;
    let c = w.open();
    assert_eq!(w.input(c, "PING\rSUBSCRIBE news\rPUBLISH news hi\rPI"), Flow::Stop);
    assert_eq!(w.output(c), "PONG\r\n");
    w.set_broker(Broker::Up);
    assert_eq!(w.output(c), "CONFIRMED\r\nMESSAGE news hi\r\nCONFIRMED\r\n");
    assert_eq!(w.exchange(c, "NG\r"), "PONG\r\n");
}

#[test]
fn telnet_negotiates_and_its_first_command_counts() {
    let mut w = TestHub::new(settings());
    let c = w.open();
    w.input(c, b"\xff\xfb\x1f\xff\xfd\x03\xff");
    assert_eq!(w.bytes(c), b"\xff\xfe\x1f\xff\xfc\x03", "refused at once");
    w.input(c, b"\xfa\x1f\x00\r\x00\n\xff\xf0PING\r\n");
    assert_eq!(w.bytes(c), b"PONG\r\n");
    assert_eq!(w.exchange(c, "café\r\n"), "café\r\n");
}

#[test]
fn telnet_parameters_without_an_end_end_the_session_with_an_error() {
    let mut w = TestHub::new(settings());
    let c = w.open();
    w.input(c, [&b"PING\r\n\xff\xfa"[..], &[b'x'; 2000]].concat());
    assert_eq!(w.output(c), "PONG\r\nERROR 107 telnet subnegotiation longer than 1024 bytes\r\n");
    assert!(w.closed.contains(&c));
}

#[test]
fn an_incomplete_last_line_is_executed_when_the_peer_has_half_closed() {
    for end in ["PUBLISH updates hi", "PING\r\nPUBLISH updates hi", "PUBLISH updates hi\r"] {
        let mut w = TestHub::new(settings());
        let (listener, c) = (w.open(), w.open());
        w.expire(listener, Timer::FirstByte);
        w.input(c, end);
        w.with(|hub, fx| tidings_session::finish(hub, c, fx));
        assert_eq!(w.output(listener), "hi\r\n");
        assert!(w.output(c).ends_with("CONFIRMED\r\n"), "{end:?}");
        assert!(w.closed.contains(&c));
    }
    let mut w = TestHub::with_protocols(settings(), part_three());
    w.broker = Broker::Slow;
    let c = w.open();
    w.input(c, "SUBSCRIBE news\r\nPING");
    w.with(|hub, fx| tidings_session::finish(hub, c, fx));
    assert!(!w.closed.contains(&c), "responses are pending");
    w.set_broker(Broker::Up);
    assert_eq!(w.output(c), "CONFIRMED\r\nPONG\r\n");
    assert!(w.closed.contains(&c));
}

#[test]
fn tls_and_other_binary_input_ends_the_connection_before_any_command_is_executed() {
    let hello = b"\x16\x03\x01\x02\x00\r\nPUBLISH updates owned\r\n";
    for (first, response) in [
        (&hello[..], "ERROR 107 this port speaks no TLS\r\n"),
        (b"\x80\x81\r\nPUBLISH updates owned\r\n", "ERROR 107 the first line is not UTF-8\r\n"),
        (b"\xff\xd8\xff\xe0\nPUBLISH updates owned\r\n", "ERROR 107 the first line is not UTF-8\r\n"),
    ] {
        let mut w = TestHub::new(settings());
        let (listener, c) = (w.open(), w.open());
        w.expire(listener, Timer::FirstByte);
        assert_eq!(w.input(c, first), Flow::Ended);
        assert_eq!(w.output(c), response);
        assert_eq!(w.output(listener), "");
        assert!(w.closed.contains(&c));
    }
}

#[test]
fn ping_publish_auth_and_exit_have_the_documented_responses() {
    let mut w = TestHub::with_protocols(settings(), part_three());
    let (a, b) = (w.open(), w.open());
    w.exchange(b, "SUBSCRIBE news\r\n");
    assert_eq!(w.exchange(a, "PING\r\n"), "PONG\r\n");
    assert_eq!(w.exchange(a, "PUBLISH news  two  spaces \r\n"), "CONFIRMED\r\n");
    assert_eq!(w.output(b), "MESSAGE news  two  spaces \r\n");
    assert!(w.exchange(a, "AUTH anything\r\n").starts_with("ERROR 101 "));
    assert!(w.exchange(a, "PUBLISH news\r\n").starts_with("ERROR 107 "));
    assert!(w.exchange(a, "SUBSCRIBE two words\r\n").starts_with("ERROR 107 "));
    assert!(w.exchange(a, format!("SUBSCRIBE {}\r\n", "x".repeat(256))).starts_with("ERROR 107 "));
    assert_eq!(w.exchange(a, "PING\r\n"), "PONG\r\n");
    assert_eq!(w.exchange(a, "EXIT\r\nPING\r\n"), "");
    assert!(w.closed.contains(&a) && !w.closed.contains(&b));
}

#[test]
fn a_line_beyond_the_limit_ends_the_session_with_an_error_and_is_not_kept() {
    let mut w = TestHub::new(settings());
    let longest = "x".repeat(65536);
    let c = w.open();
    assert_eq!(w.exchange(c, format!("{longest}\r\n")).len(), 65538);
    for piece in longest.as_bytes().chunks(1000) {
        assert_eq!(w.input(c, piece), Flow::Read);
    }
    assert_eq!(w.exchange(c, "\r\n").len(), 65538);
    for piece in longest.as_bytes().chunks(1000) {
        w.input(c, piece);
    }
    assert_eq!(w.input(c, "yy"), Flow::Ended);
    assert_eq!(w.output(c), "ERROR 107 line longer than 65536 bytes\r\n");
    assert!(w.closed.contains(&c));
    assert_eq!(w.exchange(c, "PING\r\n"), "");
}

#[test]
fn incomplete_commands_of_all_clients_stay_within_their_bound() {
    let mut w = TestHub::new(settings());
    let clients: Vec<Slot> = (0..40).map(|_| w.open()).collect();
    let half = "x".repeat(60_000);
    let ended = clients.iter().filter(|c| w.input(**c, &half) == Flow::Ended).count();
    assert_eq!(ended, 40 - (1 << 20) / 60_000, "sessions beyond 1 MiB are ended");
    assert!(w.hub.protocols.stats().input_bytes <= (1 << 20) + 23 * 60_000);
    let last = *clients.last().unwrap();
    assert_eq!(w.output(last), "ERROR 3013 too many requests\r\n");
    for c in w.closed.clone() {
        w.close(c);
    }
    assert!(w.hub.protocols.stats().input_bytes <= 1 << 20);
    let first = clients[0];
    assert_eq!(w.exchange(first, "\r\n").len(), 60_002, "other sessions continue");
    clients
        .iter()
        .filter(|c| w.hub.get_session_id(**c).is_some())
        .copied()
        .collect::<Vec<_>>()
        .into_iter()
        .for_each(|c| w.close(c));
    assert_eq!(w.hub.protocols.stats().input_bytes, 0);
}

#[test]
fn later_bytes_that_are_not_utf8_are_an_error_and_the_connection_goes_on() {
    let mut w = TestHub::new(settings());
    let c = w.open();
    assert_eq!(w.exchange(c, "PING\r\n"), "PONG\r\n");
    assert!(w.exchange(c, b"caf\xe9\r\n").starts_with("ERROR 107 "));
    assert_eq!(w.exchange(c, "PING\r\n"), "PONG\r\n");
}

#[test]
fn a_subscription_is_confirmed_when_the_broker_has_confirmed_it() {
    let mut w = TestHub::with_protocols(settings(), part_three());
    w.broker = Broker::Slow;
    let (a, b) = (w.open(), w.open());
    assert_eq!(w.exchange(a, "SUBSCRIBE news\r\n"), "");
    w.publish("news", "too early");
    assert_eq!(w.output(a), "");
    // Commands after it are held back.
    assert_eq!(w.input(a, "PING\r\nUNSUBSCRIBE news\r\n"), Flow::Stop);
    assert_eq!(w.exchange(b, "SUBSCRIBE news\r\n"), "");
    w.set_broker(Broker::Up);
    assert_eq!(w.output(a), "CONFIRMED\r\nPONG\r\nCONFIRMED\r\n");
    assert_eq!(w.output(b), "CONFIRMED\r\n");
}

#[test]
fn while_the_broker_is_unavailable_subscribes_fail_temporarily_and_automatic_ones_wait() {
    let mut w = TestHub::new(settings());
    w.broker = Broker::Down;
    let c = w.open();
    assert_eq!(w.exchange(c, "SUBSCRIBE news\r\n"), "ERROR 100 broker unavailable\r\n");
    assert_eq!(w.exchange(c, "SUBSCRIBE\r\n"), "ERROR 100 broker unavailable\r\n");
    assert_eq!(w.exchange(c, "PUBLISH news x\r\n"), "ERROR 100 broker unavailable\r\n");
    assert_eq!(w.exchange(c, "PING\r\n"), "PONG\r\n");
    w.set_broker(Broker::Up);
    w.publish("updates", "back");
    assert_eq!(w.output(c), "back\r\n");
    assert_eq!(w.exchange(c, "SUBSCRIBE\r\n"), "ALREADY SUBSCRIBED\r\n");
}

#[test]
fn when_the_broker_becomes_unavailable_pending_subscribes_fail_and_subscriptions_stay() {
    let mut w = TestHub::with_protocols(settings(), part_three());
    let (a, b) = (w.open(), w.open());
    w.exchange(a, "SUBSCRIBE news\r\n");
    w.broker = Broker::Slow;
    w.exchange(b, "SUBSCRIBE other\r\n");
    w.set_broker(Broker::Down);
    assert_eq!(w.output(b), "ERROR 100 broker unavailable\r\n");
    // An existing subscription that is not confirmed now does not confirm a new one.
    assert_eq!(w.exchange(b, "SUBSCRIBE news\r\n"), "ERROR 100 broker unavailable\r\n");
    w.set_broker(Broker::Up);
    w.publish("news", "again");
    assert_eq!(w.output(a), "MESSAGE news again\r\n");
    assert_eq!(w.output(b), "");
}

#[test]
fn responses_have_the_order_of_the_commands_in_any_order_of_the_broker() {
    let mut w = TestHub::with_protocols(settings(), part_three());
    w.respond_at_once = false;
    let c = w.open();
    w.input(c, "PUBLISH a 1\r\nPUBLISH b 2\r\nPUBLISH c 3\r\nPING\r\nPUBLISH d 4\r\n");
    assert_eq!(w.pending_publishes.len(), 3, "publishes are pipelined, later commands wait");
    let late = w.pending_publishes.pop_front().unwrap();
    w.respond_next(Response::Published(1));
    w.respond_next(Response::Failed(Failure::Unavailable));
    assert_eq!(w.output(c), "");
    w.pending_publishes.push_front(late);
    w.respond_next(Response::Published(0));
    assert_eq!(w.output(c), "CONFIRMED\r\nCONFIRMED\r\nERROR 100 broker unavailable\r\nPONG\r\n");
    w.respond_next(Response::Published(0));
    assert_eq!(w.output(c), "CONFIRMED\r\n");
}

#[test]
fn a_response_for_an_earlier_session_of_the_slot_is_discarded() {
    let mut w = TestHub::with_protocols(settings(), part_three());
    w.respond_at_once = false;
    let c = w.open();
    w.input(c, "PUBLISH a 1\r\n");
    w.close(c);
    let next = w.open();
    assert_eq!(next, c, "the slot is reused");
    w.input(next, "PUBLISH a 2\r\n");
    w.respond_next(Response::Published(9));
    assert_eq!(w.output(next), "");
    w.respond_next(Response::Published(9));
    assert_eq!(w.output(next), "CONFIRMED\r\n");
}

#[test]
fn a_peer_that_has_half_closed_gets_its_responses() {
    let mut w = TestHub::with_protocols(settings(), part_three());
    w.respond_at_once = false;
    let c = w.open();
    w.input(c, "PUBLISH a 1\r\n");
    w.with(|hub, fx| tidings_session::finish(hub, c, fx));
    assert!(!w.closed.contains(&c));
    w.respond_next(Response::Published(0));
    assert_eq!(w.output(c), "CONFIRMED\r\n");
    assert!(w.closed.contains(&c));
}

#[test]
fn the_number_of_channels_is_limited() {
    let mut w = TestHub::with_protocols(settings(), part_three());
    let c = w.open();
    for i in 0..128 {
        assert_eq!(w.exchange(c, format!("SUBSCRIBE c{i}\r\n")), "CONFIRMED\r\n");
    }
    assert!(w.exchange(c, "SUBSCRIBE onemore\r\n").starts_with("ERROR 106 "));
    assert_eq!(w.exchange(c, "SUBSCRIBE c5\r\n"), "ALREADY SUBSCRIBED\r\n");
    assert_eq!(w.exchange(c, "UNSUBSCRIBE c7\r\n"), "CONFIRMED\r\n");
    assert_eq!(w.exchange(c, "SUBSCRIBE onemore\r\n"), "CONFIRMED\r\n");
}

#[test]
fn with_a_key_configured_namespaces_limit_clients_and_a_backend_is_unrestricted() {
    let open = NamespaceOptions {
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        ..Default::default()
    };
    let namespaces =
        Namespaces::new(NamespaceOptions::default(), [Namespace { name: "open".into(), options: open }]);
    let mut w = TestHub::new(with_key(namespaces));
    let c = w.open();
    assert_eq!(w.exchange(c, "SUBSCRIBE\r\n"), "ERROR 103 permission denied\r\n");
    assert_eq!(w.exchange(c, "SUBSCRIBE open:a\r\n"), "CONFIRMED\r\n");
    assert_eq!(w.exchange(c, "PUBLISH open:a x\r\n"), "ERROR 103 permission denied\r\n");
    assert_eq!(w.exchange(c, "SUBSCRIBE other:a\r\n"), "ERROR 102 unknown channel\r\n");
    w.publish("updates", "without the permission");
    assert_eq!(w.output(c), "");
    assert_eq!(w.exchange(c, "AUTH guess\r\n"), "ERROR 101 unauthorized\r\n");
    assert_eq!(w.exchange(c, "AUTH sesame\r\n"), "CONFIRMED\r\n");
    assert_eq!(w.exchange(c, "PUBLISH open:a x\r\n"), "MESSAGE open:a x\r\nCONFIRMED\r\n");
}

#[test]
fn an_http_request_is_rejected_before_its_body_is_executed() {
    let mut w = TestHub::new(settings());
    let (evil, victim) = (w.open(), w.open());
    w.expire(victim, Timer::FirstByte);
    w.input(evil, "POST / HTTP/1.1\r\nHost: localhost:5567\r\n\r\nPUBLISH updates owned\r\n");
    assert_eq!(w.output(evil), "ERROR 107 this port speaks lines, not HTTP\r\n");
    assert!(w.closed.contains(&evil));
    assert_eq!(w.output(victim), "");
}

#[test]
fn a_peer_without_input_is_a_plain_client_until_its_first_byte() {
    let mut w = TestHub::new(settings());
    let c = w.open();
    w.publish("updates", "before");
    assert_eq!(w.output(c), "");
    w.expire(c, Timer::FirstByte);
    w.publish("updates", "plain");
    assert_eq!(w.output(c), "plain\r\n");
    assert_eq!(w.exchange(c, "*1\r\n$4\r\nPING\r\n"), "+PONG\r\n");
    w.publish("updates", "not for RESP");
    assert_eq!(w.output(c), "");
}
