//! The invariants of the WebSocket codec for any input, as a function that panics on a violation.
//!
//! It runs in two ways, like those of `lib.rs`: in cargo-fuzz (`fuzz_targets/websocket.rs`), and in the ordinary test
//! `crates/websocket/tests/websocket/fuzz_corpus.rs` over the committed inputs of `seeds/` and mutations of them.

use tidings_websocket::deflate::{self, Deflater, Inflater};
use tidings_websocket::handshake::{Request, read_answer};
use tidings_websocket::{self as ws, Event, Kind, Opcode, Reader, Role, Rules};

/// Frames, also compressed ones, are independent of the split and within the limit; messages and control frames round-trip.
/// An answer to an offer of compression is itself an acceptable offer with the same answer.
///
/// The first byte is the size of the pieces.
pub fn frames(data: &[u8]) {
    const MAX: usize = 48;
    let Some((size, data)) = data.split_first() else { return };
    let size = usize::from(*size).max(1);
    for role in [Role::Server, Role::Client] {
        let whole = read_frames(role, data, data.len().max(1), MAX);
        assert_eq!(whole, read_frames(role, data, size, MAX));
        deflated_frames(role, data, size, MAX);
        let mut written = Vec::new();
        for (opcode, payload) in &whole.0 {
            match role {
                Role::Server => ws::masked_frame(*opcode, payload, [1, 2, 3, 4], &mut written),
                Role::Client => ws::frame(*opcode, payload, &mut written),
            }
        }
        assert_eq!(read_frames(role, &written, size, MAX), (whole.0, None));
    }
    let answer = std::str::from_utf8(data).ok().and_then(|offer| deflate::negotiate([offer]));
    assert!(answer.is_none_or(|answer| deflate::negotiate([answer]) == Some(answer)));
    let request = Request { host: "h", target: "/", key: "k", protocols: &["p"], headers: &[] };
    if let Ok(Some(accepted)) = read_answer(data, &request) {
        assert!(accepted.used <= data.len() && accepted.protocol.is_none_or(|protocol| protocol == "p"));
    }
}

/// The same with compression: a server's messages also round-trip when they are compressed.
fn deflated_frames(role: Role, data: &[u8], size: usize, max: usize) {
    let read = |bytes: &[u8], size| all_frames(role, bytes, size, max, Some(&mut Inflater::default()));
    let whole = read(data, data.len().max(1));
    assert_eq!(whole, read(data, size));
    if role == Role::Server {
        return;
    }
    let (mut deflater, mut written) = (Deflater::new(1, 0), Vec::new());
    for (opcode, payload) in &whole.0 {
        if opcode.is_control() {
            ws::frame(*opcode, payload, &mut written);
        } else {
            deflater.frame_with(*opcode, &mut written, |out| out.extend_from_slice(payload));
        }
    }
    assert_eq!(read(&written, size), (whole.0, None));
}

/// The contents of frames without extensions.
fn read_frames(role: Role, data: &[u8], size: usize, max: usize) -> Seen {
    all_frames(role, data, size, max, None)
}

type Seen = (Vec<(Opcode, Vec<u8>)>, Option<ws::ProtocolError>);

/// The contents of frames in pieces of `size`, up to a close frame or an error.
fn all_frames(role: Role, data: &[u8], size: usize, max: usize, mut inflater: Option<&mut Inflater>) -> Seen {
    // The compressed form of a message of the longest size may be a little longer.
    let most = if inflater.is_some() { max + max / 4 + 64 } else { max };
    let rules = Rules { role, max_message: max as u64 };
    let (mut reader, mut kept, mut seen) = (Reader::default(), Vec::new(), Vec::new());
    for mut piece in data.chunks(size) {
        while !piece.is_empty() {
            let read = match &mut inflater {
                Some(inflater) => reader.read_deflated(piece, &rules, &mut kept, inflater),
                None => reader.read(piece, &rules, &mut kept),
            };
            let (used, event) = match read {
                Ok(read) => read,
                Err(error) => return (seen, Some(error)),
            };
            piece = &piece[used..];
            match event {
                Event::Partial => {}
                Event::Message(kind) => {
                    assert!(kept.len() <= max);
                    let opcode = if kind == Kind::Text { Opcode::Text } else { Opcode::Binary };
                    assert!(kind == Kind::Binary || std::str::from_utf8(&kept).is_ok());
                    seen.push((opcode, std::mem::take(&mut kept)));
                }
                Event::Ping(payload) => seen.push((Opcode::Ping, payload.to_vec())),
                Event::Pong(payload) => seen.push((Opcode::Pong, payload.to_vec())),
                Event::Close(close) => {
                    let code = close.code().map(|code| code.0.to_be_bytes());
                    let payload =
                        [code.as_ref().map_or(&[][..], |code| code), close.reason().as_bytes()].concat();
                    seen.push((Opcode::Close, payload));
                    return (seen, None);
                }
            }
            assert!(kept.len() - reader.own() <= most && reader.own() <= ws::MAX_CONTROL);
        }
    }
    (seen, None)
}
