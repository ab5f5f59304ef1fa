//! The key that the nodes of a deployment share, and the identity of a node.

use std::fmt;

use ring::rand::{SystemRandom, generate};
use ring::{aead, hkdf, hmac};

use tidings_config::Config;

/// Algorithm of messages between nodes.
const AEAD: &aead::Algorithm = &aead::CHACHA20_POLY1305;
/// Labels, one for each use of the shared key.
const MESSAGE_KEY: &[u8] = b"tidings cluster message key\0";
const KEY_ID: &[u8] = b"tidings cluster key id\0";
/// Bytes of a key's id.
pub(super) const KEY_ID_LEN: usize = 8;

/// Identifies one run of one node: 128 random bits, public.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeUid(pub(super) [u8; NodeUid::LEN]);

impl NodeUid {
    /// Bytes of a uid.
    pub(super) const LEN: usize = 16;

    /// A uid that no other node has.
    pub fn random() -> Self {
        Self(generate(&SystemRandom::new()).expect("the operating system's random numbers").expose())
    }
}

impl fmt::Display for NodeUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// The deployment's shared key. Only keyed MACs of it leave the process (HKDF-SHA256, RFC 5869).
pub struct ClusterKey {
    shared: hkdf::Prk,
}

impl ClusterKey {
    /// `cluster.secret`; without one, derived from the first key that every node has: `http_api.key`, then
    /// `client.token.hmac_secret_key`. Without any key, messages are sealed with a publicly known key; `config::check`
    /// accepts that only if no key is configured, so that there is nothing to protect.
    pub fn from_config(config: &Config) -> Self {
        let (source, key) = config.cluster_key().unwrap_or(("none", ""));
        let label = format!("tidings cluster v1 {source}");
        let shared = hkdf::Salt::new(hkdf::HKDF_SHA256, label.as_bytes()).extract(key.as_bytes());
        Self { shared }
    }

    /// The key with which `sender` seals. Each sender has its own key, so nonces need to be unique only within one sender.
    pub(super) fn sender_key(&self, sender: NodeUid) -> aead::LessSafeKey {
        let info = [MESSAGE_KEY, &sender.0[..]];
        let okm = self.shared.expand(&info, AEAD).expect("a key is shorter than HKDF's limit");
        aead::LessSafeKey::new(aead::UnboundKey::from(okm))
    }

    /// A public id of the key. It distinguishes messages of nodes with another key from forged ones.
    pub(super) fn id(&self) -> [u8; KEY_ID_LEN] {
        let mut mac_key = [0; 32];
        let okm = self.shared.expand(&[KEY_ID], hmac::HMAC_SHA256).expect("shorter than HKDF's limit");
        okm.fill(&mut mac_key).expect("the length of the MAC key");
        let (id, _) = mac_key.split_first_chunk().expect("longer than an id");
        *id
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
