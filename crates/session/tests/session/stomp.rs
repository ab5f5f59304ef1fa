//! STOMP over WebSocket frames.

use tidings_hub::{Flow, Namespace, NamespaceOptions, Namespaces, Rejection, Settings, Slot, Timer};
use tidings_session::ProtocolSettings;
use tidings_session::Response;
use tidings_wire::code;
use tidings_wire::ws::{self, Event, Opcode, Reader, Role, Rules};

use crate::test_hub::{Broker, TestHub, named, settings, with_key};

const CONNECT: &str = "CONNECT\naccept-version:1.1,1.2\nhost:a\nheart-beat:10000,10000\n\n\0";

fn open(w: &mut TestHub) -> Slot {
    let mut fx = tidings_session::Effects::default();
    w.hub.open_as(named("stomp").into(), None, &mut fx).slot
}

fn send(w: &mut TestHub, slot: Slot, frames: &str) -> Flow {
    let mut bytes = Vec::new();
    ws::masked_frame(Opcode::Text, frames.as_bytes(), [1, 2, 3, 4], &mut bytes);
    w.input(slot, bytes)
}

/// The frames that were sent, each without its NUL, and the code of the Close frame.
fn received(w: &mut TestHub, slot: Slot) -> (Vec<String>, Option<u16>) {
    let bytes = w.sent.remove(&slot).unwrap_or_default();
    let rules = Rules { role: Role::Client, max_message: 1 << 20 };
    let (mut reader, mut message, mut rest) = (Reader::default(), Vec::new(), &bytes[..]);
    let (mut frames, mut closed) = (Vec::new(), None);
    while !rest.is_empty() {
        assert_eq!(closed, None, "nothing is sent behind a Close frame");
        let (used, event) = reader.read(rest, &rules, &mut message).expect("frames");
        rest = &rest[used..];
        match event {
            Event::Message(_) => {
                let text = String::from_utf8(std::mem::take(&mut message)).unwrap();
                frames.push(text.strip_suffix('\0').unwrap_or(&text).to_owned());
            }
            Event::Close(close) => closed = Some(close.code().map_or(0, |code| code.0)),
            other => panic!("{other:?}"),
        }
    }
    (frames, closed)
}

fn say(w: &mut TestHub, slot: Slot, frames: &str) -> Vec<String> {
    send(w, slot, frames);
    received(w, slot).0
}

fn connected(w: &mut TestHub) -> Slot {
    let slot = open(w);
    let answer = say(w, slot, CONNECT);
    assert!(answer.len() == 1 && answer[0].starts_with("CONNECTED\nversion:1.2\n"), "{answer:?}");
    slot
}

fn subscribe(id: &str, destination: &str) -> String {
    format!("SUBSCRIBE\nid:{id}\ndestination:{destination}\nreceipt:r{id}\n\n\0")
}

/// Says something that is answered with an error; gives its headers.
fn error(w: &mut TestHub, slot: Slot, frames: &str) -> String {
    send(w, slot, frames);
    let (frames, closed) = received(w, slot);
    let last = frames.last().expect("an error").clone();
    assert!(last.starts_with("ERROR\n"), "{last}");
    assert!(closed.is_some() && w.closed.contains(&slot), "the connection is closed behind an error");
    last.split("\n\n").next().unwrap().to_owned()
}

#[test]
fn a_client_connects_subscribes_and_gets_messages_with_the_id_of_its_subscription() {
    let mut w = TestHub::new(settings());
    let (a, b) = (connected(&mut w), connected(&mut w));
    assert_eq!(say(&mut w, a, &subscribe("sub-0", "news")), ["RECEIPT\nreceipt-id:rsub-0\n\n"]);
    assert_eq!(say(&mut w, b, &subscribe("x:y", "news")), ["RECEIPT\nreceipt-id:rx\\cy\n\n"]);
    w.publish("news", "hi");
    w.publish("news", "there");
    let message = |id: &str, number, body: &str| {
        let length = body.len();
        format!(
            "MESSAGE\nsubscription:{id}\nmessage-id:{number}\ndestination:news\n\
             content-type:text/plain;charset=utf-8\ncontent-length:{length}\n\n{body}"
        )
    };
    let expected = |id: &str| vec![message(id, 1, "hi"), message(id, 2, "there")];
    assert_eq!(received(&mut w, a).0, expected("sub-0"));
    assert_eq!(received(&mut w, b).0, expected("x\\cy"));

    assert_eq!(say(&mut w, a, "UNSUBSCRIBE\nid:sub-0\nreceipt:u\n\n\0"), ["RECEIPT\nreceipt-id:u\n\n"]);
    w.publish("news", "later");
    assert_eq!(received(&mut w, a).0, [""; 0]);
    assert_eq!(received(&mut w, b).0.len(), 1);
}

#[test]
fn two_subscriptions_to_one_destination_each_get_the_message() {
    for broker in [Broker::Up, Broker::Slow] {
        let mut w = TestHub::new(settings());
        let slot = connected(&mut w);
        w.set_broker(broker);
        send(&mut w, slot, &[subscribe("1", "news"), subscribe("2", "news")].concat());
        w.set_broker(Broker::Up);
        assert_eq!(received(&mut w, slot).0.len(), 2, "two receipts");
        w.publish("news", "hi");
        assert_eq!(received(&mut w, slot).0.len(), 2);
        assert_eq!(say(&mut w, slot, "UNSUBSCRIBE\nid:1\n\n\0"), [""; 0]);
        w.publish("news", "hi");
        let messages = received(&mut w, slot).0;
        assert!(messages.len() == 1 && messages[0].contains("subscription:2\n"), "{messages:?}");
    }
}

#[test]
fn receipts_come_in_the_order_of_the_frames() {
    let mut w = TestHub::new(settings());
    let slot = connected(&mut w);
    w.respond_at_once = false;
    let frames = "SEND\ndestination:news\nreceipt:1\n\na\0SEND\ndestination:news\nreceipt:2\n\nb\0\
                  SUBSCRIBE\nid:0\ndestination:news\nreceipt:3\n\n\0DISCONNECT\nreceipt:4\n\n\0";
    assert_eq!(say(&mut w, slot, frames), [""; 0]);
    w.respond_next(Response::Published(0));
    w.respond_next(Response::Published(0));
    let receipt = |number| format!("RECEIPT\nreceipt-id:{number}\n\n");
    assert_eq!(received(&mut w, slot), ((1..=4).map(receipt).collect(), Some(1000)));
}

#[test]
fn headers_of_a_send_frame_are_tags_and_arrive_as_headers() {
    let mut w = TestHub::new(settings());
    let slot = connected(&mut w);
    w.respond_at_once = false;
    send(&mut w, slot, "SEND\ndestination:news\ncontent-type:text/html\npriority:9\npriority:1\n\n<b>\0");
    assert_eq!(w.tags, [("content-type", "text/html"), ("priority", "9")].map(|(n, v)| (n.into(), v.into())));
}

#[test]
fn frames_cut_up_over_messages_and_bytes_are_read_alike() {
    let frames = [CONNECT, "\n", &subscribe("0", "news"), "\r\nSEND\ndestination:news\n\nhi\0"].concat();
    let mut w = TestHub::new(settings());
    let slot = open(&mut w);
    let whole = say(&mut w, slot, &frames);
    assert_eq!(whole.len(), 3, "{whole:?}");
    for size in [1, 2, 5, 13, 64] {
        let mut w = TestHub::new(settings());
        let slot = open(&mut w);
        for piece in frames.as_bytes().chunks(size) {
            let mut bytes = Vec::new();
            ws::masked_frame(Opcode::Binary, piece, [1, 2, 3, 4], &mut bytes);
            for byte in bytes {
                assert_eq!(w.input(slot, [byte]), Flow::Read);
            }
        }
        assert_eq!(received(&mut w, slot).0, whole, "pieces of {size}");
        assert_eq!(w.hub.protocols.stats().input_bytes, 0);
    }
}

#[test]
fn what_is_not_available_is_an_error_that_says_so() {
    let cases = [
        (
            "SUBSCRIBE\nid:0\ndestination:a\nack:client\n\n\0",
            "ack\\cclient is not available, only ack\\cauto",
        ),
        ("SUBSCRIBE\nid:0\ndestination:a\nack:client-individual\n\n\0", "only ack\\cauto"),
        ("ACK\nid:1\n\n\0", "messages are not acknowledged"),
        ("NACK\nid:1\n\n\0", "messages are not acknowledged"),
        ("BEGIN\ntransaction:t\n\n\0", "transactions are not available"),
        ("SEND\ndestination:a\ntransaction:t\n\nhi\0", "transactions are not available"),
    ];
    for (frame, words) in cases {
        let mut w = TestHub::new(settings());
        let slot = connected(&mut w);
        let frame = frame.replacen('\n', "\nreceipt:r\n", 1);
        let error = error(&mut w, slot, &frame);
        assert!(error.contains(words) && error.contains("\nreceipt-id:r\n"), "{error}");
        assert!(error.contains("\ncode:108\n"), "{error}");
    }
}

#[test]
fn a_frame_that_cannot_be_carried_out_is_an_error_with_its_receipt() {
    let long = "x".repeat(256);
    let cases = [
        ("SUBSCRIBE\nid:0\n\n\0".to_owned(), 107),
        ("SUBSCRIBE\ndestination:a\n\n\0".to_owned(), 107),
        (format!("SUBSCRIBE\nid:{long}\ndestination:a\n\n\0"), 107),
        (format!("SUBSCRIBE\nid:0\ndestination:{long}\n\n\0"), 107),
        ("SUBSCRIBE\nid:taken\ndestination:b\n\n\0".to_owned(), 105),
        ("SUBSCRIBE\nid:0\ndestination:tidings.x\n\n\0".to_owned(), 103),
        ("SUBSCRIBE\nid:0\ndestination:no:such\n\n\0".to_owned(), 102),
        ("UNSUBSCRIBE\nid:0\n\n\0".to_owned(), 107),
        ("UNSUBSCRIBE\n\n\0".to_owned(), 107),
        ("SEND\n\nhi\0".to_owned(), 107),
        ("SEND\ndestination:tidings.x\n\nhi\0".to_owned(), 103),
    ];
    for (frame, code) in cases {
        let chat = Namespace { name: "chat".into(), options: NamespaceOptions::default() };
        let namespaces = Namespaces::new(NamespaceOptions::default(), [chat]);
        let mut w = TestHub::new(Settings { namespaces, ..settings() });
        let slot = connected(&mut w);
        say(&mut w, slot, &subscribe("taken", "a"));
        let frame = frame.replacen('\n', "\nreceipt:r\n", 1);
        let error = error(&mut w, slot, &frame);
        assert!(error.contains(&format!("\ncode:{code}\nreceipt-id:r\n")), "{frame}: {error}");
    }
}

#[test]
fn the_number_of_subscriptions_is_limited() {
    let mut w = TestHub::new(Settings { channel_limit: 2, ..settings() });
    let slot = connected(&mut w);
    say(&mut w, slot, &[subscribe("0", "a"), subscribe("1", "a")].concat());
    let error = error(&mut w, slot, &subscribe("2", "a"));
    assert!(error.contains("limit exceeded\\c 2 subscriptions a connection"), "{error}");
}

#[test]
fn the_first_frame_must_be_connect_with_version_1_2() {
    let cases = [
        ("SUBSCRIBE\nid:0\ndestination:a\n\n\0", "the first frame must be CONNECT"),
        ("CONNECT\naccept-version:1.0,1.1\n\n\0", "\nversion:1.2\n"),
        ("CONNECT\n\n\0", "\nversion:1.2\n"),
        ("CONNECT\naccept-version:1.2\nheart-beat:often\n\n\0", "heart-beat must be two numbers"),
        ("GET / HTTP/1.1\r\n\r\n", "unknown command"),
    ];
    for (frame, words) in cases {
        let mut w = TestHub::new(settings());
        let slot = open(&mut w);
        let error = error(&mut w, slot, frame);
        assert!(error.contains(words), "{error}");
    }
    let mut w = TestHub::new(settings());
    let slot = connected(&mut w);
    assert!(error(&mut w, slot, CONNECT).contains("connected already"));
    let slot = open(&mut w);
    w.expire(slot, Timer::Stale);
    assert!(w.closed.contains(&slot), "a client that does not connect in time");
}

#[test]
fn the_passcode_is_a_token_or_the_api_key() {
    let open_to_clients =
        NamespaceOptions { allow_subscribe_for_client: true, ..NamespaceOptions::default() };
    let with_tokens = || {
        let mut settings = with_key(Namespaces::new(open_to_clients.clone(), []));
        settings.access.tokens = true;
        settings
    };
    let connect = |passcode: &str| CONNECT.replacen('\n', &format!("\nlogin:me\npasscode:{passcode}\n"), 1);
    let mut w = TestHub::new(with_tokens());
    w.authority = |question| match question {
        tidings_hub::AuthorizationRequest::Connect { token, .. } if token == "good" => {
            let connected = tidings_hub::Connected { user: "ann".into(), ..Default::default() };
            Response::Connected(Box::new(connected))
        }
        _ => Response::Failed(Rejection::from(code::UNAUTHORIZED).into()),
    };
    for (passcode, publishes) in [("good", false), ("sesame", true)] {
        let slot = open(&mut w);
        assert!(say(&mut w, slot, &connect(passcode))[0].starts_with("CONNECTED\n"), "{passcode}");
        assert_eq!(say(&mut w, slot, &subscribe("0", "news")).len(), 1, "{passcode}");
        send(&mut w, slot, "SEND\ndestination:news\nreceipt:1\n\nhi\0");
        assert_eq!(w.closed.contains(&slot), !publishes, "{passcode}");
    }
    for frame in [connect("bad"), CONNECT.to_owned()] {
        let slot = open(&mut w);
        assert!(error(&mut w, slot, &frame).contains("\ncode:101"), "{frame}");
    }
    // Without secrets, front ends that always send a passcode connect.
    let mut w = TestHub::new(settings());
    let slot = open(&mut w);
    assert!(say(&mut w, slot, &connect("guest"))[0].starts_with("CONNECTED\n"));
}

#[test]
fn heart_beats_keep_a_connection_and_silence_ends_it() {
    let mut w = TestHub::new(settings());
    let slot = connected(&mut w);
    for _ in 0..5 {
        w.expire(slot, Timer::Ping);
        assert_eq!(received(&mut w, slot).0, ["\n"], "the server's heart-beat");
        send(&mut w, slot, "\n");
    }
    (0..2).for_each(|_| w.expire(slot, Timer::Ping));
    assert!(!w.closed.contains(&slot));
    received(&mut w, slot);
    w.expire(slot, Timer::Ping);
    let (frames, closed) = received(&mut w, slot);
    assert!(frames[0].starts_with("ERROR\nmessage:no pong\n"), "{frames:?}");
    assert_eq!(closed, Some(code::NO_PONG.number));

    let slot = open(&mut w);
    say(&mut w, slot, &CONNECT.replace("10000,10000", "0,0"));
    (0..100).for_each(|_| w.expire(slot, Timer::Ping));
    assert_eq!(received(&mut w, slot).0, [""; 0], "none was requested");
}

#[test]
fn a_frame_longer_than_the_limit_ends_with_1009() {
    let mut w = TestHub::with_protocols(
        settings(),
        ProtocolSettings { max_message: 100, ..ProtocolSettings::workbench() },
    );
    let slot = connected(&mut w);
    send(&mut w, slot, &format!("SEND\ndestination:a\n\n{}", "x".repeat(70)));
    send(&mut w, slot, &"x".repeat(70));
    let (frames, closed) = received(&mut w, slot);
    assert!(frames[0].contains("frame longer than 100 bytes"), "{frames:?}");
    assert_eq!(closed, Some(1009));
}

#[test]
fn incomplete_frames_of_all_clients_together_are_limited() {
    let protocols =
        ProtocolSettings { max_message: 4096, input_limit: 10_000, ..ProtocolSettings::workbench() };
    let mut w = TestHub::with_protocols(settings(), protocols);
    let part = format!("SEND\ndestination:a\n\n{}", "x".repeat(3000));
    let slots: Vec<Slot> = (0..4).map(|_| connected(&mut w)).collect();
    for slot in &slots {
        send(&mut w, *slot, &part);
    }
    let closed: Vec<bool> = slots.iter().map(|slot| w.closed.contains(slot)).collect();
    assert_eq!(closed, [false, false, false, true], "the client that added to them");
    assert_eq!(received(&mut w, slots[3]).1, Some(code::OVERLOADED.number));
}

#[test]
fn a_malformed_frame_is_answered_behind_the_receipts_before_it() {
    let mut w = TestHub::new(settings());
    let slot = connected(&mut w);
    w.respond_at_once = false;
    send(&mut w, slot, "SEND\ndestination:a\nreceipt:1\n\nhi\0NO SUCH FRAME\n\n\0");
    assert_eq!(received(&mut w, slot), (vec![], None));
    w.respond_next(Response::Published(1));
    let (frames, closed) = received(&mut w, slot);
    assert_eq!(frames[0], "RECEIPT\nreceipt-id:1\n\n");
    assert!(frames[1].contains("unknown command") && closed.is_some(), "{frames:?}");
}

#[test]
fn a_client_that_waits_for_the_server_is_not_silent() {
    let mut w = TestHub::new(settings());
    let slot = connected(&mut w);
    w.respond_at_once = false;
    send(&mut w, slot, "SEND\ndestination:a\n\nhi\0SUBSCRIBE\nid:0\ndestination:a\n\n\0");
    (0..10).for_each(|_| w.expire(slot, Timer::Ping));
    assert!(!w.closed.contains(&slot), "its heart-beats are not read");
}

#[test]
fn an_outage_of_the_broker_is_a_temporary_error() {
    let mut w = TestHub::new(settings());
    let slot = connected(&mut w);
    w.set_broker(Broker::Down);
    let error = error(&mut w, slot, &subscribe("0", "news"));
    assert!(error.contains("message:broker unavailable\ncode:100\nreceipt-id:r0"), "{error}");
}
