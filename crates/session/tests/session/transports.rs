//! The same session over WebSocket frames, server-sent events and one-way transports.

use serde_json::Value;
use tidings_hub::{
    CloseReason, Failure, Flow, Rejection, SessionAction, SessionCommand, Settings, Slot, locate,
};
use tidings_session::{Effect, Effects, Response};
use tidings_session::{Link, ProtocolSettings};
use tidings_wire::client::Encoding;
use tidings_wire::code::{self, Code};
use tidings_wire::ws::deflate::Deflater;
use tidings_wire::ws::{self, Event, Opcode, Reader, Role, Rules};

use crate::test_hub::{Broker, TestHub, key, named, settings};

fn open(w: &mut TestHub, link: Link) -> Slot {
    let mut fx = Effects::default();
    w.hub.open_as(link.into(), None, &mut fx).slot
}

fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    ws::masked_frame(opcode, payload, [1, 2, 3, 4], &mut out);
    out
}

/// The output, as messages and as the code and reason of the close frame.
fn received(w: &mut TestHub, slot: Slot) -> (Vec<Vec<u8>>, Option<(u16, String)>) {
    let bytes = w.sent.remove(&slot).unwrap_or_default();
    let rules = Rules { role: Role::Client, max_message: 1 << 20 };
    let (mut reader, mut message, mut rest) = (Reader::default(), Vec::new(), &bytes[..]);
    let (mut messages, mut closed) = (Vec::new(), None);
    while !rest.is_empty() {
        let (used, event) = reader.read(rest, &rules, &mut message).expect("frames");
        rest = &rest[used..];
        match event {
            Event::Message(_) => messages.push(std::mem::take(&mut message)),
            Event::Close(close) => {
                closed = Some((close.code().map_or(0, |code| code.0), close.reason().to_owned()));
            }
            Event::Pong(payload) => messages.push([b"pong ", &payload[..]].concat()),
            other => panic!("{other:?}"),
        }
    }
    (messages, closed)
}

fn json(messages: &[Vec<u8>]) -> Vec<Value> {
    messages.iter().map(|message| serde_json::from_slice(message).expect("JSON")).collect()
}

const HELLO: &[u8] = b"{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}";

#[test]
fn fragmented_frames_with_several_commands_are_answered_in_frames() {
    for size in [1, 3, 7, 1000] {
        let mut w = TestHub::new(settings());
        let slot = open(&mut w, named("websocket_json"));
        for piece in frame(Opcode::Text, HELLO).chunks(size) {
            assert_eq!(w.input(slot, piece), Flow::Read);
        }
        let (messages, _) = received(&mut w, slot);
        assert_eq!(json(&messages)[1]["subscribe"], serde_json::json!({}));
        assert!(w.hub.is_idle(slot), "an idle connection has no memory");
        w.publish("news", "7");
        assert_eq!(json(&received(&mut w, slot).0)[0]["push"]["pub"]["data"], 7);
    }
}

#[test]
fn protobuf_works_in_binary_frames() {
    let mut w = TestHub::new(settings());
    let slot = open(&mut w, named("websocket_protobuf"));
    let mut commands = Vec::new();
    for message in Encoding::Json.messages(HELLO) {
        let command = Encoding::Json.parse_command(message.unwrap()).unwrap();
        Encoding::Protobuf.write_command(&command, &mut commands);
    }
    w.input(slot, frame(Opcode::Binary, &commands));
    w.publish("news", "7");
    let (messages, _) = received(&mut w, slot);
    let outcomes: Vec<String> = messages
        .iter()
        .flat_map(|m| Encoding::Protobuf.messages(m).map(Result::unwrap).collect::<Vec<_>>())
        .map(|m| Encoding::Protobuf.parse_reply(m).unwrap().outcome.name().to_owned())
        .collect();
    assert_eq!(outcomes, ["connect", "subscribe", "push"]);
}

#[test]
fn commands_are_held_back_within_a_frame_and_after_it() {
    let mut w = TestHub::new(settings());
    w.broker = Broker::Slow;
    let slot = open(&mut w, named("websocket_json"));
    let mut bytes = frame(Opcode::Text, &[HELLO, b"\n{\"id\":3,\"ping\":{}}"].concat());
    bytes.extend(frame(Opcode::Text, b"{\"id\":4,\"ping\":{}}"));
    assert_eq!(w.input(slot, bytes), Flow::Stop);
    assert_eq!(received(&mut w, slot).0.len(), 1, "only the reply to connect");
    let topic = tidings_wire::Channel::new("news").unwrap().into();
    w.with(|hub, fx| hub.on_topic_live(&topic, fx));
    let ids: Vec<_> = json(&received(&mut w, slot).0).iter().map(|m| m["id"].as_u64()).collect();
    assert_eq!(ids, [Some(2), Some(3), Some(4)]);
    assert!(w.hub.is_idle(slot) && w.hub.protocols.stats().input_bytes == 0);
}

#[test]
fn control_frames_are_answered_and_a_close_echoes_its_code() {
    let mut w = TestHub::new(settings());
    let slot = open(&mut w, named("websocket_json"));
    w.input(slot, frame(Opcode::Ping, b"hi"));
    assert_eq!(received(&mut w, slot).0, [b"pong hi".to_vec()]);
    w.input(slot, frame(Opcode::Close, &4001_u16.to_be_bytes()));
    assert_eq!(received(&mut w, slot).1, Some((4001, String::new())));
    assert!(w.closed.contains(&slot));
}

#[test]
fn an_invalid_frame_is_closed_with_a_reason() {
    for (bytes, code, words) in [
        (frame(Opcode::Binary, b"{}"), 1003, "JSON comes in text"),
        (frame(Opcode::Text, b"\xff"), 1007, "not UTF-8"),
        (b"\x81\x02{}".to_vec(), 1002, "without a mask"),
        (frame(Opcode::Text, b"{\"id\":1,\"subscribe\":{}}"), 3501, "connect first"),
    ] {
        let mut w = TestHub::new(settings());
        let slot = open(&mut w, named("websocket_json"));
        w.input(slot, bytes);
        let (_, closed) = received(&mut w, slot);
        let (number, reason) = closed.expect("a close frame");
        assert_eq!(number, code, "{reason}");
        assert!(reason.contains(words), "{reason}");
        assert!(w.closed.contains(&slot));
    }
}

#[test]
fn a_message_that_is_too_long_is_an_error_that_names_the_limit_and_then_1009() {
    let mut w = TestHub::with_protocols(
        settings(),
        ProtocolSettings { max_message: 100, ..ProtocolSettings::workbench() },
    );
    let slot = open(&mut w, named("websocket_json"));
    w.input(slot, frame(Opcode::Text, &[b' '; 101]));
    let (messages, closed) = received(&mut w, slot);
    let error = &json(&messages)[0]["error"];
    assert_eq!(error["code"], 106);
    assert!(error["message"].as_str().unwrap().contains("100 bytes"));
    assert_eq!(closed.unwrap().0, 1009);
}

#[test]
fn an_emulated_session_is_found_by_its_secret_only() {
    let mut w = TestHub::new(settings());
    let slot = open(&mut w, named("sse"));
    w.input(slot, "{\"id\":1,\"connect\":{}}\n");
    let output = w.output(slot);
    let reply: Value = serde_json::from_str(output.trim().strip_prefix("data: ").unwrap()).unwrap();
    let secret = reply["connect"]["session"].as_str().unwrap();
    let (shard, id) = locate(&key(7), secret).expect("this node made it");
    assert_eq!((shard, Some(id)), (0, w.hub.get_session_id(slot)));
    assert!(locate(&key(8), secret).is_none(), "another node did not");
    let last = if secret.ends_with('0') { "1" } else { "0" };
    let guess = format!("{}{last}", &secret[..secret.len() - 1]);
    assert!(locate(&key(7), &guess).is_none() && locate(&key(7), "").is_none());
    // The public id of a session does not give access to it.
    let public = reply["connect"]["client"].as_str().unwrap().replace('-', "");
    let place = secret.rsplit_once('.').unwrap().0;
    assert!(locate(&key(7), &format!("{place}.{public}")).is_none());
    w.with(|hub, fx| {
        tidings_session::commands(hub, id, b"{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}", fx);
    });
    assert_eq!(w.output(slot), "data: {\"id\":2,\"subscribe\":{}}\n\n");
}

#[test]
fn one_way_clients_get_pushes_and_no_replies() {
    let mut w = TestHub::new(settings());
    let slot = open(&mut w, named("uni_sse"));
    w.input(slot, "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}\n");
    assert!(w.output(slot).starts_with("data: {\"connect\":{\"client\":"));
    w.publish("news", "7");
    assert_eq!(w.output(slot), "data: {\"channel\":\"news\",\"pub\":{\"data\":7}}\n\n");
}

const ONE_WAY: [&str; 3] = ["uni_http_stream", "uni_sse", "uni_websocket"];

/// The output to a one-way client, as JSON, and the code of the close frame if there is one.
fn pushes(w: &mut TestHub, slot: Slot, link: Link) -> (Vec<Value>, Option<u16>) {
    if link == named("uni_websocket") {
        let (messages, closed) = received(w, slot);
        return (json(&messages), closed.map(|(code, _)| code));
    }
    let output = w.output(slot);
    let lines = output.lines().map(|line| line.strip_prefix("data: ").unwrap_or(line));
    let lines = lines.filter(|line| !line.is_empty());
    (lines.map(|line| serde_json::from_str(line).expect("JSON")).collect(), None)
}

fn introduce(w: &mut TestHub, link: Link, connect: &Value) -> (Slot, Vec<Value>, Option<u16>) {
    let slot = open(w, link);
    if link == named("uni_websocket") {
        w.input(slot, frame(Opcode::Text, connect.to_string().as_bytes()));
    } else {
        w.input(slot, format!("{}\n", serde_json::json!({"id": 1, "connect": connect})));
    }
    let (pushes, closed) = pushes(w, slot, link);
    (slot, pushes, closed)
}

#[test]
fn a_one_way_client_gets_the_reason_before_its_connection_ends() {
    for link in ONE_WAY.map(named) {
        let mut w = TestHub::new(settings());
        let (slot, ..) = introduce(&mut w, link, &serde_json::json!({}));
        let reason = CloseReason::Code(4000, "enough".to_owned());
        w.with(|hub, fx| hub.end(slot, &reason, fx));
        let (received_pushes, closed) = pushes(&mut w, slot, link);
        let expected = serde_json::json!({"code": 4000, "reason": "enough", "reconnect": true});
        assert_eq!(received_pushes[0]["disconnect"], expected, "{link:?}");
        assert_eq!(closed, (link == named("uni_websocket")).then_some(4000));
        assert!(w.closed.contains(&slot));
    }
    // The client's close frame is answered with a close frame only.
    let mut w = TestHub::new(settings());
    let (slot, ..) = introduce(&mut w, named("uni_websocket"), &serde_json::json!({}));
    w.input(slot, frame(Opcode::Close, &4001_u16.to_be_bytes()));
    assert_eq!(pushes(&mut w, slot, named("uni_websocket")), (vec![], Some(4001)));
}

#[test]
fn a_one_way_session_has_a_secret_and_accepts_no_commands() {
    for link in ONE_WAY.map(named) {
        let mut w = TestHub::new(settings());
        let (slot, received_pushes, _) = introduce(&mut w, link, &serde_json::json!({}));
        let (other, ..) = introduce(&mut w, link, &serde_json::json!({}));
        let session = received_pushes[0]["connect"]["session"].as_str().expect("a session").to_owned();
        let (_, id) = locate(&key(7), &session).expect("this node made it");
        assert_eq!(w.hub.get_session_id(slot), Some(id));
        w.with(|hub, fx| {
            let command = b"{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}";
            assert_eq!(tidings_session::commands(hub, id, command, fx), Flow::Ended);
        });
        assert!(w.subscribed_topics.is_empty(), "{link:?}");
        let action = SessionAction::Disconnect { code: 4501, reason: "out".into(), except: vec![] };
        let command = SessionCommand { user: String::new(), client: None, session: Some(session), action };
        w.with(|hub, fx| hub.apply_session_command(&command, fx));
        assert_eq!(pushes(&mut w, slot, link).0[0]["disconnect"]["code"], 4501, "{link:?}");
        assert!(w.closed.contains(&slot) && !w.closed.contains(&other));
    }
}

#[test]
fn the_error_of_a_one_way_client_determines_whether_it_reconnects() {
    let rejection = |code: Code| Response::Failed(Rejection::from(code).into());
    for (response, number) in [
        (rejection(code::TOKEN_EXPIRED), 3005),
        (rejection(code::EXPIRED), 3005),
        (rejection(code::UNAUTHORIZED), 3500),
        (rejection(code::PERMISSION_DENIED), 3507),
        // The hook fails, or responds with its own error.
        (rejection(code::INTERNAL), 3004),
        (Response::Failed(Rejection { code: 1000, text: "no".into(), temporary: false }.into()), 3004),
        (Response::Failed(Failure::Disconnect(4501, "no".into())), 4501),
    ] {
        for link in ONE_WAY.map(named) {
            let mut w = TestHub::new(Settings { connect_proxy: true, ..settings() });
            w.respond_at_once = false;
            w.authority = |_| Response::Published(0);
            let slot = open(&mut w, link);
            let mut fx = Effects::default();
            let hello = frame(Opcode::Text, b"{}");
            let bytes: &[u8] =
                if link == named("uni_websocket") { &hello } else { b"{\"id\":1,\"connect\":{}}\n" };
            tidings_session::input(&mut w.hub, slot, bytes, &mut fx);
            let request = fx.list.iter().find_map(|effect| match effect {
                Effect::Request(id, ticket, _) => Some((*id, *ticket)),
                _ => None,
            });
            let (id, ticket) = request.expect("the hook is called");
            let response = clone(&response);
            w.with(|hub, fx| hub.respond(id, ticket, response, fx));
            let (received_pushes, closed) = pushes(&mut w, slot, link);
            assert_eq!(received_pushes[0]["disconnect"]["code"], number, "{link:?}");
            assert!(closed.is_none_or(|code| code == number), "{link:?}: {closed:?}");
        }
    }
}

/// Clones a response; only tests need that.
fn clone(response: &Response) -> Response {
    let Response::Failed(failure) = response else { panic!("{response:?}") };
    Response::Failed(failure.clone())
}

#[test]
fn an_event_source_gets_the_data_and_opens_when_everything_is_subscribed() {
    let mut w = TestHub::new(settings());
    let slot = open(&mut w, named("events"));
    w.input(
        slot,
        "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}\n{\"id\":3,\"subscribe\":{\"channel\":\"b\"}}\n",
    );
    assert_eq!(w.output(slot), ":ok\n\n");
    assert!(w.opened.remove(&slot));
    w.publish("b", "plain text");
    assert_eq!(w.output(slot), "data: plain text\n\n");
    let slot = open(&mut w, named("events"));
    w.input(slot, "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"a\\tb\"}}\n");
    assert!(w.output(slot).starts_with("400 {\"code\":107"), "instead of opening");
    assert!(!w.opened.contains(&slot));
    assert!(w.closed.contains(&slot));
}

#[test]
fn the_line_limit_does_not_apply_to_http_requests() {
    let mut w = TestHub::with_protocols(
        settings(),
        ProtocolSettings { max_line: 64, ..ProtocolSettings::workbench() },
    );
    let slot = open(&mut w, named("http_stream_json"));
    let long = "x".repeat(500);
    let said = format!("{{\"id\":1,\"connect\":{{\"name\":\"{long}\"}}}}\n");
    w.input(slot, said);
    assert!(w.output(slot).starts_with("{\"id\":1,\"connect\""));
}

/// A compressed message of a client, in two fragments.
fn packed(payload: &[u8]) -> Vec<u8> {
    let (mut whole, mut out) = (Vec::new(), Vec::new());
    Deflater::new(9, 0).frame_with(Opcode::Text, &mut whole, |out| out.extend_from_slice(payload));
    assert!(whole[0] == 0xC1 && whole[1] < 126, "short when it is compressed");
    let (head, tail) = whole[2..].split_at(5);
    for (first, payload) in [(0x41, head), (0x80, tail)] {
        out.extend([first, 0x80 | payload.len() as u8, 0, 0, 0, 0]);
        out.extend(payload);
    }
    out
}

#[test]
fn compressed_commands_are_executed_and_leave_no_memory() {
    let ping = br#"{"id":3,"ping":{}}"#;
    let commands = [HELLO, &b"\n".repeat(200), ping].concat();
    for size in [1, 3, 1000] {
        let mut w = TestHub::new(settings());
        let slot = open(&mut w, named("websocket_json_deflate"));
        for piece in packed(&commands).chunks(size) {
            w.input(slot, piece);
        }
        let ids: Vec<_> = json(&received(&mut w, slot).0).iter().map(|m| m["id"].as_u64()).collect();
        assert_eq!(ids, [Some(1), Some(2), Some(3)]);
        assert!(w.hub.is_idle(slot) && w.hub.protocols.stats().input_bytes == 0);
        let inflated = w.hub.protocols.stats().inflated;
        assert!(inflated.plain == commands.len() as u64 && inflated.packed < inflated.plain / 2);
        w.publish("news", "7");
        assert_eq!(json(&received(&mut w, slot).0)[0]["push"]["pub"]["data"], 7);
    }
}

#[test]
fn compressed_commands_are_held_back_decompressed() {
    let mut w = TestHub::new(settings());
    w.broker = Broker::Slow;
    let slot = open(&mut w, named("websocket_json_deflate"));
    let commands = [HELLO, &b"\n".repeat(200), br#"{"id":3,"ping":{}}"#].concat();
    let behind = [&b" ".repeat(200)[..], br#"{"id":4,"ping":{}}"#].concat();
    assert_eq!(w.input(slot, [packed(&commands), packed(&behind)].concat()), Flow::Stop);
    assert!(w.hub.protocols.stats().input_bytes > 200);
    let topic = tidings_wire::Channel::new("news").unwrap().into();
    w.with(|hub, fx| hub.on_topic_live(&topic, fx));
    let ids: Vec<_> = json(&received(&mut w, slot).0).iter().map(|m| m["id"].as_u64()).collect();
    assert_eq!(ids, [Some(1), Some(2), Some(3), Some(4)]);
    assert!(w.hub.is_idle(slot) && w.hub.protocols.stats().input_bytes == 0);
}

#[test]
fn a_compressed_message_that_is_too_long_is_an_error_that_names_the_limit_and_then_1009() {
    let mut w = TestHub::with_protocols(
        settings(),
        ProtocolSettings { max_message: 100, ..ProtocolSettings::workbench() },
    );
    let slot = open(&mut w, named("websocket_json_deflate"));
    w.input(slot, packed(&[b' '; 101]));
    let (messages, closed) = received(&mut w, slot);
    let error = &json(&messages)[0]["error"];
    assert!(error["code"] == 106 && error["message"].as_str().unwrap().contains("100 bytes"), "{error}");
    assert_eq!(closed.unwrap().0, 1009);
    assert_eq!(w.hub.protocols.stats().input_bytes, 0);
}

#[test]
fn compression_is_accepted_only_if_negotiated() {
    for link in [named("websocket_json"), named("websocket_protobuf"), named("uni_websocket")] {
        let mut w = TestHub::new(settings());
        let slot = open(&mut w, link);
        w.input(slot, packed(&[b' '; 101]));
        assert_eq!(received(&mut w, slot).1.expect("a close frame").0, 1002);
    }
}
