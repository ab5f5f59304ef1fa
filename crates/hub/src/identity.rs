//! The public client id of a session, and its secret, by which other connections of the same client address the
//! session. Both are derived from the node's key on demand, so a session stores neither.

use std::fmt;

use bytes::Bytes;
use ring::hmac;
use tidings_wire::ClientInfo;

use crate::authorization::Requester;
use crate::hub::Hub;
use crate::index::{Slot, TopicKey};
use crate::protocols::{Peer as _, Protocols};
use crate::session::SessionId;

/// Label of client ids, which are public.
const CLIENT_ID: &[u8] = b"tidings client id\0";
/// Label of session secrets.
const SESSION_SECRET: &[u8] = b"tidings session secret\0";

/// A node's key for client ids and session secrets. It is never shown or published. Each derived value is a MAC
/// (HMAC-SHA256) with a label for its use, so a public client id reveals nothing about the session secret.
#[derive(Clone)]
pub struct SessionKey(hmac::Key);

impl SessionKey {
    /// Length of a key in bytes.
    pub const LEN: usize = 32;

    /// Uses a key of random bytes, which must be different in every process.
    pub fn new(key: &[u8; Self::LEN]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The first 128 bits of the MAC over a label and a session.
    fn derive(&self, label: &[u8], shard: u32, id: SessionId) -> u128 {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(label);
        for number in [shard, id.slot.number(), id.generation] {
            context.update(&number.to_be_bytes());
        }
        let tag = context.sign();
        let (half, _) = tag.as_ref().split_first_chunk().expect("SHA-256 has 32 bytes");
        u128::from_be_bytes(*half)
    }

    fn secret(&self, shard: u32, id: SessionId) -> String {
        let SessionId { slot, generation } = id;
        format!(
            "{shard:x}.{:x}.{generation:x}.{:032x}",
            slot.number(),
            self.derive(SESSION_SECRET, shard, id)
        )
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Finds a session by its secret: the index of its shard, and its id. `None` if this node has not derived the secret.
/// Compares in constant time.
pub fn locate(key: &SessionKey, given: &str) -> Option<(u32, SessionId)> {
    let mut parts = given.splitn(4, '.');
    let mut number = || u32::from_str_radix(parts.next()?, 16).ok();
    let (shard, slot, generation) = (number()?, number()?, number()?);
    let id = SessionId { slot: Slot::new(slot), generation };
    let known = tidings_wire::Secret::new(key.secret(shard, id));
    known.equals(given.as_bytes()).then_some((shard, id))
}

impl<P: Protocols> Hub<P> {
    /// The public id of a session, as a number. It cannot be guessed.
    pub(crate) fn client_id_bits(&self, id: SessionId) -> u128 {
        let bits = self.settings.session_key.derive(CLIENT_ID, self.shard.0, id);
        // A UUID of version 8 (RFC 9562 §5.8), variant 10.
        bits & !(0xf << 76) & !(0x3 << 62) | (0x8 << 76) | (0x2 << 62)
    }

    /// The public id of a session. It cannot be guessed.
    pub fn client_id(&self, id: SessionId) -> String {
        let bits = self.client_id_bits(id);
        let hex = format!("{bits:032x}");
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    /// The secret that addresses a session.
    pub fn session_secret(&self, id: SessionId) -> String {
        self.settings.session_key.secret(self.shard.0, id)
    }

    /// The id of the session in `slot`.
    ///
    /// # Panics
    /// If the slot is empty.
    pub fn session_id(&self, slot: Slot) -> SessionId {
        SessionId { slot, generation: self.sessions[slot.index()].generation }
    }

    /// The session as the requester of a decision.
    pub fn requester(&self, slot: Slot) -> Requester {
        let session = &self.sessions[slot.index()];
        let user_state = session.user_state();
        Requester {
            client: self.client_id(self.session_id(slot)),
            user: user_state.map(|m| m.user.to_string()).unwrap_or_default(),
            meta: user_state.and_then(|m| m.meta.clone()),
            labels: user_state.and_then(|m| m.labels.clone()),
            connection_info: session.connection_info().cloned(),
            address: None,
            encoding: session.peer.encoding(),
        }
    }

    /// Whether a proxy has authenticated the user of the session's connection.
    pub fn has_proxied_user(&self, slot: Slot) -> bool {
        self.sessions[slot.index()].connection_info().is_some_and(|info| info.user.is_some())
    }

    /// The session's information for other clients of a channel.
    pub(crate) fn client_info(&self, slot: Slot, topic: Option<TopicKey>) -> ClientInfo {
        let user_state = self.sessions[slot.index()].user_state();
        let some = |bytes: Option<&Bytes>| bytes.filter(|bytes| !bytes.is_empty()).cloned();
        let sub = user_state.zip(topic).and_then(|(user_state, topic)| user_state.sub(topic));
        ClientInfo {
            user: user_state.map(|m| m.user.to_string()).unwrap_or_default(),
            client: self.client_id(self.session_id(slot)),
            conn_info: some(user_state.and_then(|m| m.info.as_ref())),
            chan_info: some(sub.and_then(|s| s.info.as_ref())),
        }
    }

    /// Removes a session from the index of its user.
    pub(crate) fn remove_user_session(&mut self, slot: Slot, user: &str) {
        if let Some(slots) = self.users.get_mut(user) {
            slots.retain(|s| *s != slot);
            if slots.is_empty() {
                self.users.remove(user);
            }
        }
    }
}
