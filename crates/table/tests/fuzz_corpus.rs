//! The fuzz targets as an ordinary test: each function of `fuzz/src/table.rs` on its committed seeds and on a fixed set
//! of mutations of them.

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

#[path = "../../../fuzz/src/table.rs"]
#[expect(unreachable_pub, reason = "the same file is a module of the fuzz package")]
mod targets;

/// The mutations per seed.
const ROUNDS: usize = 100;

#[test]
fn files_hold_their_invariants_on_every_seed_and_mutation() {
    run("table_file", targets::file);
}

#[test]
fn views_hold_their_invariants_on_every_seed_and_mutation() {
    run("table_view", targets::view);
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

/// Runs the target. When it panics, prints the input in the form of a seed file.
fn check(target: fn(&[u8]), input: &[u8], origin: &str) {
    if let Err(broken) = panic::catch_unwind(AssertUnwindSafe(|| target(input))) {
        eprintln!("broken by {origin}: b\"{}\"", input.escape_ascii());
        panic::resume_unwind(broken);
    }
}

/// One small change of a kind that parsers of tables often fail on.
fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    const TOKENS: [&[u8]; 16] = [
        b"\r\n",
        b"\r",
        b"\n",
        b"\"",
        b"\"\"",
        b"\\",
        b"'",
        b",",
        b"\t",
        b";",
        b"\0",
        b"1,5",
        b"\xFF",
        b"\xC3\xA9",
        b"\xEF\xBB\xBF",
        b"0.10",
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
