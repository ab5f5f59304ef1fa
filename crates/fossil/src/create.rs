//! Creating a delta.
//!
//! Most targets differ from their source in a few places: the common beginning and end are copies, and only the part between
//! them is searched for blocks of the source, by a rolling hash.

use crate::{checksum, number};

/// Bytes of a block of the source that is found in the target. A copy takes fewer bytes in any delta.
const BLOCK: usize = 16;
/// Most blocks with one hash that are compared at one place of the target, so that the time is bounded.
const MAX_CANDIDATES: usize = 8;
/// The base of the rolling hash, and its power for the byte that leaves a block.
const BASE: u32 = 0x0100_0193;
const LEAVING: u32 = BASE.wrapping_pow(BLOCK as u32 - 1);
/// The end of a list of blocks.
const NONE: u32 = u32::MAX;

/// A copy from the source.
#[derive(Clone, Copy, Debug)]
struct Copy {
    from: usize,
    /// Its place in the target.
    to: usize,
    length: usize,
}

/// A delta that makes `target` from `source`. It may be longer than the target, if they have little in common.
///
/// # Panics
/// If one of them has 4 GiB or more.
pub fn create(source: &[u8], target: &[u8]) -> Vec<u8> {
    let [_, length] = [source.len(), target.len()].map(|len| u32::try_from(len).expect("less than 4 GiB"));
    let mut copies = find_copies(source, target);
    if let Ok(text) = std::str::from_utf8(target) {
        copies.iter_mut().for_each(|copy| keep_characters(copy, text));
    }
    let mut out = Vec::with_capacity(target.len().min(64 + 16 * copies.len()));
    number::write(length, &mut out);
    out.push(b'\n');
    let mut written = 0;
    for copy in copies.iter().filter(|copy| is_worthwhile(copy)) {
        literal(&target[written..copy.to], &mut out);
        number::write(copy.length as u32, &mut out);
        out.push(b'@');
        number::write(copy.from as u32, &mut out);
        out.push(b',');
        written = copy.to + copy.length;
    }
    literal(&target[written..], &mut out);
    number::write(checksum(target), &mut out);
    out.push(b';');
    out
}

fn literal(text: &[u8], out: &mut Vec<u8>) {
    if !text.is_empty() {
        number::write(text.len() as u32, out);
        out.push(b':');
        out.extend_from_slice(text);
    }
}

/// Whether a copy is shorter than its text, also if it divides a literal.
fn is_worthwhile(copy: &Copy) -> bool {
    let command = number::len(copy.length as u32) + number::len(copy.from as u32) + 2;
    let second_literal = number::len(copy.length as u32) + 1;
    copy.length > command + second_literal
}

/// Shortens a copy so that it begins and ends between characters of the target.
fn keep_characters(copy: &mut Copy, target: &str) {
    while copy.length > 0 && !target.is_char_boundary(copy.to) {
        copy.from += 1;
        copy.to += 1;
        copy.length -= 1;
    }
    while copy.length > 0 && !target.is_char_boundary(copy.to + copy.length) {
        copy.length -= 1;
    }
}

/// Copies in the order of the target, without overlaps.
fn find_copies(source: &[u8], target: &[u8]) -> Vec<Copy> {
    let prefix = Copy { from: 0, to: 0, length: common_prefix(source, target) };
    // Otherwise a copy of a longer part could not begin in it.
    let prefix = if is_worthwhile(&prefix) { prefix.length } else { 0 };
    let suffix = common_suffix(&source[prefix..], &target[prefix..]);
    let mut copies = vec![Copy { from: 0, to: 0, length: prefix }];
    let end = target.len() - suffix;
    if end - prefix >= BLOCK && source.len() >= BLOCK {
        find_blocks(source, target, prefix, end, &mut copies);
    }
    copies.push(Copy { from: source.len() - suffix, to: end, length: suffix });
    copies
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let length = a.len().min(b.len());
    // In steps that compile to comparisons of vectors.
    const STEP: usize = 32;
    let mut same = 0;
    while same + STEP <= length && a[same..same + STEP] == b[same..same + STEP] {
        same += STEP;
    }
    same + a[same..length].iter().zip(&b[same..length]).take_while(|(a, b)| a == b).count()
}

fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

/// The blocks of a source by their hash.
struct Blocks<'a> {
    source: &'a [u8],
    /// The last block of each bucket, and the block before it in its bucket for each block.
    last: Vec<u32>,
    before: Vec<u32>,
}

impl<'a> Blocks<'a> {
    fn new(source: &'a [u8]) -> Self {
        let count = source.len() / BLOCK;
        let mut blocks =
            Self { source, last: vec![NONE; count.next_power_of_two()], before: vec![NONE; count] };
        for (index, block) in source.chunks_exact(BLOCK).enumerate() {
            let bucket = blocks.bucket(hash(block));
            blocks.before[index] = blocks.last[bucket];
            blocks.last[bucket] = index as u32;
        }
        blocks
    }

    fn bucket(&self, hash: u32) -> usize {
        // The low bits of the hash depend on the low bits of the bytes alone.
        (hash ^ hash >> 15) as usize & (self.last.len() - 1)
    }

    /// The longest copy for the block of the target at `at` with this hash, within `begin..end` of the target.
    fn longest(&self, target: &[u8], at: usize, hash: u32, begin: usize, end: usize) -> Option<Copy> {
        let mut best: Option<Copy> = None;
        let mut index = self.last[self.bucket(hash)];
        for _ in 0..MAX_CANDIDATES {
            if index == NONE {
                break;
            }
            let from = index as usize * BLOCK;
            index = self.before[index as usize];
            let forward = common_prefix(&self.source[from..], &target[at..end]);
            if forward < BLOCK {
                continue;
            }
            let backward = common_suffix(&self.source[..from], &target[begin..at]);
            let length = backward + forward;
            if best.is_none_or(|best| length > best.length) {
                best = Some(Copy { from: from - backward, to: at - backward, length });
            }
        }
        best
    }
}

fn hash(block: &[u8]) -> u32 {
    block.iter().fold(0, |hash, byte| hash.wrapping_mul(BASE).wrapping_add(u32::from(*byte)))
}

/// Finds blocks of the source in `begin..end` of the target, which is at least a block.
fn find_blocks(source: &[u8], target: &[u8], begin: usize, end: usize, copies: &mut Vec<Copy>) {
    let blocks = Blocks::new(source);
    let mut begin = begin;
    let mut at = begin;
    let mut rolling = hash(&target[at..at + BLOCK]);
    loop {
        if let Some(copy) = blocks.longest(target, at, rolling, begin, end) {
            copies.push(copy);
            begin = copy.to + copy.length;
            at = begin;
            if at + BLOCK > end {
                return;
            }
            rolling = hash(&target[at..at + BLOCK]);
            continue;
        }
        if at + BLOCK >= end {
            return;
        }
        rolling = rolling
            .wrapping_sub(u32::from(target[at]).wrapping_mul(LEAVING))
            .wrapping_mul(BASE)
            .wrapping_add(u32::from(target[at + BLOCK]));
        at += 1;
    }
}
