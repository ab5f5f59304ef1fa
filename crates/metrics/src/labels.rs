//! Counters with one label that has a fixed set of values.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

/// The values of a label: a field-less enum, declared with [`labels!`](crate::labels!).
pub trait Label: Copy + 'static {
    /// All values.
    const ALL: &'static [Self];

    /// The value in the exposition.
    fn label(self) -> &'static str;

    /// The index of the value in [`Self::ALL`].
    fn index(self) -> usize;
}

/// Declares an enum with a variant for each value of a label: `Variant => "value",`.
#[macro_export]
macro_rules! labels {
    ($(#[$meta:meta])* $vis:vis enum $Name:ident {
        $( $(#[$doc:meta])* $Variant:ident => $label:literal, )+
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $Name { $( $(#[$doc])* $Variant, )+ }

        impl $crate::Label for $Name {
            const ALL: &'static [Self] = &[$(Self::$Variant),+];

            fn label(self) -> &'static str {
                match self { $( Self::$Variant => $label, )+ }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

/// A counter for each value of a label.
#[derive(Debug)]
pub struct KeyedCounters<K> {
    counts: Box<[AtomicU64]>,
    key: PhantomData<K>,
}

impl<K: Label> Default for KeyedCounters<K> {
    fn default() -> Self {
        Self { counts: K::ALL.iter().map(|_| AtomicU64::new(0)).collect(), key: PhantomData }
    }
}

impl<K: Label> KeyedCounters<K> {
    /// Increments a counter. Returns the new count.
    pub fn add(&self, key: K) -> u64 {
        self.add_many(key, 1)
    }

    /// Adds to a counter. Returns the new count.
    pub fn add_many(&self, key: K, count: u64) -> u64 {
        self.counts[key.index()].fetch_add(count, Ordering::Relaxed) + count
    }

    /// The count of one value.
    pub fn get(&self, key: K) -> u64 {
        self.counts[key.index()].load(Ordering::Relaxed)
    }

    /// The counts of all values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        K::ALL.iter().map(|key| (key.label(), self.get(*key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    labels! {
        enum Fruit {
            Apple => "apple",
            Pear => "pear",
        }
    }

    #[test]
    fn each_label_value_has_its_own_counter() {
        let counters = KeyedCounters::<Fruit>::default();
        assert_eq!(counters.add(Fruit::Pear), 1);
        assert_eq!(counters.add(Fruit::Pear), 2);
        assert_eq!((counters.get(Fruit::Apple), counters.get(Fruit::Pear)), (0, 2));
        assert_eq!(counters.iter().collect::<Vec<_>>(), [("apple", 0), ("pear", 2)]);
        assert!(Fruit::ALL.iter().enumerate().all(|(index, fruit)| fruit.index() == index));
    }
}
