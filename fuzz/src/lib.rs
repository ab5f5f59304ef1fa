//! The invariants of each codec for any input, as functions that panic on a violation.
//!
//! They run in two ways: in cargo-fuzz, one target per function (`fuzz_targets/`), and in the ordinary test
//! `crates/wire/tests/fuzz_corpus.rs` (`corpus.rs`) over the committed inputs of `seeds/` and mutations of them. Add an input that
//! violated an invariant to `seeds/`.
//!
//! If a function reads its input in pieces, the first byte is the size of the pieces.

use tidings_wire::body::{DataFormat, write_json};
use tidings_wire::client::reply::Reply;
use tidings_wire::client::request::{Command, Publish, Request};
use tidings_wire::client::{Encoding, Malformed};
use tidings_wire::plain::telnet::Telnet;
use tidings_wire::resp::{self, Decoded, Decoder, Limits};
use tidings_wire::sse::Event as Message;
use tidings_wire::{Channel, Publication, line, plain, proxy_protocol};

/// A PROXY header is found at its last byte and at no earlier one, within its bound; bytes after it do not count, and an
/// input that is not the beginning of a header stays so.
pub fn proxy_protocol(data: &[u8]) {
    let whole = proxy_protocol::decode(data);
    if let Ok(Some(header)) = whole {
        assert!(header.length <= data.len().min(proxy_protocol::MAX_HEADER));
        assert_eq!(proxy_protocol::decode(&data[..header.length]), whole);
    }
    for end in 0..data.len().min(proxy_protocol::MAX_HEADER) {
        match (proxy_protocol::decode(&data[..end]), whole) {
            (Ok(None), Ok(Some(header))) => assert!(end < header.length),
            (Ok(None), _) => {}
            (found, _) => assert_eq!(found, whole, "{end} bytes"),
        }
    }
}

/// Lines and telnet's sequences are independent of the split and within the limit; every line is a command or not UTF-8; a
/// message is one line, and a body that is always escaped can be unescaped.
pub fn plain(data: &[u8]) {
    const MAX: usize = 48;
    let (size, data) = size_of_pieces(data);
    let read = |size| {
        let mut searched = 0;
        in_pieces(data, size, MAX + 1, |kept| {
            let scan = line::next(kept, searched, MAX);
            searched = 0;
            match scan {
                line::Scan::Line { line, used } => {
                    assert!(line.len() <= MAX);
                    Step::Seen(line.to_vec(), used)
                }
                line::Scan::Partial => {
                    searched = kept.len();
                    Step::Partial
                }
                line::Scan::TooLong => Step::End("too long".to_owned()),
            }
        })
    };
    let lines = read(data.len());
    assert_eq!(lines, read(size));
    for line in &lines.0 {
        match plain::parse(line) {
            Ok(plain::Command::Other(text)) => assert_eq!(text.as_bytes(), &line[..]),
            Ok(_) => {}
            Err(plain::NotUtf8) => assert!(std::str::from_utf8(line).is_err()),
        }
    }

    let read = |size| {
        let (mut searched, mut returned) = (0, false);
        let (lines, end) = in_pieces(data, size, MAX, |kept| {
            if !kept.is_empty() && std::mem::take(&mut returned) && line::begins_behind_return(kept) > 0 {
                return Step::Seen(None, 1);
            }
            let scan = line::next_plain(kept, searched, MAX);
            searched = 0;
            match scan {
                line::Scan::Line { line, used } => {
                    assert!(line.len() <= MAX && !line.contains(&b'\r') && !line.contains(&b'\n'));
                    returned = kept[used - 1] == b'\r';
                    Step::Seen(Some(line.to_vec()), used)
                }
                line::Scan::Partial => {
                    searched = kept.len();
                    Step::Partial
                }
                line::Scan::TooLong => Step::End("too long".to_owned()),
            }
        });
        (lines.into_iter().flatten().collect::<Vec<_>>(), end)
    };
    assert_eq!(read(data.len()), read(size));

    let read = |size: usize| {
        let (mut state, mut text, mut answers) = (Telnet::default(), Vec::new(), Vec::new());
        let ended =
            data.chunks(size.max(1)).find_map(|piece| state.read(piece, &mut text, &mut answers).err());
        (text, answers, ended)
    };
    let whole = read(data.len());
    assert!(whole.0.len() <= data.len() && whole.1.len() <= data.len());
    assert_eq!(whole, read(size));

    for escape in plain::Escape::ALL {
        let mut message = Vec::new();
        plain::message(false, "channel", data, escape, &mut message);
        let text = message.strip_prefix(b"MESSAGE channel ").and_then(|text| text.strip_suffix(b"\r\n"));
        let text = text.expect("a message has its frame");
        assert!(!text.contains(&b'\r') && !text.contains(&b'\n'));
        match escape {
            plain::Escape::Always => assert_eq!(plain::unescape(text), data),
            plain::Escape::Auto if data.contains(&b'\r') || data.contains(&b'\n') => {}
            plain::Escape::Auto => assert_eq!(text, data),
        }
    }
    plain::unescape(data);
}

/// Commands are independent of the split and within their limits, and round-trip when they are encoded again.
pub fn resp_command(data: &[u8]) {
    const LIMITS: Limits = Limits { max_bulk: 64, max_args: 16, max_command: 200 };
    let (size, data) = size_of_pieces(data);
    let read = |size| {
        let mut decoder = Decoder::default();
        in_pieces(data, size, LIMITS.max_command, |kept| match decoder.decode(kept, &LIMITS) {
            Ok(Decoded::Command { args, used }) => {
                assert!(!args.is_empty() && args.len() <= LIMITS.max_args);
                assert!(used <= LIMITS.max_command);
                Step::Seen(args.iter().map(|arg| arg.to_vec()).collect(), used)
            }
            Ok(Decoded::Nothing { used }) => Step::Seen(Vec::new(), used),
            Ok(Decoded::Partial) => Step::Partial,
            Err(error) => Step::End(error.to_string()),
        })
    };
    let commands: (Vec<Vec<Vec<u8>>>, Option<String>) = read(data.len());
    assert_eq!(commands, read(size));

    let wide = Limits { max_bulk: 64, max_args: 16, max_command: 10_000 };
    for words in commands.0.iter().filter(|words| !words.is_empty()) {
        let words: Vec<&[u8]> = words.iter().map(|word| &word[..]).collect();
        let mut encoded = Vec::new();
        resp::command(&words, &mut encoded);
        let Ok(Decoded::Command { args, used }) = Decoder::default().decode(&encoded, &wide) else {
            panic!("{words:?} cannot be read back");
        };
        assert_eq!(used, encoded.len());
        assert!(args.iter().map(|arg| &arg[..]).eq(words.iter().copied()));
    }
}

/// A reply is complete at exactly one length, and the bytes after it do not change it.
pub fn resp_value(data: &[u8]) {
    const MAX: usize = 256;
    let Ok(Some((value, used))) = resp::decode_value(data, MAX) else { return };
    assert!(used <= MAX);
    // Compared as text, since a reply may be the double that equals nothing.
    let again = resp::decode_value(&data[..used], MAX).expect("was a value").expect("was whole");
    assert_eq!(format!("{:?}", (value, used)), format!("{again:?}"));
    for end in 0..used {
        assert_eq!(resp::decode_value(&data[..end], MAX), Ok(None), "its first {end} bytes");
    }
}

/// A message is decoded or refused with a short reason; a decoded message has a stable encoding and the same value in
/// Protobuf; a client's publication is encoded as valid JSON on one line.
pub fn client_json(data: &[u8]) {
    if let Some(command) = command(Encoding::Json, data) {
        assert!(is_json(data), "only JSON is a command");
        if let Some(protobuf) = rewritten(Encoding::Protobuf, &command, Encoding::write_command)
            && !(command.id == 0 && command.request == Request::Unknown)
        {
            assert_eq!(Encoding::Protobuf.parse_command(&protobuf).as_ref(), Ok(&command));
        }
        if let Request::Publish(Publish { channel, data: Some(data), .. }) = command.request
            && let Ok(channel) = Channel::new(&*channel)
        {
            let publication = Publication::new(channel, data.bytes.into_owned());
            let mut push = Vec::new();
            Encoding::Json.write_publication(&publication, DataFormat::Auto, &mut push);
            check_line(&push);
        }
    }
    reply(Encoding::Json, data);
}

/// The same for the messages of a Protobuf frame, which can be encoded in JSON on one line.
pub fn client_protobuf(data: &[u8]) {
    for message in Encoding::Protobuf.messages(data) {
        let Ok(message) = message else { return };
        let commands = command(Encoding::Protobuf, message);
        let json = commands.and_then(|command| rewritten(Encoding::Json, &command, Encoding::write_command));
        let replies = reply(Encoding::Protobuf, message);
        let replies = replies.and_then(|reply| rewritten(Encoding::Json, &reply, Encoding::write_reply));
        json.iter().chain(&replies).for_each(|json| check_line(json));
    }
}

/// Decodes a command, and checks that its encoding is stable.
fn command(encoding: Encoding, data: &[u8]) -> Option<Command<'_>> {
    let command = checked(encoding.parse_command(data))?;
    let written = rewritten(encoding, &command, Encoding::write_command)?;
    let again = encoding.parse_command(&written).expect("was read before");
    assert_eq!(rewritten(encoding, &again, Encoding::write_command).as_ref(), Some(&written));
    Some(command)
}

/// Decodes a reply, and checks that its encoding is stable.
fn reply(encoding: Encoding, data: &[u8]) -> Option<Reply<'_>> {
    let reply = checked(encoding.parse_reply(data))?;
    let written = rewritten(encoding, &reply, Encoding::write_reply)?;
    let again = encoding.parse_reply(&written).expect("was read before");
    assert_eq!(rewritten(encoding, &again, Encoding::write_reply).as_ref(), Some(&written));
    Some(reply)
}

fn checked<T>(read: Result<T, Malformed>) -> Option<T> {
    read.map_err(|error| assert!(!error.reason.is_empty() && error.reason.len() <= 300)).ok()
}

/// A message as encoded by `write`: the only one of its frame.
fn rewritten<T>(encoding: Encoding, message: &T, write: fn(Encoding, &T, &mut Vec<u8>)) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    write(encoding, message, &mut out);
    let mut messages = encoding.messages(&out);
    let message = messages.next()?.expect("a whole message").to_vec();
    assert_eq!(messages.next(), None);
    Some(message)
}

/// Any text is written as one event with the lines of the text.
pub fn sse(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let event = Message { data: &text, ..Message::default() };
    let mut out = Vec::new();
    event.write(&mut out).expect("only data");
    let stream = String::from_utf8(out).expect("text stays text");
    let lines = stream.strip_suffix("\n\n").expect("an event has its end").split('\n');
    let lines: Vec<_> = lines.map(|line| line.strip_prefix("data: ").expect("a line of data")).collect();
    assert_eq!(lines.join("\n"), text.replace("\r\n", "\n").replace('\r', "\n"));
    let named = Message { id: Some(&text), event: Some(&text), data: "" };
    let mut out = Vec::new();
    match named.write(&mut out) {
        Ok(()) => assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 4),
        Err(_) => assert!(out.is_empty()),
    }
}

/// Any body is one valid JSON value on one line for JSON clients; JSON keeps its value, text and bytes round-trip.
pub fn body(data: &[u8]) {
    for format in DataFormat::ALL {
        let mut out = Vec::new();
        write_json(data, format, &mut out);
        check_line(&out);
        let Ok(shown) = serde_json::from_slice::<serde_json::Value>(&out) else {
            // Nested deeper than that parser supports, or with a number or an escape that it cannot represent.
            continue;
        };
        match (std::str::from_utf8(data), format) {
            (_, DataFormat::Binary) | (Err(_), _) => assert!(shown["b64"].is_string()),
            (Ok(text), DataFormat::Text) => assert_eq!(shown, serde_json::Value::from(text)),
            (Ok(text), DataFormat::Auto | DataFormat::Json) => {
                let meant = serde_json::from_str(text).unwrap_or_else(|_| serde_json::Value::from(text));
                assert_eq!(shown, meant);
            }
        }
    }
}

fn check_line(json: &[u8]) {
    assert!(!json.contains(&b'\r') && !json.contains(&b'\n'));
    assert!(is_json(json), "{}", json.escape_ascii());
}

/// Whether these are the bytes of one JSON value, according to another parser.
fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok()
        && serde_json::from_slice::<&serde_json::value::RawValue>(bytes).is_ok()
}

fn size_of_pieces(data: &[u8]) -> (usize, &[u8]) {
    data.split_first().map_or((1, data), |(size, rest)| (usize::from(*size).max(1), rest))
}

/// The result of a decoder for the stored bytes.
enum Step<T> {
    /// One unit, and its number of bytes.
    Seen(T, usize),
    /// More bytes are needed.
    Partial,
    /// The input is invalid, for this reason.
    End(String),
}

/// Feeds `data` in pieces of `size` to `decode`, as a connection does; returns all units and the final error. Panics when
/// more than `bound` bytes had to be stored.
fn in_pieces<T>(
    data: &[u8],
    size: usize,
    bound: usize,
    mut decode: impl FnMut(&[u8]) -> Step<T>,
) -> (Vec<T>, Option<String>) {
    let (mut seen, mut kept) = (Vec::new(), Vec::new());
    for piece in data.chunks(size.max(1)) {
        kept.extend_from_slice(piece);
        loop {
            match decode(&kept) {
                Step::Seen(unit, used) => {
                    assert!(used > 0);
                    seen.push(unit);
                    kept.drain(..used);
                }
                Step::Partial => break,
                Step::End(error) => return (seen, Some(error)),
            }
        }
        assert!(kept.len() <= bound, "{} bytes kept", kept.len());
    }
    (seen, None)
}
