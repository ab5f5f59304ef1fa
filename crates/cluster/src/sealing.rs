//! Protection of messages between nodes: each is authenticated, encrypted, bound to its channel, and accepted once.
//!
//! A sealed message is a head and a ChaCha20-Poly1305 box (RFC 8439):
//!
//! | bytes | content |
//! |---|---|
//! | 1 | version, 1 |
//! | 8 | id of the shared key |
//! | 16 | uid of the sender |
//! | 8 | time in Unix milliseconds, big-endian |
//! | 8 | sequence number of the sender, big-endian |
//! | n + 16 | the message, encrypted, and its tag |
//!
//! The key is derived from the shared key and the sender's uid; the nonce is the sequence number; the head and the
//! channel's name are authenticated with the message.
//!
//! Invariants:
//! - A sender never uses a sequence number twice: its uid is new at every start, and the counter is never set back.
//! - No state of a sender is stored before one of its messages was authentic.
//! - A message is accepted once per channel: within [`TOLERANCE`] by its sequence number, later not at all. A node
//!   that has just started has no sequence numbers; it may accept a repetition that is younger than [`TOLERANCE`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut as _, Bytes};
use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use tidings_wire::Channel;

use super::key::{ClusterKey, KEY_ID_LEN, NodeUid};
use tidings_metrics::{KeyedCounters, Label, labels};

const VERSION: u8 = 1;
/// Bytes in front of the box.
const HEAD: usize = 1 + KEY_ID_LEN + NodeUid::LEN + 8 + 8;
/// Bytes that sealing adds.
pub(super) const OVERHEAD: usize = HEAD + 16;
/// Largest difference between the clocks of two nodes plus the time of delivery.
const TOLERANCE: Duration = Duration::from_secs(60);
/// Most senders that are stored; messages of further ones are rejected.
const MAX_SENDERS: usize = 2_048;
/// Largest distance, in sequence numbers, by which messages of one sender in one channel may be out of order.
const WINDOW: u64 = 4_096;
/// Shortest time between two warnings of a kind.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

labels! {
    /// Why a message cannot be opened.
    pub(crate) enum OpenError {
        /// The message has another format, or another version of it.
        Unsealed => "unsealed",
        /// The message is sealed with another key.
        OtherSecret => "other_secret",
        /// The message was changed, or sealed for another channel.
        Forged => "forged",
        /// The message is too old, or from the future.
        Stale => "stale",
        /// The message was accepted before.
        Replayed => "replayed",
        /// [`MAX_SENDERS`] senders are stored already.
        Crowded => "crowded",
    }
}

impl OpenError {
    /// The cause, and the remedy if there is one; for the log.
    fn explanation(self) -> &'static str {
        match self {
            Self::Unsealed => {
                "not in the format of this version: another version of tidings uses this broker, or another program \
                 publishes in tidings.node.*"
            }
            Self::OtherSecret => {
                "sealed with another secret: another node has a different cluster.secret (or, where that is not \
                 set, a different http_api.key or client.token.hmac_secret_key); set the same cluster.secret on \
                 every node"
            }
            Self::Forged => {
                "not authentic: a program without the cluster's secret publishes in tidings.node.*"
            }
            Self::Stale => "more than 60 s old or from the future: synchronize the clocks of the nodes",
            Self::Replayed => "received before: a program repeats messages in tidings.node.*",
            Self::Crowded => "from more nodes than the limit of 2048",
        }
    }
}

/// Seals and opens the messages of one node.
#[derive(Debug)]
pub(super) struct Sealer {
    uid: NodeUid,
    key: ClusterKey,
    key_id: [u8; KEY_ID_LEN],
    own: LessSafeKey,
    sequence: AtomicU64,
    senders: Mutex<HashMap<NodeUid, KnownSender>>,
    rejected: KeyedCounters<OpenError>,
    /// When a warning of each kind was last written, in Unix seconds; 0 is never. By [`Label::index`].
    warned: [AtomicU64; OpenError::ALL.len()],
}

/// A sender of which an authentic message has been received.
#[derive(Debug)]
struct KnownSender {
    key: LessSafeKey,
    /// Time of its newest message, in Unix milliseconds.
    newest: u64,
    /// The accepted sequence numbers, by channel.
    windows: Vec<(Channel, ReplayWindow)>,
}

impl Sealer {
    /// A sealer of the node `uid`, which must be a new one.
    pub(super) fn new(uid: NodeUid, key: ClusterKey) -> Self {
        Self {
            uid,
            own: key.sender_key(uid),
            key_id: key.id(),
            key,
            sequence: AtomicU64::new(0),
            senders: Mutex::default(),
            rejected: KeyedCounters::default(),
            warned: Default::default(),
        }
    }

    /// Seals a message for a channel.
    pub(super) fn seal(&self, channel: &Channel, message: &[u8]) -> Bytes {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        self.seal_at(channel, message, sequence, unix_millis())
    }

    fn seal_at(&self, channel: &Channel, message: &[u8], sequence: u64, time: u64) -> Bytes {
        let mut sealed = Vec::with_capacity(OVERHEAD + message.len());
        sealed.put_u8(VERSION);
        sealed.put_slice(&self.key_id);
        sealed.put_slice(&self.uid.0);
        sealed.put_u64(time);
        sealed.put_u64(sequence);
        let authenticated = authenticated(&sealed, channel);
        let mut encrypted = message.to_vec();
        self.own
            .seal_in_place_append_tag(nonce(sequence), authenticated, &mut encrypted)
            .expect("a message is shorter than the cipher's limit");
        sealed.extend_from_slice(&encrypted);
        sealed.into()
    }

    /// Opens a message that was published in a channel. Returns the sender and the message.
    ///
    /// # Errors
    /// [`OpenError`], which has been counted, and logged unless a warning of its kind was logged less than [`WARN_INTERVAL`]
    /// ago.
    pub(super) fn open(&self, channel: &Channel, sealed: &[u8]) -> Result<(NodeUid, Vec<u8>), OpenError> {
        let opened = self.open_at(channel, sealed, unix_millis());
        if let Err(error) = opened {
            self.count(error);
        }
        opened
    }

    fn open_at(&self, channel: &Channel, sealed: &[u8], now: u64) -> Result<(NodeUid, Vec<u8>), OpenError> {
        if sealed.len() < OVERHEAD || sealed[0] != VERSION {
            return Err(OpenError::Unsealed);
        }
        let (head, encrypted) = sealed.split_at(HEAD);
        let (key_id, rest) = head[1..].split_first_chunk::<KEY_ID_LEN>().expect("a whole head");
        let (uid, rest) = rest.split_first_chunk().expect("a whole head");
        let (time, rest) = rest.split_first_chunk().expect("a whole head");
        let sequence = u64::from_be_bytes(rest.try_into().expect("a whole head"));
        let (uid, time) = (NodeUid(*uid), u64::from_be_bytes(*time));
        if *key_id != self.key_id {
            return Err(OpenError::OtherSecret);
        }
        let tolerance = millis(TOLERANCE);
        if time.abs_diff(now) > tolerance {
            return Err(OpenError::Stale);
        }
        let mut message = encrypted.to_vec();
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unknown = None;
        let key = match senders.get(&uid) {
            Some(sender) => &sender.key,
            None => unknown.insert(self.key.sender_key(uid)),
        };
        let length = key
            .open_in_place(nonce(sequence), authenticated(head, channel), &mut message)
            .map_err(|_| OpenError::Forged)?
            .len();
        message.truncate(length);
        if let Some(key) = unknown {
            if senders.len() >= MAX_SENDERS {
                // Any message of these senders is stale by now.
                senders.retain(|_, sender| sender.newest.saturating_add(2 * tolerance) >= now);
            }
            if senders.len() >= MAX_SENDERS {
                return Err(OpenError::Crowded);
            }
            senders.insert(uid, KnownSender { key, newest: time, windows: Vec::new() });
        }
        let sender = senders.get_mut(&uid).expect("known or just inserted");
        sender.newest = sender.newest.max(time);
        let window = match sender.windows.iter().position(|(known, _)| known == channel) {
            Some(at) => &mut sender.windows[at].1,
            None => {
                sender.windows.push((channel.clone(), ReplayWindow::starting_at(sequence)));
                &mut sender.windows.last_mut().expect("just pushed").1
            }
        };
        if window.accept(sequence) { Ok((uid, message)) } else { Err(OpenError::Replayed) }
    }

    /// Messages rejected since the start, by the metric's label value.
    pub(super) fn rejected(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.rejected.iter()
    }

    fn count(&self, error: OpenError) {
        let count = self.rejected.add(error);
        let (now, last) = (unix_millis() / 1_000, &self.warned[error.index()]);
        let before = last.load(Ordering::Relaxed);
        let due = before == 0 || now.saturating_sub(before) >= WARN_INTERVAL.as_secs();
        if due && last.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!(count, "messages between nodes are rejected: {}", error.explanation());
        }
    }
}

/// The sequence numbers that were accepted recently (as in RFC 4303 §3.4.3).
#[derive(Debug)]
struct ReplayWindow {
    newest: u64,
    /// A bit for each of the last [`WINDOW`] numbers, at the number modulo [`WINDOW`].
    seen: Box<[u64; (WINDOW / 64) as usize]>,
}

impl ReplayWindow {
    fn starting_at(sequence: u64) -> Self {
        Self { newest: sequence, seen: Box::new([0; (WINDOW / 64) as usize]) }
    }

    /// Accepts a number if it is within the window and was not accepted before. Returns whether it is accepted.
    fn accept(&mut self, sequence: u64) -> bool {
        if sequence.saturating_add(WINDOW) <= self.newest {
            return false;
        }
        if sequence - self.newest.min(sequence) >= WINDOW {
            self.seen.fill(0);
        } else {
            for skipped in self.newest + 1..=sequence {
                let (word, bit) = Self::bit(skipped);
                self.seen[word] &= !bit;
            }
        }
        self.newest = self.newest.max(sequence);
        let (word, bit) = Self::bit(sequence);
        let fresh = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        fresh
    }

    fn bit(sequence: u64) -> (usize, u64) {
        let at = sequence % WINDOW;
        ((at / 64) as usize, 1 << (at % 64))
    }
}

fn authenticated(head: &[u8], channel: &Channel) -> Aad<Vec<u8>> {
    Aad::from([head, channel.as_str().as_bytes()].concat())
}

fn nonce(sequence: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - 8..].copy_from_slice(&sequence.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidings_config::{Config, Overrides, load};

    fn sealer(setting: &str) -> Sealer {
        let mut overrides = Overrides::default();
        if !setting.is_empty() {
            overrides.set(setting).expect("an assignment");
        }
        let config: Config = load(None, [], &overrides).expect("a configuration");
        Sealer::new(NodeUid::random(), ClusterKey::from_config(&config))
    }

    const SECRET: &str = "cluster.secret=0123456789abcdef";
    const NOW: u64 = 1_800_000_000_000;

    fn channel(name: &str) -> Channel {
        Channel::new(name).expect("a name")
    }

    #[test]
    fn a_message_is_opened_once_with_the_key_in_its_channel() {
        let (ann, bob) = (sealer(SECRET), sealer(SECRET));
        let (all, other) = (channel("all"), channel("other"));
        let sealed = ann.seal_at(&all, b"the session secret", 1, NOW);
        assert!(!sealed.windows(6).any(|window| window == b"secret"), "it is encrypted");
        assert_eq!(bob.open_at(&other, &sealed, NOW), Err(OpenError::Forged), "bound to its channel");
        assert_eq!(bob.open_at(&all, &sealed, NOW), Ok((ann.uid, b"the session secret".to_vec())));
        assert_eq!(bob.open_at(&all, &sealed, NOW), Err(OpenError::Replayed));
        let stranger = sealer("cluster.secret=0123456789abcdeF");
        assert_eq!(stranger.open_at(&all, &sealed, NOW), Err(OpenError::OtherSecret));
    }

    #[test]
    fn a_message_with_any_byte_changed_is_rejected_and_leaves_no_state() {
        let (ann, bob) = (sealer(SECRET), sealer(SECRET));
        let all = channel("all");
        let sealed = ann.seal_at(&all, b"{}", 1, NOW);
        for at in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[at] ^= 0x10;
            assert!(bob.open_at(&all, &changed, NOW).is_err(), "byte {at}");
        }
        for length in 0..sealed.len() {
            assert!(bob.open_at(&all, &sealed[..length], NOW).is_err(), "{length} bytes");
        }
        assert!(bob.senders.lock().expect("no panic").is_empty());
    }

    #[test]
    fn old_messages_are_rejected_whether_or_not_the_sender_is_known() {
        let (ann, bob) = (sealer(SECRET), sealer(SECRET));
        let all = channel("all");
        let sealed = ann.seal_at(&all, b"{}", 1, NOW);
        let tolerance = millis(TOLERANCE);
        for now in [NOW + tolerance + 1, NOW - tolerance - 1] {
            assert_eq!(bob.open_at(&all, &sealed, now), Err(OpenError::Stale));
        }
        assert!(bob.open_at(&all, &sealed, NOW + tolerance).is_ok());
    }

    #[test]
    fn messages_are_accepted_out_of_order_but_not_twice() {
        let mut window = ReplayWindow::starting_at(10);
        for sequence in [10, 9, 12, 11, 3, 4_000] {
            assert!(window.accept(sequence), "{sequence}");
            assert!(!window.accept(sequence), "{sequence} again");
        }
        assert!(window.accept(1_000_000));
        for passed in [12, 4_000, 1_000_000 - WINDOW] {
            assert!(!window.accept(passed), "{passed}");
        }
        assert!(window.accept(1_000_001 - WINDOW));
    }

    #[test]
    fn senders_are_stored_up_to_a_bound_and_removed_when_their_messages_are_stale() {
        let (bob, all) = (sealer(SECRET), channel("all"));
        let send = |time| sealer(SECRET).seal_at(&all, b"{}", 1, time);
        for _ in 0..MAX_SENDERS {
            assert!(bob.open_at(&all, &send(NOW), NOW).is_ok());
        }
        assert_eq!(bob.open_at(&all, &send(NOW), NOW), Err(OpenError::Crowded));
        let later = NOW + 2 * millis(TOLERANCE) + 1;
        assert!(bob.open_at(&all, &send(later), later).is_ok());
        assert_eq!(bob.senders.lock().expect("no panic").len(), 1);
    }

    #[test]
    fn the_label_values_of_rejected_messages_are_those_of_the_metric() {
        let bob = sealer(SECRET);
        assert!(bob.open(&channel("all"), b"plain").is_err());
        let expected = [
            ("unsealed", 1),
            ("other_secret", 0),
            ("forged", 0),
            ("stale", 0),
            ("replayed", 0),
            ("crowded", 0),
        ];
        assert_eq!(bob.rejected().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn without_a_cluster_secret_nodes_with_the_same_keys_accept_each_other() {
        let all = channel("all");
        let agrees = |one: &str, other: &str| {
            sealer(one).open_at(&all, &sealer(other).seal_at(&all, b"{}", 1, NOW), NOW).is_ok()
        };
        assert!(agrees("http_api.key=k", "http_api.key=k"));
        assert!(agrees("client.token.hmac_secret_key=k", "client.token.hmac_secret_key=k"));
        assert!(agrees("", ""));
        assert!(!agrees("http_api.key=k", "http_api.key=l"));
        assert!(!agrees("http_api.key=k", "client.token.hmac_secret_key=k"));
        assert!(!agrees("http_api.key=k", ""));
    }
}
