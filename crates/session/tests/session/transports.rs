//! The same session over WebSocket frames, server-sent events and one-way transports.

use serde_json::Value;
use tidings_hub::{
    CloseReason, Directive, Effect, Effects, Failure, Flow, Order, Rejection, Response, Settings, Slot,
    locate,
};
use tidings_session::Link;
use tidings_wire::client::Encoding;
use tidings_wire::code::{self, Code};
use tidings_wire::ws::deflate::Deflater;
use tidings_wire::ws::{self, Event, Opcode, Reader, Role, Rules};

use crate::world::{Broker, World, key, named, settings};

fn open(w: &mut World, link: Link) -> Slot {
    let mut fx = Effects::default();
    w.hub.open_as(link.into(), None, &mut fx).slot
}

fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    ws::masked_frame(opcode, payload, [1, 2, 3, 4], &mut out);
    out
}

/// What was sent, as messages and as the close frame's code and words.
fn received(w: &mut World, slot: Slot) -> (Vec<Vec<u8>>, Option<(u16, String)>) {
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
fn several_commands_in_one_frame_cut_up_anyhow_are_answered_in_frames() {
    for size in [1, 3, 7, 1000] {
        let mut w = World::new(settings());
        let slot = open(&mut w, named("websocket_json"));
        for piece in frame(Opcode::Text, HELLO).chunks(size) {
            assert_eq!(w.input(slot, piece), Flow::Read);
        }
        let (messages, _) = received(&mut w, slot);
        assert_eq!(json(&messages)[1]["subscribe"], serde_json::json!({}));
        assert!(w.hub.is_idle(slot), "an idle connection keeps nothing");
        w.publish("news", "7");
        assert_eq!(json(&received(&mut w, slot).0)[0]["push"]["pub"]["data"], 7);
    }
}

#[test]
fn protobuf_says_the_same_in_binary_frames() {
    let mut w = World::new(settings());
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
fn commands_behind_one_that_must_wait_are_kept_within_a_frame_and_behind_it() {
    let mut w = World::new(settings());
    w.broker = Broker::Slow;
    let slot = open(&mut w, named("websocket_json"));
    let mut bytes = frame(Opcode::Text, &[HELLO, b"\n{\"id\":3,\"ping\":{}}"].concat());
    bytes.extend(frame(Opcode::Text, b"{\"id\":4,\"ping\":{}}"));
    assert_eq!(w.input(slot, bytes), Flow::Stop);
    assert_eq!(received(&mut w, slot).0.len(), 1, "connected, and no more");
    let topic = tidings_wire::Channel::new("news").unwrap().into();
    w.with(|hub, fx| hub.live(&topic, fx));
    let ids: Vec<_> = json(&received(&mut w, slot).0).iter().map(|m| m["id"].as_u64()).collect();
    assert_eq!(ids, [Some(2), Some(3), Some(4)]);
    assert!(w.hub.is_idle(slot) && w.hub.protocols.stats().input_bytes == 0);
}

#[test]
fn control_frames_are_answered_and_a_close_with_its_own_code() {
    let mut w = World::new(settings());
    let slot = open(&mut w, named("websocket_json"));
    w.input(slot, frame(Opcode::Ping, b"hi"));
    assert_eq!(received(&mut w, slot).0, [b"pong hi".to_vec()]);
    w.input(slot, frame(Opcode::Close, &4001_u16.to_be_bytes()));
    assert_eq!(received(&mut w, slot).1, Some((4001, String::new())));
    assert!(w.closed.contains(&slot));
}

#[test]
fn what_is_wrong_with_a_frame_is_said_in_the_close() {
    for (bytes, code, words) in [
        (frame(Opcode::Binary, b"{}"), 1003, "JSON comes in text"),
        (frame(Opcode::Text, b"\xff"), 1007, "not UTF-8"),
        (b"\x81\x02{}".to_vec(), 1002, "without a mask"),
        (frame(Opcode::Text, b"{\"id\":1,\"subscribe\":{}}"), 3501, "connect first"),
    ] {
        let mut w = World::new(settings());
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
    let mut w = World::new(Settings { max_message: 100, ..settings() });
    let slot = open(&mut w, named("websocket_json"));
    w.input(slot, frame(Opcode::Text, &[b' '; 101]));
    let (messages, closed) = received(&mut w, slot);
    let error = &json(&messages)[0]["error"];
    assert_eq!(error["code"], 106);
    assert!(error["message"].as_str().unwrap().contains("100 bytes"));
    assert_eq!(closed.unwrap().0, 1009);
}

#[test]
fn a_session_whose_commands_come_another_way_is_found_by_its_secret_alone() {
    let mut w = World::new(settings());
    let slot = open(&mut w, named("sse"));
    w.input(slot, "{\"id\":1,\"connect\":{}}\n");
    let output = w.output(slot);
    let reply: Value = serde_json::from_str(output.trim().strip_prefix("data: ").unwrap()).unwrap();
    let secret = reply["connect"]["session"].as_str().unwrap();
    let (shard, id) = locate(&key(7), secret).expect("this node made it");
    assert_eq!((shard, Some(id)), (0, w.hub.id(slot)));
    assert!(locate(&key(8), secret).is_none(), "another node did not");
    let last = if secret.ends_with('0') { "1" } else { "0" };
    let guess = format!("{}{last}", &secret[..secret.len() - 1]);
    assert!(locate(&key(7), &guess).is_none() && locate(&key(7), "").is_none());
    // What everybody may see of a session does not open it.
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
    let mut w = World::new(settings());
    let slot = open(&mut w, named("uni_sse"));
    w.input(slot, "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}\n");
    assert!(w.output(slot).starts_with("data: {\"connect\":{\"client\":"));
    w.publish("news", "7");
    assert_eq!(w.output(slot), "data: {\"channel\":\"news\",\"pub\":{\"data\":7}}\n\n");
}

const ONE_WAY: [&str; 3] = ["uni_http_stream", "uni_sse", "uni_websocket"];

/// What a one-way client was sent, as JSON, and the code of the close frame where there is one.
fn pushes(w: &mut World, slot: Slot, link: Link) -> (Vec<Value>, Option<u16>) {
    if link == named("uni_websocket") {
        let (messages, closed) = received(w, slot);
        return (json(&messages), closed.map(|(code, _)| code));
    }
    let output = w.output(slot);
    let lines = output.lines().map(|line| line.strip_prefix("data: ").unwrap_or(line));
    let lines = lines.filter(|line| !line.is_empty());
    (lines.map(|line| serde_json::from_str(line).expect("JSON")).collect(), None)
}

fn introduce(w: &mut World, link: Link, connect: &Value) -> (Slot, Vec<Value>, Option<u16>) {
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
fn a_one_way_client_is_told_why_its_connection_ends_before_it_does() {
    for link in ONE_WAY.map(named) {
        let mut w = World::new(settings());
        let (slot, ..) = introduce(&mut w, link, &serde_json::json!({}));
        let ending = CloseReason::Code(4000, "enough".to_owned());
        w.with(|hub, fx| hub.end(slot, &ending, fx));
        let (told, closed) = pushes(&mut w, slot, link);
        let expected = serde_json::json!({"code": 4000, "reason": "enough", "reconnect": true});
        assert_eq!(told[0]["disconnect"], expected, "{link:?}");
        assert_eq!(closed, (link == named("uni_websocket")).then_some(4000));
        assert!(w.closed.contains(&slot));
    }
    // Its own close frame is answered with another, and nothing more.
    let mut w = World::new(settings());
    let (slot, ..) = introduce(&mut w, named("uni_websocket"), &serde_json::json!({}));
    w.input(slot, frame(Opcode::Close, &4001_u16.to_be_bytes()));
    assert_eq!(pushes(&mut w, slot, named("uni_websocket")), (vec![], Some(4001)));
}

#[test]
fn a_one_way_client_is_found_by_its_session_and_takes_no_commands_by_it() {
    for link in ONE_WAY.map(named) {
        let mut w = World::new(settings());
        let (slot, told, _) = introduce(&mut w, link, &serde_json::json!({}));
        let (other, ..) = introduce(&mut w, link, &serde_json::json!({}));
        let session = told[0]["connect"]["session"].as_str().expect("a session").to_owned();
        let (_, id) = locate(&key(7), &session).expect("this node made it");
        assert_eq!(w.hub.id(slot), Some(id));
        w.with(|hub, fx| {
            let command = b"{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}";
            assert_eq!(tidings_session::commands(hub, id, command, fx), Flow::Ended);
        });
        assert!(w.wanted.is_empty(), "{link:?}");
        let order = Order::Disconnect { code: 4501, reason: "out".into(), except: vec![] };
        let directive = Directive { user: String::new(), client: None, session: Some(session), order };
        w.with(|hub, fx| hub.order(&directive, fx));
        assert_eq!(pushes(&mut w, slot, link).0[0]["disconnect"]["code"], 4501, "{link:?}");
        assert!(w.closed.contains(&slot) && !w.closed.contains(&other));
    }
}

#[test]
fn what_keeps_a_one_way_client_out_decides_whether_it_comes_back() {
    let verdict = |code: Code| Response::Failed(Rejection::from(code).into());
    for (answer, number) in [
        (verdict(code::TOKEN_EXPIRED), 3005),
        (verdict(code::EXPIRED), 3005),
        (verdict(code::UNAUTHORIZED), 3500),
        (verdict(code::PERMISSION_DENIED), 3507),
        // The hook does not answer, or answers with an error of its own.
        (verdict(code::INTERNAL), 3004),
        (Response::Failed(Rejection { code: 1000, text: "no".into(), temporary: false }.into()), 3004),
        (Response::Failed(Failure::Disconnect(4501, "no".into())), 4501),
    ] {
        for link in ONE_WAY.map(named) {
            let mut w = World::new(Settings { connect_proxy: true, ..settings() });
            w.answers = false;
            w.authority = |_| Response::Published(0);
            let slot = open(&mut w, link);
            let mut fx = Effects::default();
            let hello = frame(Opcode::Text, b"{}");
            let bytes: &[u8] =
                if link == named("uni_websocket") { &hello } else { b"{\"id\":1,\"connect\":{}}\n" };
            tidings_session::input(&mut w.hub, slot, bytes, &mut fx);
            let asked = fx.list.iter().find_map(|effect| match effect {
                Effect::Request(id, ticket, _) => Some((*id, *ticket)),
                _ => None,
            });
            let (id, ticket) = asked.expect("the hook is called");
            let answer = clone(&answer);
            w.with(|hub, fx| hub.respond(id, ticket, answer, fx));
            let (told, closed) = pushes(&mut w, slot, link);
            assert_eq!(told[0]["disconnect"]["code"], number, "{link:?}");
            assert!(closed.is_none_or(|code| code == number), "{link:?}: {closed:?}");
        }
    }
}

/// Answers are not cloned outside of tests.
fn clone(answer: &Response) -> Response {
    let Response::Failed(failure) = answer else { panic!("{answer:?}") };
    Response::Failed(failure.clone())
}

#[test]
fn an_event_source_gets_the_data_and_is_told_when_everything_is_there() {
    let mut w = World::new(settings());
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
    assert!(w.output(slot).starts_with("400 {\"code\":107"), "and not ok");
    assert!(!w.opened.contains(&slot));
    assert!(w.closed.contains(&slot));
}

#[test]
fn the_line_ports_limit_is_not_that_of_requests() {
    let mut w = World::new(Settings { max_line: 64, ..settings() });
    let slot = open(&mut w, named("http_stream_json"));
    let long = "x".repeat(500);
    let said = format!("{{\"id\":1,\"connect\":{{\"name\":\"{long}\"}}}}\n");
    w.input(slot, said);
    assert!(w.output(slot).starts_with("{\"id\":1,\"connect\""));
}

/// What a client sends compressed, in two fragments.
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
fn compressed_commands_are_carried_out_and_an_idle_connection_keeps_nothing_of_them() {
    let ping = br#"{"id":3,"ping":{}}"#;
    let commands = [HELLO, &b"\n".repeat(200), ping].concat();
    for size in [1, 3, 1000] {
        let mut w = World::new(settings());
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
fn compressed_commands_that_must_wait_wait_decompressed() {
    let mut w = World::new(settings());
    w.broker = Broker::Slow;
    let slot = open(&mut w, named("websocket_json_deflate"));
    let commands = [HELLO, &b"\n".repeat(200), br#"{"id":3,"ping":{}}"#].concat();
    let behind = [&b" ".repeat(200)[..], br#"{"id":4,"ping":{}}"#].concat();
    assert_eq!(w.input(slot, [packed(&commands), packed(&behind)].concat()), Flow::Stop);
    assert!(w.hub.protocols.stats().input_bytes > 200);
    let topic = tidings_wire::Channel::new("news").unwrap().into();
    w.with(|hub, fx| hub.live(&topic, fx));
    let ids: Vec<_> = json(&received(&mut w, slot).0).iter().map(|m| m["id"].as_u64()).collect();
    assert_eq!(ids, [Some(1), Some(2), Some(3), Some(4)]);
    assert!(w.hub.is_idle(slot) && w.hub.protocols.stats().input_bytes == 0);
}

#[test]
fn a_compressed_message_that_is_too_long_is_an_error_that_names_the_limit_and_then_1009() {
    let mut w = World::new(Settings { max_message: 100, ..settings() });
    let slot = open(&mut w, named("websocket_json_deflate"));
    w.input(slot, packed(&[b' '; 101]));
    let (messages, closed) = received(&mut w, slot);
    let error = &json(&messages)[0]["error"];
    assert!(error["code"] == 106 && error["message"].as_str().unwrap().contains("100 bytes"), "{error}");
    assert_eq!(closed.unwrap().0, 1009);
    assert_eq!(w.hub.protocols.stats().input_bytes, 0);
}

#[test]
fn compression_counts_only_where_it_was_agreed_on() {
    for link in [named("websocket_json"), named("websocket_protobuf"), named("uni_websocket")] {
        let mut w = World::new(settings());
        let slot = open(&mut w, link);
        w.input(slot, packed(&[b' '; 101]));
        assert_eq!(received(&mut w, slot).1.expect("a close frame").0, 1002);
    }
}
