//! The payload of a bench message: its run and publisher, its number, and its due time.
//!
//! 32 bytes of lower-case hexadecimal digits, then filler: printable, so that the line port accepts it and nothing
//! needs escaping.
//!
//! ```text
//! rrrrrrrrppssssssssssttttttttttttxxxxxxxx…
//! run     publisher (2), sequence (10), nanoseconds since the run began (12), filler
//! ```

/// The shortest payload, in bytes.
pub(super) const MIN_SIZE: usize = 32;
/// The most publishers that the format can distinguish.
pub(super) const MAX_PUBLISHERS: u64 = 256;
/// The most messages of one publisher that the format can number.
pub(super) const MAX_MESSAGES: u64 = 1 << 40;

const FILLER: u8 = b'x';

/// The identity of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The run, so that other messages in the channel are not counted.
    pub(super) run: u32,
    /// The publisher's number, below [`MAX_PUBLISHERS`].
    pub(super) publisher: u8,
    /// The number of the message, from 0, for each publisher.
    pub(super) sequence: u64,
    /// The due time, in nanoseconds since the run began (at most 78 hours).
    pub(super) due: u64,
}

impl Stamp {
    /// Appends a payload of `size` bytes, at least [`MIN_SIZE`].
    pub(super) fn write(&self, size: usize, out: &mut Vec<u8>) {
        let end = out.len() + size.max(MIN_SIZE);
        digits(u64::from(self.run), 8, out);
        digits(u64::from(self.publisher), 2, out);
        digits(self.sequence, 10, out);
        digits(self.due, 12, out);
        out.resize(end, FILLER);
    }

    /// Parses a payload; `None` for other text.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let (run, rest) = payload.split_at_checked(8)?;
        let (publisher, rest) = rest.split_at_checked(2)?;
        let (sequence, rest) = rest.split_at_checked(10)?;
        let (due, _) = rest.split_at_checked(12)?;
        Some(Self {
            run: u32::try_from(number(run)?).ok()?,
            publisher: u8::try_from(number(publisher)?).ok()?,
            sequence: number(sequence)?,
            due: number(due)?,
        })
    }
}

fn digits(number: u64, count: u32, out: &mut Vec<u8>) {
    for place in (0..count).rev() {
        out.push(b"0123456789abcdef"[(number >> (4 * place) & 0xf) as usize]);
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_its_size_and_its_stamp_is_parsed() {
        for (size, expected) in [(0, 32), (32, 32), (100, 100)] {
            let stamp = Stamp { run: 0xdead_beef, publisher: 255, sequence: MAX_MESSAGES - 1, due: 1 << 47 };
            let mut out = b"before".to_vec();
            stamp.write(size, &mut out);
            assert_eq!(out.len(), 6 + expected);
            assert_eq!(Stamp::read(&out[6..]), Some(stamp));
            assert!(out.iter().all(u8::is_ascii_graphic));
        }
    }

    #[test]
    fn other_text_has_no_stamp() {
        for wrong in [&b""[..], b"0123", &[b'0'; 31], &[b'g'; 32], &[b'A'; 32]] {
            assert_eq!(Stamp::read(wrong), None);
        }
    }
}
