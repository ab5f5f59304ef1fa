//! Detects loss, duplicates and disorder of one publisher's messages at one subscriber.

/// The order of a message at its subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The next message, after `missing` missing ones.
    After { missing: u64 },
    /// A missing message that arrived after its successors.
    Late,
    /// A duplicate.
    Again,
}

/// The messages of one publisher at one subscriber. Takes 32 bytes and no heap memory while nothing is missing.
#[derive(Clone, Debug, Default)]
pub(super) struct Sequence {
    next: u64,
    /// Missing ranges below `next`, from `.0` to before `.1`, in order.
    gaps: Vec<(u64, u64)>,
}

impl Sequence {
    /// Records the message with this number.
    pub(super) fn see(&mut self, sequence: u64) -> Arrival {
        if sequence >= self.next {
            let missing = sequence - self.next;
            if missing > 0 {
                self.gaps.push((self.next, sequence));
            }
            self.next = sequence + 1;
            return Arrival::After { missing };
        }
        let at = self.gaps.partition_point(|(_, end)| *end <= sequence);
        match self.gaps.get(at).copied() {
            Some((start, end)) if start <= sequence => {
                let left = (start < sequence).then_some((start, sequence));
                let right = (sequence + 1 < end).then_some((sequence + 1, end));
                self.gaps.splice(at..=at, left.into_iter().chain(right));
                Arrival::Late
            }
            _ => Arrival::Again,
        }
    }

    /// The number of missing messages among the first `sent`.
    pub(super) fn missing(&self, sent: u64) -> u64 {
        self.gaps.iter().map(|(start, end)| end - start).sum::<u64>() + sent.saturating_sub(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_in_order_are_complete() {
        let mut order = Sequence::default();
        for sequence in 0..5 {
            assert_eq!(order.see(sequence), Arrival::After { missing: 0 });
        }
        assert_eq!((order.missing(5), order.missing(7)), (0, 2));
    }

    #[test]
    fn loss_duplicates_and_disorder_are_distinguished() {
        let mut order = Sequence::default();
        assert_eq!(order.see(4), Arrival::After { missing: 4 });
        assert_eq!(order.missing(5), 4);
        assert_eq!(order.see(2), Arrival::Late);
        assert_eq!(order.see(2), Arrival::Again);
        assert_eq!(order.see(4), Arrival::Again);
        assert_eq!(order.see(0), Arrival::Late);
        assert_eq!(order.see(3), Arrival::Late);
        assert_eq!(order.missing(5), 1);
        assert_eq!(order.see(1), Arrival::Late);
        assert_eq!(order.missing(5), 0);
    }

    #[test]
    fn messages_in_any_order_are_counted_correctly() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let mut order = Sequence::default();
            let mut came = [false; 50];
            for _ in 0..rng.usize(1..100) {
                let sequence = rng.usize(..50);
                let seen = order.see(sequence as u64);
                assert_eq!(seen == Arrival::Again, came[sequence]);
                came[sequence] = true;
            }
            assert_eq!(order.missing(50), came.iter().filter(|c| !**c).count() as u64);
        }
    }
}
