//! The fuzz target as an ordinary test: `fuzz/src/pusher.rs` on its committed seeds, and on the same mutations of them in every
//! run.

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

#[path = "../../../../fuzz/src/pusher.rs"]
#[expect(unreachable_pub, reason = "the same file is a module of the fuzz package")]
mod targets;

/// The mutations per seed.
const ROUNDS: usize = 1_000;

#[test]
fn messages_hold_their_invariants_on_every_seed_and_mutation() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/pusher");
    let mut files: Vec<_> = folder.read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "no seeds in {}", folder.display());
    let seeds: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    for (seed, file) in seeds.iter().zip(&files) {
        check(seed, &file.display().to_string());
    }
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for seed in &seeds {
        for _ in 0..ROUNDS {
            let mut input = seed.clone();
            for _ in 0..=random.below(4) {
                mutate(&mut input, &seeds, &mut random);
            }
            check(&input, "a mutation");
        }
    }
}

/// Runs the target. When it panics, prints the input in the form of a seed file.
fn check(input: &[u8], origin: &str) {
    if let Err(broken) = panic::catch_unwind(AssertUnwindSafe(|| targets::messages(input))) {
        eprintln!("broken by {origin}: b\"{}\"", input.escape_ascii());
        panic::resume_unwind(broken);
    }
}

/// One small change of a kind that parsers of JSON often fail on.
fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    const TOKENS: [&[u8]; 12] =
        [b"\"", b"\\", b"\\u0000", b"\\ud800", b"{", b"}", b"[", b",", b":", b"null", b"1e999", b"\xC3\xA9"];
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
            if let Some(byte) = input.get_mut(at) {
                *byte = byte.wrapping_add(1);
            }
        }
        _ => {
            let other = &seeds[random.below(seeds.len())];
            input.truncate(at);
            input.extend_from_slice(&other[random.below(other.len() + 1)..]);
        }
    }
}

/// A xorshift generator (Marsaglia 2003) with the same sequence in every run.
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
