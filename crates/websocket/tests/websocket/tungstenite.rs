//! WebSocket frames against another implementation, tungstenite, in both directions and on both ends.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use proptest::prelude::*;
use tidings_websocket::{
    CloseCode, Event, Header, Kind, Opcode, ProtocolError, Reader, Role, Rules, close, frame, handshake,
    mask, masked_frame,
};
use tungstenite::Message;
use tungstenite::error::ProtocolError as Theirs;
use tungstenite::protocol::{Role as TheirRole, WebSocket, WebSocketConfig};

const MAX: usize = 100_000;

/// A connection to the test: reads return prepared bytes, writes are recorded.
#[derive(Debug, Default)]
struct Pipe {
    input: VecDeque<u8>,
    output: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.input.read(buf)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.output.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn theirs(role: TheirRole, input: &[u8]) -> WebSocket<Pipe> {
    let config = WebSocketConfig::default().max_message_size(Some(MAX)).max_frame_size(Some(MAX));
    let pipe = Pipe { input: input.iter().copied().collect(), output: Vec::new() };
    WebSocket::from_raw_socket(pipe, role, Some(config))
}

/// The received items, up to the end or to an error.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
    Broken,
}

fn seen_by_us(role: Role, bytes: &[u8], sizes: &[usize]) -> (Vec<Seen>, Option<ProtocolError>) {
    let rules = Rules { role, max_message: MAX as u64 };
    let (mut reader, mut buffer, mut all) = (Reader::default(), Vec::new(), Vec::new());
    let mut sizes = sizes.iter().copied().cycle();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (mut piece, after) = rest.split_at(sizes.next().unwrap().clamp(1, rest.len()));
        rest = after;
        while !piece.is_empty() {
            let (used, event) = match reader.read(piece, &rules, &mut buffer) {
                Ok(read) => read,
                Err(error) => {
                    all.push(Seen::Broken);
                    return (all, Some(error));
                }
            };
            piece = &piece[used..];
            all.push(match event {
                Event::Partial => continue,
                Event::Message(Kind::Text) => Seen::Text(std::mem::take(&mut buffer)),
                Event::Message(Kind::Binary) => Seen::Binary(std::mem::take(&mut buffer)),
                Event::Ping(payload) => Seen::Ping(payload.to_vec()),
                Event::Pong(payload) => Seen::Pong(payload.to_vec()),
                Event::Close(close) => {
                    all.push(Seen::Close(close.code().map(|code| (code.0, close.reason().to_owned()))));
                    return (all, None);
                }
            });
        }
    }
    (all, None)
}

fn seen_by_them(role: TheirRole, bytes: &[u8]) -> (Vec<Seen>, Option<tungstenite::Error>) {
    let mut socket = theirs(role, bytes);
    let mut all = Vec::new();
    loop {
        all.push(match socket.read() {
            Ok(Message::Text(text)) => Seen::Text(text.as_bytes().to_vec()),
            Ok(Message::Binary(bytes)) => Seen::Binary(bytes.to_vec()),
            Ok(Message::Ping(payload)) => Seen::Ping(payload.to_vec()),
            Ok(Message::Pong(payload)) => Seen::Pong(payload.to_vec()),
            Ok(Message::Close(close)) => {
                all.push(Seen::Close(close.map(|close| (close.code.into(), close.reason.to_string()))));
                return (all, None);
            }
            Ok(Message::Frame(_)) => unreachable!("never read"),
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return (all, None);
            }
            Err(error) => {
                all.push(Seen::Broken);
                return (all, Some(error));
            }
        });
    }
}

/// A message, or a control frame.
fn unit() -> impl Strategy<Value = Seen> {
    let long = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        (0..=255_u8, prop_oneof![120..130_usize, 65_530..65_540_usize])
            .prop_map(|(byte, length)| vec![byte; length]),
    ];
    let short = prop::collection::vec(any::<u8>(), 0..=125);
    prop_oneof![
        3 => "\\PC{0,60}".prop_map(|text| Seen::Text(text.into_bytes())),
        3 => long.prop_map(Seen::Binary),
        1 => short.clone().prop_map(Seen::Ping),
        1 => short.prop_map(Seen::Pong),
    ]
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1..9_usize, 1..3000_usize, Just(usize::MAX)], 1..5)
}

/// Appends it as one end sends it.
fn write(unit: &Seen, key: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let (opcode, payload) = match unit {
        Seen::Text(payload) => (Opcode::Text, payload),
        Seen::Binary(payload) => (Opcode::Binary, payload),
        Seen::Ping(payload) => (Opcode::Ping, payload),
        Seen::Pong(payload) => (Opcode::Pong, payload),
        Seen::Close(_) | Seen::Broken => unreachable!("not made"),
    };
    match key {
        Some(key) => masked_frame(opcode, payload, key, out),
        None => frame(opcode, payload, out),
    }
}

/// Appends a client's message in pieces, with pings between them.
fn write_split(opcode: Opcode, payload: &[u8], sizes: &[usize], key: [u8; 4], out: &mut Vec<u8>) -> usize {
    let (mut rest, mut opcode, mut pings) = (payload, opcode, 0);
    for size in sizes {
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        rest = after;
        write_part(false, opcode, piece, key, out);
        opcode = Opcode::Continuation;
        masked_frame(Opcode::Ping, &[pings as u8], key, out);
        pings += 1;
    }
    write_part(true, opcode, rest, key, out);
    pings
}

fn write_part(is_final: bool, opcode: Opcode, payload: &[u8], key: [u8; 4], out: &mut Vec<u8>) {
    Header { is_final, opcode, mask: Some(key), length: payload.len() as u64 }.write(out);
    let start = out.len();
    out.extend_from_slice(payload);
    mask(&mut out[start..], key, 0);
}

proptest! {
    #[test]
    fn tungstenite_reads_frames_of_the_server(units in prop::collection::vec(unit(), 0..8), sizes in sizes()) {
        let mut bytes = Vec::new();
        units.iter().for_each(|unit| write(unit, None, &mut bytes));
        close(CloseCode(3001), "shutdown", &mut bytes);
        let mut expected = units;
        expected.push(Seen::Close(Some((3001, "shutdown".to_owned()))));
        prop_assert_eq!(seen_by_them(TheirRole::Client, &bytes).0, &expected[..]);
        prop_assert_eq!(seen_by_us(Role::Client, &bytes, &sizes).0, expected);
    }

    #[test]
    fn tungstenite_reads_frames_of_the_client(
        units in prop::collection::vec(unit(), 0..8),
        key: [u8; 4],
        sizes in sizes(),
    ) {
        let mut bytes = Vec::new();
        units.iter().for_each(|unit| write(unit, Some(key), &mut bytes));
        prop_assert_eq!(seen_by_them(TheirRole::Server, &bytes).0, &units[..]);
        prop_assert_eq!(seen_by_us(Role::Server, &bytes, &sizes).0, units);
    }

    #[test]
    fn frames_of_tungstenite_are_read_on_both_ends(
        units in prop::collection::vec(unit(), 0..8),
        sizes in sizes(),
    ) {
        for (role, ours) in [(TheirRole::Client, Role::Server), (TheirRole::Server, Role::Client)] {
            let mut socket = theirs(role, &[]);
            for unit in units.clone() {
                socket.send(match unit {
                    Seen::Text(text) => Message::text(String::from_utf8(text).unwrap()),
                    Seen::Binary(bytes) => Message::binary(bytes),
                    Seen::Ping(payload) => Message::Ping(payload.into()),
                    Seen::Pong(payload) => Message::Pong(payload.into()),
                    Seen::Close(_) | Seen::Broken => unreachable!("not made"),
                }).unwrap();
            }
            let bytes = std::mem::take(&mut socket.get_mut().output);
            prop_assert_eq!(seen_by_us(ours, &bytes, &sizes).0, &units[..]);
        }
    }

    #[test]
    fn a_message_in_pieces_is_the_same_message(
        text in "\\PC{0,60}",
        pieces in prop::collection::vec(0..20_usize, 0..6),
        key: [u8; 4],
        sizes in sizes(),
    ) {
        let mut bytes = Vec::new();
        let pings = write_split(Opcode::Text, text.as_bytes(), &pieces, key, &mut bytes);
        let mut expected: Vec<_> = (0..pings).map(|n| Seen::Ping(vec![n as u8])).collect();
        expected.push(Seen::Text(text.into_bytes()));
        prop_assert_eq!(seen_by_them(TheirRole::Server, &bytes).0, &expected[..]);
        prop_assert_eq!(seen_by_us(Role::Server, &bytes, &sizes).0, expected);
    }

    #[test]
    fn tungstenite_agrees_on_broken_frames(
        units in prop::collection::vec(unit(), 1..4),
        key: [u8; 4],
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        sizes in sizes(),
    ) {
        let mut bytes = Vec::new();
        units.iter().for_each(|unit| write(unit, Some(key), &mut bytes));
        let at = at.index(bytes.len().min(60));
        bytes[at] = byte;
        // Completes a frame of any claimed length; the bytes after it are invalid.
        bytes.resize(bytes.len() + MAX + 100, 0);
        let (ours, our_error) = seen_by_us(Role::Server, &bytes, &sizes);
        prop_assert_eq!(&seen_by_us(Role::Server, &bytes, &[usize::MAX]).0, &ours);
        let (theirs, their_error) = seen_by_them(TheirRole::Server, &bytes);
        let before = &ours[..ours.len() - 1];
        match (our_error, &ours[before.len()]) {
            // tungstenite accepts padded lengths, and checks text only when it is complete.
            (Some(ProtocolError::PaddedLength | ProtocolError::NotUtf8), _) => {
                prop_assert!(theirs.starts_with(before));
            }
            // It shows an invalid code as 1002; and does not support 1014, which was registered later.
            (Some(ProtocolError::CloseCode(_)), _) | (None, Seen::Close(Some((1014, _)))) => {
                prop_assert!(theirs.starts_with(before));
                let shown = Seen::Close(Some((1002, "Protocol violation".to_owned())));
                prop_assert!([shown, Seen::Broken].contains(&theirs[before.len()]));
            }
            _ => prop_assert_eq!(ours, theirs, "{:?} {:?}", our_error, their_error),
        }
    }

    #[test]
    fn a_handshake_is_answered_as_by_tungstenite(random: [u8; 16]) {
        let key = handshake::key(random);
        prop_assert!(handshake::is_key(&key));
        prop_assert_eq!(handshake::accept(&key), tungstenite::handshake::derive_accept_key(key.as_bytes()));
    }
}

#[test]
#[expect(clippy::result_large_err, reason = "the type of tungstenite's callback")]
fn handshakes_with_tungstenite_succeed() {
    let key = handshake::key([7; 16]);
    let request = handshake::Request {
        host: "localhost",
        target: "/connection/websocket",
        key: &key,
        protocols: &["centrifuge-protobuf"],
        headers: &[],
    };
    let mut bytes = Vec::new();
    request.write(&mut bytes);
    let pipe = Pipe { input: bytes.into(), output: Vec::new() };
    let mut socket =
        tungstenite::accept_hdr(pipe, |_: &_, mut answer: tungstenite::handshake::server::Response| {
            let agreed = "centrifuge-protobuf".parse().expect("a header's value");
            answer.headers_mut().insert("Sec-WebSocket-Protocol", agreed);
            Ok(answer)
        })
        .expect("a handshake");
    socket.send(Message::text("hello")).unwrap();
    let bytes = std::mem::take(&mut socket.get_mut().output);
    let accepted = handshake::read_answer(&bytes, &request).unwrap().expect("a whole answer");
    assert_eq!(accepted.protocol, Some("centrifuge-protobuf"));
    assert_eq!(seen_by_us(Role::Client, &bytes[accepted.used..], &[3]).0, [Seen::Text(b"hello".to_vec())]);
}

#[test]
fn tungstenite_agrees_on_long_messages() {
    for length in [MAX, MAX + 1] {
        let mut bytes = Vec::new();
        masked_frame(Opcode::Binary, &vec![1; length], [1, 2, 3, 4], &mut bytes);
        let (_, ours) = seen_by_us(Role::Server, &bytes, &[usize::MAX]);
        let (_, their_error) = seen_by_them(TheirRole::Server, &bytes);
        assert_eq!(ours.is_some(), length > MAX);
        assert_eq!(ours.is_some(), matches!(their_error, Some(tungstenite::Error::Capacity(_))));
    }
    let unmasked = [0x81, 0];
    assert_eq!(seen_by_us(Role::Server, &unmasked, &[9]).1, Some(ProtocolError::Unmasked));
    let their_error = seen_by_them(TheirRole::Server, &unmasked).1;
    assert!(matches!(their_error, Some(tungstenite::Error::Protocol(Theirs::UnmaskedFrameFromClient))));
}
