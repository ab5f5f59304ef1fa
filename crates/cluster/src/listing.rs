//! Lists of channels with their numbers of subscribers, bounded in bytes.

use std::collections::BTreeMap;

/// Channels with their numbers of subscribers.
pub type ChannelCounts = BTreeMap<String, u64>;

/// The bytes that are left for a list.
#[derive(Clone, Copy, Debug)]
pub struct ListBudget {
    left: usize,
    /// Bytes that each entry takes besides the name.
    overhead: usize,
}

impl ListBudget {
    /// A budget of `bytes`; each entry takes `overhead` bytes besides its name.
    pub fn new(bytes: usize, overhead: usize) -> Self {
        Self { left: bytes, overhead }
    }

    /// Takes the bytes of an entry. Returns whether enough were left.
    pub fn take(&mut self, name: &str) -> bool {
        let left = self.left.checked_sub(name.len() + self.overhead);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}
