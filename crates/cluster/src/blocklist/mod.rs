//! The blocklist rejects users and tokens although the tokens are valid: blocked users, revoked tokens, and tokens of a
//! user that were issued before a given time.
//!
//! The server API changes the list (`blocking.rs` of the server). A change is stored at the broker first, so that it
//! outlives this node, and then sent to all nodes, each of which closes the blocked connections. Every node reads the whole
//! list when it starts, when the broker is connected again, and every [`RELOAD_INTERVAL`], which makes up for a lost message.
//!
//! Invariants:
//! - No user is accepted before the list has been read once: until then a connection with a user gets a temporary error.
//! - A connection is checked before and after its response, so that a block which arrives in between closes it.
//! - The list has at most [`MAX_ENTRIES`] entries; the API rejects further ones. Entries expire at their time.

mod entry;

use std::collections::HashMap;
use std::fmt;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use tidings_hub::{SessionCommand, TokenId};
use tokio::sync::{Notify, watch};

pub use entry::{Block, BlockSubject, BlocklistChange};

use entry::BlockKind;
use tidings_metrics::{Collect, KeyedCounters, MetricWriter};

/// Most entries.
pub const MAX_ENTRIES: usize = 50_000;
/// How often the list is read again.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(30);
/// How long a connection waits for the list of a node that was just started.
const LOAD_TIMEOUT: Duration = Duration::from_secs(3);
/// A change by message takes precedence over a list that was requested less than this time before it.
const OVERLAP: Duration = Duration::from_secs(5);

/// The list of one node.
#[derive(Debug)]
pub struct Blocklist {
    entries: RwLock<HashMap<BlockSubject, ListEntry>>,
    loaded: watch::Sender<bool>,
    reload: Notify,
    /// Connections and refreshes that were rejected.
    rejected: KeyedCounters<BlockKind>,
}

/// The last change of a subject.
#[derive(Debug)]
struct ListEntry {
    /// `None` if the subject was unblocked recently.
    block: Option<Block>,
    changed: Instant,
}

/// Error: the list has [`MAX_ENTRIES`] entries already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlocklistFull;

impl Default for Blocklist {
    fn default() -> Self {
        Self {
            entries: RwLock::default(),
            loaded: watch::Sender::new(false),
            reload: Notify::new(),
            rejected: KeyedCounters::default(),
        }
    }
}

impl Blocklist {
    /// Waits until the list has been read, for [`LOAD_TIMEOUT`] at most. Returns whether it has been read.
    pub async fn ready(&self) -> bool {
        let mut loaded = self.loaded.subscribe();
        let wait = loaded.wait_for(|loaded| *loaded);
        tokio::time::timeout(LOAD_TIMEOUT, wait).await.is_ok_and(|outcome| outcome.is_ok())
    }

    /// The block of a user or of its token that is active at `now` (Unix seconds).
    pub fn find(&self, user: &str, token: Option<&TokenId>, now: u64) -> Option<Block> {
        let entries = self.read();
        if entries.is_empty() {
            return None;
        }
        let current = |subject: BlockSubject| {
            entries.get(&subject)?.block.as_ref().filter(|block| block.is_active(now)).cloned()
        };
        let of_user = || current(BlockSubject::User(user.to_owned()));
        let of_token = || current(BlockSubject::Token(token?.id.clone()?));
        let of_tokens = || {
            let issued = token?.issued.unwrap_or(0);
            current(BlockSubject::UserTokens(user.to_owned())).filter(|block| issued < block.issued_before)
        };
        let by_user = || if user.is_empty() { None } else { of_user().or_else(of_tokens) };
        by_user().or_else(of_token)
    }

    /// Counts a connection or a refresh that was rejected because of a block.
    pub fn count(&self, block: &Block) {
        self.rejected.add(block.subject.kind());
    }

    /// Applies a change that a node has published. Returns the command that closes blocked connections.
    ///
    /// # Errors
    /// [`BlocklistFull`]: nothing has changed.
    pub fn apply(&self, change: BlocklistChange) -> Result<Option<SessionCommand>, BlocklistFull> {
        let mut entries = self.write();
        let (subject, block) = match change {
            BlocklistChange::Add(block) => (block.subject.clone(), Some(block)),
            BlocklistChange::Remove(subject) => (subject, None),
        };
        if block.is_some() && entries.len() >= MAX_ENTRIES && !entries.contains_key(&subject) {
            return Err(BlocklistFull);
        }
        let command = block.as_ref().map(Block::session_command);
        entries.insert(subject, ListEntry { block, changed: Instant::now() });
        Ok(command)
    }

    /// Replaces the list with `blocks`, which were requested from the broker at `requested`. Returns the commands that
    /// close connections for blocks that are new on this node.
    pub fn replace_all(&self, blocks: Vec<Block>, requested: Instant, now: u64) -> Vec<SessionCommand> {
        let mut entries = self.write();
        let is_newer = |entry: &ListEntry| entry.changed + OVERLAP > requested;
        entries.retain(|_, entry| is_newer(entry) || entry.block.as_ref().is_some_and(|b| b.is_active(now)));
        let mut stale: HashMap<BlockSubject, ListEntry> =
            entries.extract_if(|_, entry| !is_newer(entry)).collect();
        let mut commands = Vec::new();
        for block in blocks.into_iter().filter(|block| block.is_active(now)) {
            if entries.len() >= MAX_ENTRIES || entries.contains_key(&block.subject) {
                continue;
            }
            let old = stale.remove(&block.subject);
            if old.and_then(|entry| entry.block).as_ref() != Some(&block) {
                commands.push(block.session_command());
            }
            let changed = requested.checked_sub(2 * OVERLAP).unwrap_or(requested);
            entries.insert(block.subject.clone(), ListEntry { block: Some(block), changed });
        }
        commands
    }

    /// Removes expired entries.
    pub fn sweep(&self, now: u64) {
        self.write().retain(|_, entry| entry.block.as_ref().is_some_and(|block| block.is_active(now)));
    }

    /// The block of a subject, active or not.
    pub fn get(&self, subject: &BlockSubject) -> Option<Block> {
        self.read().get(subject)?.block.clone()
    }

    /// Requests that the list is read again soon.
    pub fn request_reload(&self) {
        self.reload.notify_one();
    }

    /// Numbers of entries by kind.
    fn counts(&self) -> KeyedCounters<BlockKind> {
        let counts = KeyedCounters::default();
        for block in self.read().values().filter_map(|entry| entry.block.as_ref()) {
            counts.add(block.subject.kind());
        }
        counts
    }

    /// Whether the list has [`MAX_ENTRIES`] entries.
    pub fn is_full(&self) -> bool {
        self.read().len() >= MAX_ENTRIES
    }

    /// The list has been read: connections no longer wait for it.
    pub fn set_loaded(&self) {
        self.loaded.send_replace(true);
    }

    /// Waits for a call of [`Blocklist::request_reload`].
    pub async fn reload_requested(&self) {
        self.reload.notified().await;
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<BlockSubject, ListEntry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<BlockSubject, ListEntry>> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collect for Blocklist {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        let counts = self.counts();
        out.gauges(
            "tidings_blocks",
            "Users and tokens that are blocked, revoked or invalidated",
            "kind",
            counts.iter(),
        )?;
        out.counters(
            "tidings_blocked",
            "Connections and refreshes that were rejected because of a block",
            "kind",
            self.rejected.iter(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000;

    fn user(name: &str, expire_at: u64) -> Block {
        Block { subject: BlockSubject::User(name.into()), expire_at, issued_before: 0 }
    }

    fn token(id: &str, issued: u64) -> TokenId {
        TokenId { id: Some(id.into()), issued: Some(issued) }
    }

    #[test]
    fn each_kind_rejects_its_subject_until_the_block_expires() {
        let list = Blocklist::default();
        let tokens =
            Block { subject: BlockSubject::UserTokens("eve".into()), expire_at: 0, issued_before: 500 };
        let one = Block { subject: BlockSubject::Token("t1".into()), expire_at: 2_000, issued_before: 0 };
        for block in [user("bob", 1_500), tokens, one] {
            assert!(list.apply(BlocklistChange::Add(block)).expect("room").is_some());
        }
        let rejected = |user: &str, token: Option<&TokenId>, now| list.find(user, token, now).is_some();
        assert!(rejected("bob", None, NOW) && !rejected("bob", None, 1_500) && !rejected("bo", None, NOW));
        assert!(rejected("ann", Some(&token("t1", 900)), NOW) && rejected("", Some(&token("t1", 900)), NOW));
        assert!(!rejected("ann", Some(&token("t1", 900)), 2_000));
        assert!(
            rejected("eve", Some(&token("t2", 499)), NOW) && !rejected("eve", Some(&token("t2", 500)), NOW)
        );
        assert!(rejected("eve", Some(&TokenId::default()), NOW), "a token without the time of its issue");
        assert!(!rejected("eve", None, NOW), "accepted by the connect hook, without a token");
        list.apply(BlocklistChange::Remove(BlockSubject::User("bob".into()))).expect("always");
        assert!(!rejected("bob", None, NOW));
    }

    #[test]
    fn a_list_that_was_requested_before_a_change_does_not_undo_it() {
        let list = Blocklist::default();
        let requested = Instant::now();
        list.apply(BlocklistChange::Add(user("bob", 0))).expect("room");
        list.apply(BlocklistChange::Add(user("eve", 0))).expect("room");
        list.apply(BlocklistChange::Remove(BlockSubject::User("eve".into()))).expect("always");
        let new =
            list.replace_all(vec![user("eve", 0), user("mallory", 0), user("old", 999)], requested, NOW);
        assert_eq!(new.len(), 1, "only the connections of mallory are closed");
        let rejected = |user: &str| list.find(user, None, NOW).is_some();
        assert!(rejected("bob") && !rejected("eve") && rejected("mallory") && !rejected("old"));
        // A list that was requested later takes precedence; entries that it had before cause no command.
        let later = requested + 2 * OVERLAP;
        assert_eq!(list.replace_all(vec![user("mallory", 0)], later, NOW), []);
        assert!(!rejected("bob") && rejected("mallory"));
    }

    #[test]
    fn the_list_is_bounded() {
        let list = Blocklist::default();
        for i in 0..MAX_ENTRIES {
            list.apply(BlocklistChange::Add(user(&i.to_string(), 0))).expect("room");
        }
        assert_eq!(list.apply(BlocklistChange::Add(user("one more", 0))), Err(BlocklistFull));
        list.apply(BlocklistChange::Add(user("7", 5_000))).expect("its subject is in the list");
    }
}
