use super::*;
use crate::{Header, close, frame, masked_frame};

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const SERVER: Rules = Rules { role: Role::Server, max_message: 1000 };
const CLIENT: Rules = Rules { role: Role::Client, max_message: 1000 };

/// What a session sees.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Message(Kind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    /// Broken, after so many bytes.
    Broken(ProtocolError),
}

/// Everything in `bytes`, which come in pieces of `size`.
fn seen(bytes: &[u8], rules: &Rules, size: usize) -> Vec<Seen> {
    let (mut reader, mut buffer, mut all) = (Reader::default(), Vec::new(), Vec::new());
    for mut piece in bytes.chunks(size) {
        while !piece.is_empty() {
            let (used, event) = match reader.read(piece, rules, &mut buffer) {
                Ok(read) => read,
                Err(error) => {
                    all.push(Seen::Broken(error));
                    return all;
                }
            };
            piece = &piece[used..];
            all.push(match event {
                Event::Partial => {
                    assert!(piece.is_empty());
                    continue;
                }
                Event::Message(kind) => Seen::Message(kind, std::mem::take(&mut buffer)),
                Event::Ping(payload) => Seen::Ping(payload.to_vec()),
                Event::Pong(payload) => Seen::Pong(payload.to_vec()),
                Event::Close(close) => {
                    all.push(Seen::Close(close.code().map(|code| code.0), close.reason().to_owned()));
                    return all;
                }
            });
        }
        assert!(buffer.len() as u64 <= rules.max_message + MAX_CONTROL as u64);
        assert!(!reader.is_idle() || (reader == Reader::default() && buffer.is_empty()));
    }
    all
}

fn text(text: &str) -> Seen {
    Seen::Message(Kind::Text, text.as_bytes().to_vec())
}

/// A frame of a client.
fn part(is_final: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Header { is_final, opcode, mask: Some(KEY), length: payload.len() as u64 }.write(&mut out);
    let start = out.len();
    out.extend_from_slice(payload);
    mask(&mut out[start..], KEY, 0);
    out
}

#[test]
fn the_examples_of_the_rfc_are_decoded() {
    // §5.7.
    let single = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    let fragments = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
    let ping = [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
    let pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(seen(&single, &CLIENT, 9), [text("Hello")]);
    assert_eq!(seen(&masked, &SERVER, 99), [text("Hello")]);
    assert_eq!(seen(&fragments, &CLIENT, 9), [text("Hello")]);
    assert_eq!(seen(&ping, &CLIENT, 9), [Seen::Ping(b"Hello".to_vec())]);
    assert_eq!(seen(&pong, &SERVER, 99), [Seen::Pong(b"Hello".to_vec())]);
    let wide = Rules { max_message: 1 << 20, ..CLIENT };
    for (header, length) in
        [(&[0x82, 0x7E, 0x01, 0x00][..], 256), (&[0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0], 65536)]
    {
        let bytes = [header, &vec![7; length]].concat();
        assert_eq!(seen(&bytes, &wide, bytes.len()), [Seen::Message(Kind::Binary, vec![7; length])]);
        let mut written = Vec::new();
        frame(Opcode::Binary, &vec![7; length], &mut written);
        assert_eq!(written, bytes);
    }
    for (opcode, bytes) in [(Opcode::Text, single), (Opcode::Ping, ping)] {
        let mut written = Vec::new();
        frame(opcode, b"Hello", &mut written);
        assert_eq!(written, bytes);
    }
    for (opcode, bytes) in [(Opcode::Text, masked), (Opcode::Pong, pong)] {
        let mut written = Vec::new();
        masked_frame(opcode, b"Hello", KEY, &mut written);
        assert_eq!(written, bytes);
    }
}

#[test]
fn control_frames_inside_a_message_are_returned_at_once() {
    let bytes = [
        part(false, Opcode::Text, b"a\xC3"),
        part(true, Opcode::Ping, &[7; 125]),
        part(false, Opcode::Continuation, b""),
        part(true, Opcode::Pong, b""),
        part(true, Opcode::Continuation, b"\xA9b"),
        part(true, Opcode::Binary, b"\xFF"),
        part(true, Opcode::Text, b""),
        part(true, Opcode::Close, b"\x03\xE8bye \xC3\xA9"),
        part(true, Opcode::Text, b"not read any more"),
    ]
    .concat();
    let expected = [
        Seen::Ping(vec![7; 125]),
        Seen::Pong(vec![]),
        text("aéb"),
        Seen::Message(Kind::Binary, vec![0xFF]),
        text(""),
        Seen::Close(Some(1000), "bye é".to_owned()),
    ];
    for size in 1..=bytes.len() {
        assert_eq!(seen(&bytes, &SERVER, size), expected, "in pieces of {size}");
    }
    assert_eq!(seen(&part(true, Opcode::Close, b""), &SERVER, 9), [Seen::Close(None, String::new())]);
}

#[test]
fn a_message_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
    for (first, second, passes) in [(1000, 0, true), (400, 600, true), (1001, 0, false), (400, 601, false)] {
        let bytes = [
            part(false, Opcode::Binary, &vec![1; first]),
            part(true, Opcode::Continuation, &vec![1; second]),
        ]
        .concat();
        let expected = if passes {
            Seen::Message(Kind::Binary, vec![1; 1000])
        } else {
            Seen::Broken(ProtocolError::TooBig(1000))
        };
        assert_eq!(seen(&bytes, &SERVER, 7), [expected]);
    }
    // Before a single byte of it has come.
    let huge = [0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4];
    assert_eq!(seen(&huge, &SERVER, 1), [Seen::Broken(ProtocolError::TooBig(1000))]);
}

#[test]
fn violations_are_reported_at_the_earliest_byte() {
    use ProtocolError as E;
    for (bytes, rules, expected, code) in [
        (&[0xC1][..], SERVER, E::ReservedBits, 1002),
        (&[0x91], CLIENT, E::ReservedBits, 1002),
        (&[0x83], SERVER, E::UnknownOpcode(3), 1002),
        (&[0x8B], SERVER, E::UnknownOpcode(11), 1002),
        (&[0x81, 0x00], SERVER, E::Unmasked, 1002),
        (&[0x81, 0x80], CLIENT, E::Masked, 1002),
        (&[0x09], SERVER, E::SplitControl, 1002),
        (&[0x89, 0xFE], SERVER, E::LongControl, 1002),
        (&[0x88, 0x7F], CLIENT, E::LongControl, 1002),
        (&[0x80], SERVER, E::Continuation, 1002),
        (&[0x01, 0x00, 0x01], CLIENT, E::Nested, 1002),
        (&[0x01, 0x00, 0x82], CLIENT, E::Nested, 1002),
        (&[0x82, 0x7E, 0, 125], CLIENT, E::PaddedLength, 1002),
        (&[0x82, 0x7F, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], CLIENT, E::PaddedLength, 1002),
        (&[0x82, 0x7F, 0x80, 0, 0, 0, 0, 0, 0, 0], CLIENT, E::NegativeLength, 1002),
        (&[0x88, 1, 3], CLIENT, E::HalfCode, 1002),
        (&[0x88, 2, 3, 0xED], CLIENT, E::CloseCode(1005), 1002),
        (&[0x88, 3, 3, 0xE8, 0xFF], CLIENT, E::NotUtf8, 1007),
        (&[0x81, 9, b'a', 0xFF], CLIENT, E::NotUtf8, 1007),
        (&[0x81, 9, 0xED, 0xA0], CLIENT, E::NotUtf8, 1007),
        (&[0x81, 1, 0xC3], CLIENT, E::NotUtf8, 1007),
        (&[0x01, 1, 0xC3, 0x80, 1, 0x28], CLIENT, E::NotUtf8, 1007),
        (&[0x82, 0x7E, 0x03, 0xE9], CLIENT, E::TooBig(1000), 1009),
    ] {
        for size in [1, 2, bytes.len()] {
            assert_eq!(seen(bytes, &rules, size), [Seen::Broken(expected)], "{bytes:x?}");
        }
        assert_eq!(seen(&bytes[..bytes.len() - 1], &rules, 1), [], "{bytes:x?}");
        assert_eq!(expected.close_code().0, code);
    }
}

#[test]
fn the_reason_of_a_close_frame_is_cut_to_fit() {
    let read = |code, reason: &str| {
        let mut bytes = Vec::new();
        close(code, reason, &mut bytes);
        seen(&bytes, &CLIENT, bytes.len())
    };
    assert_eq!(read(CloseCode::TOO_BIG, "too big"), [Seen::Close(Some(1009), "too big".to_owned())]);
    assert_eq!(read(CloseCode(4404), ""), [Seen::Close(Some(4404), String::new())]);
    assert_eq!(read(CloseCode::NORMAL, &"é".repeat(99)), [Seen::Close(Some(1000), "é".repeat(61))]);
    assert_eq!(read(CloseCode(1006), "never sent"), [Seen::Close(None, String::new())]);
}

#[test]
fn a_long_message_can_be_taken_in_pieces() {
    let payload: Vec<u8> = (0..=255).cycle().take(5000).collect();
    let bytes = [
        part(false, Opcode::Binary, &payload[..2000]),
        part(true, Opcode::Ping, b"still there?"),
        part(true, Opcode::Continuation, &payload[2000..]),
    ]
    .concat();
    let rules = Rules { max_message: 5000, ..SERVER };
    for size in [1, 13, 64] {
        let (mut reader, mut buffer, mut taken, mut pings) = (Reader::default(), Vec::new(), Vec::new(), 0);
        let mut ended = false;
        for mut piece in bytes.chunks(size) {
            while !piece.is_empty() {
                let (used, event) = reader.read(piece, &rules, &mut buffer).unwrap();
                piece = &piece[used..];
                pings += u32::from(matches!(event, Event::Ping(_)));
                ended |= matches!(event, Event::Message(_));
                let whole = buffer.len() - reader.own();
                taken.extend(buffer.drain(..whole));
                assert!(reader.begun().is_some() != ended || taken.is_empty());
            }
        }
        assert!(ended && pings == 1 && taken == payload);
    }
}

#[test]
fn a_reader_is_small() {
    assert!(size_of::<Reader>() <= 40, "{}", size_of::<Reader>());
}
