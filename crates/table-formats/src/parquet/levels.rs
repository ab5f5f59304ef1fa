//! Repetition levels: where records begin.
//!
//! A record with nested lists is built in memory, and some bytes of levels can stand for billions of values. The levels
//! of a page are therefore counted before the library builds records of them.

/// The values of the records in a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordLengths {
    /// The values before the first beginning of a record: they continue a record of the previous page.
    pub(super) first: u64,
    /// The most values from one beginning to the next, or to the end.
    pub(super) longest: u64,
    /// The values from the last beginning to the end; `None`: no record begins.
    pub(super) last: Option<u64>,
}

/// Counts `values` levels in the hybrid of runs and bit-packed groups (parquet-format, Encodings.md); `None` if they
/// are damaged.
pub(super) fn record_lengths(mut bytes: &[u8], most: i16, values: u64) -> Option<RecordLengths> {
    let width = u32::from(16 - most.leading_zeros() as u16);
    let mut lengths = RecordLengths { first: 0, longest: 0, last: None };
    let mut left = values;
    while left > 0 {
        let (head, length) = varint(bytes)?;
        bytes = &bytes[length..];
        if head & 1 == 0 {
            let run = (head >> 1).min(left);
            let size = width.div_ceil(8) as usize;
            let level = bytes.get(..size)?.iter().any(|byte| *byte != 0);
            bytes = &bytes[size..];
            if run == 0 {
                return None;
            }
            lengths.add(level, run);
            left -= run;
        } else {
            let size = usize::try_from((head >> 1).checked_mul(u64::from(width))?).ok()?;
            let group = bytes.get(..size.min(bytes.len()))?;
            let count = (group.len() as u64 * 8 / u64::from(width)).min(left);
            if count == 0 {
                return None;
            }
            for value in 0..count {
                let level = (0..u64::from(width)).any(|bit| {
                    let at = value * u64::from(width) + bit;
                    group[(at / 8) as usize] >> (at % 8) & 1 == 1
                });
                lengths.add(level, 1);
            }
            bytes = &bytes[group.len()..];
            left -= count;
        }
    }
    Some(lengths)
}

impl RecordLengths {
    /// Adds values that continue a record, or begin one each.
    fn add(&mut self, continues: bool, values: u64) {
        let last = match (continues, self.last) {
            (true, Some(last)) => last + values,
            (true, None) => {
                self.first += values;
                return;
            }
            (false, _) => 1,
        };
        self.last = Some(last);
        self.longest = self.longest.max(last);
    }
}

fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_record_is_found_in_runs_and_groups() {
        // A run of two 0, a run of 1,000 1, and a group of eight: 1 0 1 1 0 0 0 0.
        let bytes = [4, 0, 0xD0, 0x0F, 1, 3, 0b0000_1101];
        let lengths = record_lengths(&bytes, 1, 1_010).unwrap();
        assert_eq!(lengths, RecordLengths { first: 0, longest: 1_002, last: Some(1) });
        // A page that continues a record.
        assert_eq!(
            record_lengths(&[20, 1], 1, 10),
            Some(RecordLengths { first: 10, longest: 0, last: None })
        );
        assert_eq!(record_lengths(&[4, 0], 1, 3), None);
        assert_eq!(record_lengths(&[], 1, 3), None);
    }
}
