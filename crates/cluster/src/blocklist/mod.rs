//! The blocklist: users and tokens that are rejected although their tokens are valid: blocked users, revoked tokens, and
//! tokens of a user that were issued before a given time.
//!
//! The server API changes the list (`blocking.rs` of the server). A change is stored at the broker first, so that it outlives
//! this node, and then sent to all nodes, each of which ends the connections concerned. Every node reads the whole list
//! when it starts, when the broker is connected again, and every [`RELOAD`], which makes up for a lost message.
//!
//! Invariants:
//! - No user is accepted before the list has been read once: until then a connection with a user gets a temporary error.
//! - A connection is checked before and after its response, so one that is accepted while a block arrives is ended.
//! - The list has at most [`MOST`] entries; the API rejects further ones. Entries expire at their time.

mod entry;

use std::collections::HashMap;
use std::fmt;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use tidings_hub::{Directive, TokenId};
use tokio::sync::{Notify, watch};

pub use entry::{Block, Change, Subject};

use tidings_metrics::{Collect, KeyedCounters, MetricWriter};
use entry::SubjectKind;

/// Most entries.
pub const MOST: usize = 50_000;
/// How often the list is read again.
pub const RELOAD: Duration = Duration::from_secs(30);
/// How long a connection waits for the list of a node that was just started.
const LOAD_TIMEOUT: Duration = Duration::from_secs(3);
/// A change by message takes precedence over a list that was requested less than this time before it.
const OVERLAP: Duration = Duration::from_secs(5);

/// The list of one node.
#[derive(Debug)]
pub struct Blocklist {
    entries: RwLock<HashMap<Subject, Known>>,
    loaded: watch::Sender<bool>,
    reload: Notify,
    /// Connections and refreshes that were rejected.
    refused: KeyedCounters<SubjectKind>,
}

/// The state of a subject.
#[derive(Debug)]
struct Known {
    /// `None` if the subject was unblocked recently.
    block: Option<Block>,
    changed: Instant,
}

/// The list has [`MOST`] entries already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Default for Blocklist {
    fn default() -> Self {
        Self {
            entries: RwLock::default(),
            loaded: watch::Sender::new(false),
            reload: Notify::new(),
            refused: KeyedCounters::default(),
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

    /// The block of this user, or of this token of the user, at the time `now` (Unix seconds).
    pub fn find(&self, user: &str, token: Option<&TokenId>, now: u64) -> Option<Block> {
        let entries = self.read();
        if entries.is_empty() {
            return None;
        }
        let current = |subject: Subject| {
            entries.get(&subject)?.block.as_ref().filter(|block| block.holds(now)).cloned()
        };
        let of_user = || current(Subject::User(user.to_owned()));
        let of_token = || current(Subject::Token(token?.id.clone()?));
        let of_tokens = || {
            let issued = token?.issued.unwrap_or(0);
            current(Subject::UserTokens(user.to_owned())).filter(|block| issued < block.issued_before)
        };
        let by_user = || if user.is_empty() { None } else { of_user().or_else(of_tokens) };
        by_user().or_else(of_token)
    }

    /// Counts a connection or a refresh that was rejected because of a block.
    pub fn count(&self, block: &Block) {
        self.refused.add(block.subject.kind());
    }

    /// Applies a change that a node has published. Returns the order to the sessions that it concerns.
    ///
    /// # Errors
    /// [`Full`]: nothing has changed.
    pub fn apply(&self, change: Change) -> Result<Option<Directive>, Full> {
        let mut entries = self.write();
        let (subject, block) = match change {
            Change::Add(block) => (block.subject.clone(), Some(block)),
            Change::Remove(subject) => (subject, None),
        };
        if block.is_some() && entries.len() >= MOST && !entries.contains_key(&subject) {
            return Err(Full);
        }
        let directive = block.as_ref().map(Block::directive);
        entries.insert(subject, Known { block, changed: Instant::now() });
        Ok(directive)
    }

    /// Replaces the list with the one that was requested from the broker at `asked`. Returns the orders to sessions for
    /// blocks that were unknown on this node.
    pub fn adopt(&self, blocks: Vec<Block>, asked: Instant, now: u64) -> Vec<Directive> {
        let mut entries = self.write();
        let is_newer = |known: &Known| known.changed + OVERLAP > asked;
        entries.retain(|_, known| is_newer(known) || known.block.as_ref().is_some_and(|b| b.holds(now)));
        let mut stale: HashMap<Subject, Known> = entries.extract_if(|_, known| !is_newer(known)).collect();
        let mut directives = Vec::new();
        for block in blocks.into_iter().filter(|block| block.holds(now)) {
            if entries.len() >= MOST || entries.contains_key(&block.subject) {
                continue;
            }
            let known = stale.remove(&block.subject);
            if known.and_then(|known| known.block).as_ref() != Some(&block) {
                directives.push(block.directive());
            }
            let changed = asked.checked_sub(2 * OVERLAP).unwrap_or(asked);
            entries.insert(block.subject.clone(), Known { block: Some(block), changed });
        }
        directives
    }

    /// Removes expired entries.
    pub fn sweep(&self, now: u64) {
        self.write().retain(|_, known| known.block.as_ref().is_some_and(|block| block.holds(now)));
    }

    /// The block of a subject.
    pub fn get(&self, subject: &Subject) -> Option<Block> {
        self.read().get(subject)?.block.clone()
    }

    /// Requests that the list be read again soon.
    pub fn hurry(&self) {
        self.reload.notify_one();
    }

    /// Entries by kind.
    fn counts(&self) -> KeyedCounters<SubjectKind> {
        let counts = KeyedCounters::default();
        for block in self.read().values().filter_map(|known| known.block.as_ref()) {
            counts.add(block.subject.kind());
        }
        counts
    }

    /// Whether the list has [`MOST`] entries.
    pub fn is_full(&self) -> bool {
        self.read().len() >= MOST
    }

    /// The list has been read: connections need not wait for it any more.
    pub fn set_loaded(&self) {
        self.loaded.send_replace(true);
    }

    /// Waits until the list should be read again before its time.
    pub async fn reload_requested(&self) {
        self.reload.notified().await;
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Subject, Known>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Subject, Known>> {
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
            "Connections and refreshes that were refused because of a block",
            "kind",
            self.refused.iter(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000;

    fn user(name: &str, expire_at: u64) -> Block {
        Block { subject: Subject::User(name.into()), expire_at, issued_before: 0 }
    }

    fn token(id: &str, issued: u64) -> TokenId {
        TokenId { id: Some(id.into()), issued: Some(issued) }
    }

    #[test]
    fn each_kind_refuses_what_it_names_until_its_time_is_over() {
        let list = Blocklist::default();
        let tokens = Block { subject: Subject::UserTokens("eve".into()), expire_at: 0, issued_before: 500 };
        let one = Block { subject: Subject::Token("t1".into()), expire_at: 2_000, issued_before: 0 };
        for block in [user("bob", 1_500), tokens, one] {
            assert!(list.apply(Change::Add(block)).expect("room").is_some());
        }
        let refused = |user: &str, token: Option<&TokenId>, now| list.find(user, token, now).is_some();
        assert!(refused("bob", None, NOW) && !refused("bob", None, 1_500) && !refused("bo", None, NOW));
        assert!(refused("ann", Some(&token("t1", 900)), NOW) && refused("", Some(&token("t1", 900)), NOW));
        assert!(!refused("ann", Some(&token("t1", 900)), 2_000));
        assert!(
            refused("eve", Some(&token("t2", 499)), NOW) && !refused("eve", Some(&token("t2", 500)), NOW)
        );
        assert!(
            refused("eve", Some(&TokenId::default()), NOW),
            "a token that does not say when it was issued"
        );
        assert!(!refused("eve", None, NOW), "the application has let it in without a token");
        list.apply(Change::Remove(Subject::User("bob".into()))).expect("always");
        assert!(!refused("bob", None, NOW));
    }

    #[test]
    fn a_list_that_was_asked_for_before_a_change_does_not_undo_it() {
        let list = Blocklist::default();
        let asked = Instant::now();
        list.apply(Change::Add(user("bob", 0))).expect("room");
        list.apply(Change::Add(user("eve", 0))).expect("room");
        list.apply(Change::Remove(Subject::User("eve".into()))).expect("always");
        let new = list.adopt(vec![user("eve", 0), user("mallory", 0), user("old", 999)], asked, NOW);
        assert_eq!(new.len(), 1, "mallory's connections alone are to be ended");
        let refused = |user: &str| list.find(user, None, NOW).is_some();
        assert!(refused("bob") && !refused("eve") && refused("mallory") && !refused("old"));
        // Later the list holds, and what was known of it is no news.
        let later = asked + 2 * OVERLAP;
        assert_eq!(list.adopt(vec![user("mallory", 0)], later, NOW), []);
        assert!(!refused("bob") && refused("mallory"));
    }

    #[test]
    fn the_list_is_bounded() {
        let list = Blocklist::default();
        for i in 0..MOST {
            list.apply(Change::Add(user(&i.to_string(), 0))).expect("room");
        }
        assert_eq!(list.apply(Change::Add(user("one more", 0))), Err(Full));
        list.apply(Change::Add(user("7", 5_000))).expect("it is known");
    }
}
