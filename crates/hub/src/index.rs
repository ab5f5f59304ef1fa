//! Typed indices: places in the tables of a hub, reused after their tenants are gone.

use std::fmt;

/// A session's place in its hub, and its connection's place in the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

/// A topic's place in one hub, while it has subscribers or waiting sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicKey(u32);

macro_rules! index {
    ($name:ident) => {
        impl $name {
            /// The place of nothing.
            pub const NONE: Self = Self(u32::MAX);

            /// The place with this number.
            pub const fn new(number: u32) -> Self {
                Self(number)
            }

            /// The place with this index.
            ///
            /// # Panics
            /// When the index is 2³² − 1 or larger: tables have fewer places.
            pub fn from_index(index: usize) -> Self {
                let number = u32::try_from(index).ok().filter(|number| *number != u32::MAX);
                Self(number.expect("fewer places than 2³²"))
            }

            /// Its number.
            pub const fn number(self) -> u32 {
                self.0
            }

            /// Its index in a table.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

index!(Slot);
index!(TopicKey);
