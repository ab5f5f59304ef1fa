//! Whether one subscriber got every message of one publisher, once, in order.

/// The order of a message at its subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The one that was next, after as many that are missing.
    After { missing: u64 },
    /// One that was missing: it came behind its successors.
    Late,
    /// One that had come already.
    Again,
}

/// The messages of one publisher as one subscriber saw them. Takes 32 bytes and no heap memory while nothing is
/// missing.
#[derive(Clone, Debug, Default)]
pub(super) struct Order {
    next: u64,
    /// Ranges below `next` that have not come, from `.0` to before `.1`, in order.
    gaps: Vec<(u64, u64)>,
}

impl Order {
    /// Takes the message with this number.
    pub(super) fn see(&mut self, sequence: u64) -> Seen {
        if sequence >= self.next {
            let missing = sequence - self.next;
            if missing > 0 {
                self.gaps.push((self.next, sequence));
            }
            self.next = sequence + 1;
            return Seen::After { missing };
        }
        let at = self.gaps.partition_point(|(_, end)| *end <= sequence);
        match self.gaps.get(at).copied() {
            Some((start, end)) if start <= sequence => {
                let left = (start < sequence).then_some((start, sequence));
                let right = (sequence + 1 < end).then_some((sequence + 1, end));
                self.gaps.splice(at..=at, left.into_iter().chain(right));
                Seen::Late
            }
            _ => Seen::Again,
        }
    }

    /// How many of the first `sent` messages have not come.
    pub(super) fn missing(&self, sent: u64) -> u64 {
        self.gaps.iter().map(|(start, end)| end - start).sum::<u64>() + sent.saturating_sub(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_in_order_are_all_there() {
        let mut order = Order::default();
        for sequence in 0..5 {
            assert_eq!(order.see(sequence), Seen::After { missing: 0 });
        }
        assert_eq!((order.missing(5), order.missing(7)), (0, 2));
    }

    #[test]
    fn loss_repetition_and_disorder_are_told_apart() {
        let mut order = Order::default();
        assert_eq!(order.see(4), Seen::After { missing: 4 });
        assert_eq!(order.missing(5), 4);
        assert_eq!(order.see(2), Seen::Late);
        assert_eq!(order.see(2), Seen::Again);
        assert_eq!(order.see(4), Seen::Again);
        assert_eq!(order.see(0), Seen::Late);
        assert_eq!(order.see(3), Seen::Late);
        assert_eq!(order.missing(5), 1);
        assert_eq!(order.see(1), Seen::Late);
        assert_eq!(order.missing(5), 0);
    }

    #[test]
    fn any_order_of_any_messages_is_counted_right() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let mut order = Order::default();
            let mut came = [false; 50];
            for _ in 0..rng.usize(1..100) {
                let sequence = rng.usize(..50);
                let seen = order.see(sequence as u64);
                assert_eq!(seen == Seen::Again, came[sequence]);
                came[sequence] = true;
            }
            assert_eq!(order.missing(50), came.iter().filter(|c| !**c).count() as u64);
        }
    }
}
