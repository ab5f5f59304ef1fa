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
//! - Nothing is remembered of a sender before one of its messages was authentic.
//! - A message is accepted once per channel: within [`TOLERANCE`] by its sequence number, later not at all. A node
//!   that starts anew knows no sequence numbers; it may accept a repetition that is younger than [`TOLERANCE`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut as _, Bytes};
use ring::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use tidings_wire::Channel;

use super::key::{ClusterKey, KEY_ID_LEN, Uid};

const VERSION: u8 = 1;
/// Bytes in front of the box.
const HEAD: usize = 1 + KEY_ID_LEN + Uid::LEN + 8 + 8;
/// Bytes that sealing adds.
pub(super) const OVERHEAD: usize = HEAD + 16;
/// How far the clocks of two nodes may be apart, and how long a message may be on its way.
const TOLERANCE: Duration = Duration::from_secs(60);
/// Most senders that are remembered; messages of further ones are rejected.
const MOST_SENDERS: usize = 2_048;
/// How far the messages of one sender in one channel may come out of order.
const WINDOW: u64 = 4_096;
/// At most one warning of a kind in this time.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Why a message is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// It is not sealed in a version that is known here.
    Unsealed,
    /// It is sealed with another key.
    OtherSecret,
    /// It is not what a holder of the key has sealed for this channel.
    Forged,
    /// It is too old, or from the future.
    Stale,
    /// It was accepted before.
    Replayed,
    /// Too many senders are known.
    Crowded,
}

impl Rejection {
    /// All of them, in the order of the metric's label values.
    const ALL: [Self; 6] =
        [Self::Unsealed, Self::OtherSecret, Self::Forged, Self::Stale, Self::Replayed, Self::Crowded];

    /// The metric's label value.
    fn label(self) -> &'static str {
        match self {
            Self::Unsealed => "unsealed",
            Self::OtherSecret => "other_secret",
            Self::Forged => "forged",
            Self::Stale => "stale",
            Self::Replayed => "replayed",
            Self::Crowded => "crowded",
        }
    }

    /// What an operator is told.
    fn explanation(self) -> &'static str {
        match self {
            Self::Unsealed => {
                "not sealed as this version does: another version of tidings runs on this broker, or something \
                 else publishes in tidings.node.*"
            }
            Self::OtherSecret => {
                "sealed with another secret: another node has a different cluster.secret (or, where that is not \
                 set, a different http_api.key or client.token.hmac_secret_key); set the same cluster.secret on \
                 every node"
            }
            Self::Forged => {
                "not authentic: something without the cluster's secret publishes in tidings.node.*"
            }
            Self::Stale => "more than 60 s old or from the future: synchronize the clocks of the nodes",
            Self::Replayed => "received before: something repeats messages in tidings.node.*",
            Self::Crowded => "from more nodes than this one keeps track of (2048)",
        }
    }
}

/// Seals and opens the messages of one node.
#[derive(Debug)]
pub(super) struct Sealer {
    uid: Uid,
    key: ClusterKey,
    key_id: [u8; KEY_ID_LEN],
    own: LessSafeKey,
    sequence: AtomicU64,
    senders: Mutex<HashMap<Uid, Sender>>,
    rejected: [AtomicU64; Rejection::ALL.len()],
    /// When a warning of each kind was last written, in Unix seconds.
    warned: [AtomicU64; Rejection::ALL.len()],
}

/// A sender of which an authentic message has been received.
#[derive(Debug)]
struct Sender {
    key: LessSafeKey,
    /// Time of its newest message, in Unix milliseconds.
    newest: u64,
    /// What was accepted of it, by channel.
    windows: Vec<(Channel, Window)>,
}

impl Sealer {
    /// A sealer of the node `uid`, which no other run of a node has.
    pub(super) fn new(uid: Uid, key: ClusterKey) -> Self {
        Self {
            uid,
            own: key.of_sender(uid),
            key_id: key.id(),
            key,
            sequence: AtomicU64::new(0),
            senders: Mutex::default(),
            rejected: Default::default(),
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

    /// Opens what was published in a channel: the sender and its message.
    ///
    /// # Errors
    /// [`Rejection`], which has been counted, and at times logged.
    pub(super) fn open(&self, channel: &Channel, sealed: &[u8]) -> Result<(Uid, Vec<u8>), Rejection> {
        let opened = self.open_at(channel, sealed, unix_millis());
        if let Err(rejection) = opened {
            self.count(rejection);
        }
        opened
    }

    fn open_at(&self, channel: &Channel, sealed: &[u8], now: u64) -> Result<(Uid, Vec<u8>), Rejection> {
        if sealed.len() < OVERHEAD || sealed[0] != VERSION {
            return Err(Rejection::Unsealed);
        }
        let (head, encrypted) = sealed.split_at(HEAD);
        let (key_id, rest) = head[1..].split_first_chunk::<KEY_ID_LEN>().expect("a whole head");
        let (uid, rest) = rest.split_first_chunk().expect("a whole head");
        let (time, rest) = rest.split_first_chunk().expect("a whole head");
        let sequence = u64::from_be_bytes(rest.try_into().expect("a whole head"));
        let (uid, time) = (Uid(*uid), u64::from_be_bytes(*time));
        if *key_id != self.key_id {
            return Err(Rejection::OtherSecret);
        }
        let tolerance = millis(TOLERANCE);
        if time.abs_diff(now) > tolerance {
            return Err(Rejection::Stale);
        }
        let mut message = encrypted.to_vec();
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unknown = None;
        let key = match senders.get(&uid) {
            Some(sender) => &sender.key,
            None => unknown.insert(self.key.of_sender(uid)),
        };
        let length = key
            .open_in_place(nonce(sequence), authenticated(head, channel), &mut message)
            .map_err(|_| Rejection::Forged)?
            .len();
        message.truncate(length);
        if let Some(key) = unknown {
            if senders.len() >= MOST_SENDERS {
                // A repetition of what these have sent is too old by now.
                senders.retain(|_, sender| sender.newest.saturating_add(2 * tolerance) >= now);
            }
            if senders.len() >= MOST_SENDERS {
                return Err(Rejection::Crowded);
            }
            senders.insert(uid, Sender { key, newest: time, windows: Vec::new() });
        }
        let sender = senders.get_mut(&uid).expect("known or just inserted");
        sender.newest = sender.newest.max(time);
        let window = match sender.windows.iter().position(|(known, _)| known == channel) {
            Some(at) => &mut sender.windows[at].1,
            None => {
                sender.windows.push((channel.clone(), Window::starting_at(sequence)));
                &mut sender.windows.last_mut().expect("just pushed").1
            }
        };
        if window.accept(sequence) { Ok((uid, message)) } else { Err(Rejection::Replayed) }
    }

    /// Messages rejected since the start, by the metric's label value.
    pub(super) fn rejected(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Rejection::ALL
            .into_iter()
            .map(|rejection| (rejection.label(), self.rejected[rejection as usize].load(Ordering::Relaxed)))
    }

    fn count(&self, rejection: Rejection) {
        let count = self.rejected[rejection as usize].fetch_add(1, Ordering::Relaxed) + 1;
        let (now, last) = (unix_millis() / 1_000, &self.warned[rejection as usize]);
        let before = last.load(Ordering::Relaxed);
        let due = before == 0 || now.saturating_sub(before) >= WARN_EVERY.as_secs();
        if due && last.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!(count, "messages between nodes are rejected: {}", rejection.explanation());
        }
    }
}

/// The sequence numbers that were accepted lately.
#[derive(Debug)]
struct Window {
    newest: u64,
    /// A bit for each of the last [`WINDOW`] numbers, at the number modulo [`WINDOW`].
    seen: Box<[u64; (WINDOW / 64) as usize]>,
}

impl Window {
    fn starting_at(sequence: u64) -> Self {
        Self { newest: sequence, seen: Box::new([0; (WINDOW / 64) as usize]) }
    }

    /// Whether a number is accepted now; it is not a second time.
    fn accept(&mut self, sequence: u64) -> bool {
        if sequence.saturating_add(WINDOW) <= self.newest {
            return false;
        }
        if sequence - self.newest.min(sequence) >= WINDOW {
            self.seen.fill(0);
        } else {
            for skipped in self.newest + 1..=sequence {
                let (word, bit) = Self::place(skipped);
                self.seen[word] &= !bit;
            }
        }
        self.newest = self.newest.max(sequence);
        let (word, bit) = Self::place(sequence);
        let fresh = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        fresh
    }

    fn place(sequence: u64) -> (usize, u64) {
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
        Sealer::new(Uid::random(), ClusterKey::from_config(&config))
    }

    const SECRET: &str = "cluster.secret=0123456789abcdef";
    const NOW: u64 = 1_800_000_000_000;

    fn channel(name: &str) -> Channel {
        Channel::new(name).expect("a name")
    }

    #[test]
    fn a_message_is_read_by_who_has_the_key_in_its_channel_once() {
        let (ann, bob) = (sealer(SECRET), sealer(SECRET));
        let (all, other) = (channel("all"), channel("other"));
        let sealed = ann.seal_at(&all, b"the session secret", 1, NOW);
        assert!(!sealed.windows(6).any(|window| window == b"secret"), "it is encrypted");
        assert_eq!(bob.open_at(&other, &sealed, NOW), Err(Rejection::Forged), "bound to its channel");
        assert_eq!(bob.open_at(&all, &sealed, NOW), Ok((ann.uid, b"the session secret".to_vec())));
        assert_eq!(bob.open_at(&all, &sealed, NOW), Err(Rejection::Replayed));
        let stranger = sealer("cluster.secret=0123456789abcdeF");
        assert_eq!(stranger.open_at(&all, &sealed, NOW), Err(Rejection::OtherSecret));
    }

    #[test]
    fn a_message_with_any_byte_changed_is_rejected_and_leaves_nothing_behind() {
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
            assert_eq!(bob.open_at(&all, &sealed, now), Err(Rejection::Stale));
        }
        assert!(bob.open_at(&all, &sealed, NOW + tolerance).is_ok());
    }

    #[test]
    fn messages_may_come_out_of_order_and_none_twice() {
        let mut window = Window::starting_at(10);
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
    fn senders_are_remembered_up_to_a_bound_and_go_when_their_messages_are_too_old() {
        let (bob, all) = (sealer(SECRET), channel("all"));
        let send = |time| sealer(SECRET).seal_at(&all, b"{}", 1, time);
        for _ in 0..MOST_SENDERS {
            assert!(bob.open_at(&all, &send(NOW), NOW).is_ok());
        }
        assert_eq!(bob.open_at(&all, &send(NOW), NOW), Err(Rejection::Crowded));
        let later = NOW + 2 * millis(TOLERANCE) + 1;
        assert!(bob.open_at(&all, &send(later), later).is_ok());
        assert_eq!(bob.senders.lock().expect("no panic").len(), 1);
    }

    #[test]
    fn nodes_without_a_secret_of_their_own_agree_where_their_keys_do() {
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
