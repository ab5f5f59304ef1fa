//! The fuzz targets as an ordinary test: each function of `fuzz/src/lib.rs` over its committed seeds, and over
//! the same mutations of them in every run.

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

#[path = "../../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "the same file is the library of the fuzz package")]
mod targets;

/// Mutations of each seed.
const ROUNDS: usize = 2_000;

#[test]
fn plain_lines_hold_their_invariants_on_every_seed_and_mutation() {
    run("plain", targets::plain);
}

#[test]
fn stomp_frames_hold_their_invariants_on_every_seed_and_mutation() {
    run("stomp", targets::stomp);
}

#[test]
fn proxy_headers_hold_their_invariants_on_every_seed_and_mutation() {
    run("proxy_protocol", targets::proxy_protocol);
}

#[test]
fn resp_commands_hold_their_invariants_on_every_seed_and_mutation() {
    run("resp_command", targets::resp_command);
}

#[test]
fn resp_replies_hold_their_invariants_on_every_seed_and_mutation() {
    run("resp_value", targets::resp_value);
}

#[test]
fn client_commands_hold_their_invariants_on_every_seed_and_mutation() {
    run("client_json", targets::client_json);
}

#[test]
fn client_messages_in_protobuf_hold_their_invariants_on_every_seed_and_mutation() {
    run("client_protobuf", targets::client_protobuf);
}

#[test]
fn websocket_frames_hold_their_invariants_on_every_seed_and_mutation() {
    run("websocket", targets::websocket);
}

#[test]
fn server_sent_events_hold_their_invariants_on_every_seed_and_mutation() {
    run("sse", targets::sse);
}

#[test]
fn bodies_hold_their_invariants_on_every_seed_and_mutation() {
    run("body", targets::body);
}

fn run(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(name);
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no seeds in {}", folder.display());
    let seeds: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    for (seed, file) in seeds.iter().zip(&files) {
        check(target, seed, &file.display().to_string());
    }
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for seed in &seeds {
        for _ in 0..ROUNDS {
            let mut input = seed.clone();
            for _ in 0..=random.below(4) {
                mutate(&mut input, &seeds, &mut random);
            }
            check(target, &input, "a mutation");
        }
    }
}

/// Runs the target and shows the input, in the format of a seed file, when an invariant is violated.
fn check(target: fn(&[u8]), input: &[u8], origin: &str) {
    if let Err(broken) = panic::catch_unwind(AssertUnwindSafe(|| target(input))) {
        eprintln!("broken by {origin}: b\"{}\"", input.escape_ascii());
        panic::resume_unwind(broken);
    }
}

/// One small change, typical of errors in parsers.
fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    const TOKENS: [&[u8]; 21] = [
        b"\r\n",
        b"\r",
        b"\n",
        b"\\",
        b"\"",
        b"'",
        b" ",
        b"*",
        b"$",
        b"-1",
        b"0",
        b"99999999999999999999",
        b"{",
        b"}",
        b"[",
        b",",
        b"\xff",
        b"\\u",
        b"\x80",
        b"\x81",
        b"\0",
    ];
    let at = random.below(input.len() + 1);
    match random.below(6) {
        0 => input.truncate(at),
        1 => drop(input.drain(at..(at + 1 + random.below(8)).min(input.len()).max(at))),
        2 => drop(input.splice(at..at, TOKENS[random.below(TOKENS.len())].iter().copied())),
        3 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        4 => {
            let piece = input[at..].to_vec();
            input.extend(piece);
        }
        _ => {
            let other = &seeds[random.below(seeds.len())];
            input.truncate(at);
            input.extend_from_slice(&other[random.below(other.len() + 1)..]);
        }
    }
}

/// A xorshift generator (Marsaglia 2003): the same numbers in every run.
struct Random(u64);

impl Random {
    /// A number below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}
