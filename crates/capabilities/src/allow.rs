//! A set of operations.

use crate::CapabilitiesError;

/// A set of the operations that capabilities permit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allow(u8);

impl Allow {
    /// Subscribe: `sub`.
    pub const SUBSCRIBE: Self = Self(1);
    /// Publish: `pub`.
    pub const PUBLISH: Self = Self(1 << 1);
    /// Read the presence, and receive joins and leaves: `prs`.
    pub const PRESENCE: Self = Self(1 << 2);
    /// Read the history, and recover: `hst`.
    pub const HISTORY: Self = Self(1 << 3);

    /// Reads a list of names.
    ///
    /// # Errors
    /// [`CapabilitiesError::Allow`] for an unknown name.
    pub fn from_names<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<Self, CapabilitiesError> {
        names.into_iter().try_fold(Self::default(), |all, name| {
            let one = match name {
                "sub" => Self::SUBSCRIBE,
                "pub" => Self::PUBLISH,
                "prs" => Self::PRESENCE,
                "hst" => Self::HISTORY,
                _ => return Err(CapabilitiesError::Allow),
            };
            Ok(Self(all.0 | one.0))
        })
    }

    /// Whether it has all operations of another set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether it has no operation.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}
