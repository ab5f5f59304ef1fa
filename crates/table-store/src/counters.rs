//! Counters for metrics with a label: one counter for each variant of an enum.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

/// An enum with the values of a metric's label as variants.
pub trait CounterKey: Copy + PartialEq + 'static {
    /// All variants, in the order in which they are exported.
    const ALL: &'static [Self];

    /// The value of the label.
    fn label(self) -> &'static str;
}

/// One counter for each variant of `K`.
#[derive(Debug)]
pub struct CountersBy<K> {
    counts: Box<[AtomicU64]>,
    keys: PhantomData<K>,
}

impl<K: CounterKey> Default for CountersBy<K> {
    fn default() -> Self {
        Self { counts: K::ALL.iter().map(|_| AtomicU64::new(0)).collect(), keys: PhantomData }
    }
}

impl<K: CounterKey> CountersBy<K> {
    /// Adds one to the counter of `key`.
    pub fn increment(&self, key: K) {
        if let Some(count) = K::ALL.iter().position(|other| *other == key).and_then(|at| self.counts.get(at))
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The labels and the counts, in the order of [`CounterKey::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        K::ALL
            .iter()
            .map(|key| key.label())
            .zip(self.counts.iter().map(|count| count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, PartialEq)]
    enum Color {
        Red,
        Blue,
    }

    impl CounterKey for Color {
        const ALL: &'static [Self] = &[Self::Red, Self::Blue];

        fn label(self) -> &'static str {
            match self {
                Self::Red => "red",
                Self::Blue => "blue",
            }
        }
    }

    #[test]
    fn each_variant_has_its_own_counter() {
        let counters = CountersBy::default();
        counters.increment(Color::Blue);
        counters.increment(Color::Blue);
        assert_eq!(counters.iter().collect::<Vec<_>>(), [("red", 0), ("blue", 2)]);
    }
}
