//! Typed indices of the tables of a hub. They are reused after their sessions or topics are removed.

use std::fmt;

/// The index of a session in its hub, and of its connection in the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

/// The index of a topic in one hub, while it has subscribers or waiting sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicKey(u32);

macro_rules! index {
    ($name:ident) => {
        impl $name {
            /// An index without an entry in any table.
            pub const NONE: Self = Self(u32::MAX);

            /// The index with this number.
            pub const fn new(number: u32) -> Self {
                Self(number)
            }

            /// The typed form of `index`.
            ///
            /// # Panics
            /// If the index is 2³² − 1 or larger: tables have fewer entries.
            pub fn from_index(index: usize) -> Self {
                let number = u32::try_from(index).ok().filter(|number| *number != u32::MAX);
                Self(number.expect("fewer entries than 2³²"))
            }

            /// The index as a plain number, for storage and display.
            pub const fn number(self) -> u32 {
                self.0
            }

            /// The index in a table.
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
