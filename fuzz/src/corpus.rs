//! Runs a fuzz target as an ordinary test: on its committed seeds, and on the same mutations of them in every run. The tests of
//! each codec include this file.

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

/// Runs `target` on the seeds in `seeds/{name}` and on `rounds` mutations of each. `tokens` are pieces on which parsers of the
/// format often fail.
///
/// # Panics
/// When the target panics; the input is printed before, in the form of a seed file.
pub fn run(name: &str, rounds: usize, tokens: &[&[u8]], target: fn(&[u8])) {
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
        for _ in 0..rounds {
            let mut input = seed.clone();
            for _ in 0..=random.below(4) {
                mutate(&mut input, &seeds, tokens, &mut random);
            }
            check(target, &input, "a mutation");
        }
    }
}

fn check(target: fn(&[u8]), input: &[u8], origin: &str) {
    if let Err(broken) = panic::catch_unwind(AssertUnwindSafe(|| target(input))) {
        eprintln!("broken by {origin}: b\"{}\"", input.escape_ascii());
        panic::resume_unwind(broken);
    }
}

/// One small change of the input.
fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], tokens: &[&[u8]], random: &mut Random) {
    let at = random.below(input.len() + 1);
    match random.below(7) {
        0 => input.truncate(at),
        1 => drop(input.drain(at..(at + 1 + random.below(8)).min(input.len()).max(at))),
        2 => drop(input.splice(at..at, tokens[random.below(tokens.len())].iter().copied())),
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
        5 => {
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
