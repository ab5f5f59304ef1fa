//! The invariants of the STOMP codec for any input, as a function that panics on a violation.
//!
//! It runs in two ways, like those of `lib.rs`: in cargo-fuzz (`fuzz_targets/stomp.rs`), and in the ordinary test
//! `crates/stomp/tests/stomp/fuzz_corpus.rs` over the committed inputs of `seeds/` and mutations of them.

use tidings_stomp::{Command, Decoded, decode, message, shared_message};

/// A frame as values of its own: command, headers and body. `None` is a heart-beat.
type Owned = Option<(Command, Vec<(String, String)>, Vec<u8>)>;

/// Frames are independent of the split; a `MESSAGE` frame is one frame, whatever its body and headers contain.
///
/// The first byte is the size of the pieces.
pub fn frames(data: &[u8]) {
    let Some((size, data)) = data.split_first() else { return };
    let (frames, is_malformed) = read(data, data.len());
    // The text of an error may differ: in a smaller piece it may be found earlier, with another part of the same word.
    assert_eq!((frames, is_malformed), read(data, usize::from(*size)));

    let text = String::from_utf8_lossy(data).into_owned();
    let (mut shared, mut out) = (Vec::new(), Vec::new());
    shared_message(&text.replace('\0', ""), "text/plain", [(&*text, &*text)], data, &mut shared);
    message(&shared, &text.replace('\0', ""), 1, &mut out);
    let head = out.windows(2).position(|pair| pair == b"\n\n").expect("an empty line");
    let lines: Vec<_> = out[..head].split(|byte| *byte == b'\n').collect();
    let is_written = !text.is_empty()
        && !text.contains('\0')
        && !["subscription", "message-id", "destination", "content-type", "content-length"]
            .contains(&text.as_str());
    assert_eq!(lines.len(), 6 + usize::from(is_written));
    assert!(lines[1..].iter().all(|line| line.contains(&b':')));
    assert_eq!(&out[head + 2..out.len() - 1], data);
    assert_eq!(out.last(), Some(&0));
}

/// All frames of an input in pieces of `size`, and whether an error ends it.
fn read(data: &[u8], size: usize) -> (Vec<Owned>, bool) {
    let (mut seen, mut kept) = (Vec::new(), Vec::new());
    for piece in data.chunks(size.max(1)) {
        kept.extend_from_slice(piece);
        loop {
            let used = match decode(&kept) {
                Ok(Decoded::Frame(frame, used)) => {
                    let headers =
                        frame.headers.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
                    seen.push(Some((frame.command, headers.collect(), frame.body.to_vec())));
                    used
                }
                Ok(Decoded::HeartBeat(used)) => {
                    seen.push(None);
                    used
                }
                Ok(Decoded::Partial(_)) => break,
                Err(_) => return (seen, true),
            };
            assert!(used > 0);
            kept.drain(..used);
        }
    }
    (seen, false)
}
