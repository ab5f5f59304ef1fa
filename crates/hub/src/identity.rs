//! Names of a session: the public client id, and the secret by which other connections of the same client find it. Both
//! are recomputed from the node's key whenever they are needed, so a session stores neither.

use std::fmt;

use bytes::Bytes;
use ring::hmac;
use tidings_wire::ClientInfo;

use crate::decisions::Requester;
use crate::hub::Hub;
use crate::index::{Slot, TopicKey};
use crate::protocols::{Peer as _, Protocols};
use crate::session::SessionId;

/// Label of client ids, which are public.
const CLIENT_ID: &[u8] = b"tidings client id\0";
/// Label of session secrets.
const SESSION_SECRET: &[u8] = b"tidings session secret\0";

/// A node's key for client ids and session secrets. Never shown, never published: everything derived from it is a MAC
/// (HMAC-SHA256) with a label for its use, so client ids, which are public, say nothing about session secrets.
#[derive(Clone)]
pub struct SessionKey(hmac::Key);

impl SessionKey {
    /// Length of a key in bytes.
    pub const LEN: usize = 32;

    /// Takes a key of random bytes, which no other process has.
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

/// Finds a session by the secret that its client was given: the shard's index, and the session there. `None` when this
/// node has not made the secret. Compares in constant time.
pub fn locate(key: &SessionKey, given: &str) -> Option<(u32, SessionId)> {
    let mut parts = given.splitn(4, '.');
    let mut number = || u32::from_str_radix(parts.next()?, 16).ok();
    let (shard, slot, generation) = (number()?, number()?, number()?);
    let id = SessionId { slot: Slot::new(slot), generation };
    let known = tidings_wire::Secret::new(key.secret(shard, id));
    known.is(given.as_bytes()).then_some((shard, id))
}

impl<P: Protocols> Hub<P> {
    /// A session's public id: not to be guessed.
    pub fn client_name(&self, id: SessionId) -> String {
        let bits = self.settings.session_key.derive(CLIENT_ID, self.shard.0, id);
        // A UUID of version 8 (RFC 9562 §5.8), variant 10.
        let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x8 << 76) | (0x2 << 62);
        let hex = format!("{bits:032x}");
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    /// The secret by which a session is found.
    pub fn client_secret(&self, id: SessionId) -> String {
        self.settings.session_key.secret(self.shard.0, id)
    }

    /// The session in `slot`, which there is.
    pub fn id_of(&self, slot: Slot) -> SessionId {
        SessionId { slot, generation: self.sessions[slot.index()].generation }
    }

    /// The session as the subject of a decision.
    pub fn requester(&self, slot: Slot) -> Requester {
        let session = &self.sessions[slot.index()];
        let member = session.member();
        Requester {
            client: self.client_name(self.id_of(slot)),
            user: member.map(|m| m.user.to_string()).unwrap_or_default(),
            meta: member.and_then(|m| m.meta.clone()),
            about: session.about().cloned(),
            encoding: session.peer.encoding(),
        }
    }

    /// The session as other clients of a channel see it.
    pub(crate) fn client_info(&self, slot: Slot, topic: Option<TopicKey>) -> ClientInfo {
        let member = self.sessions[slot.index()].member();
        let some = |bytes: Option<&Bytes>| bytes.filter(|bytes| !bytes.is_empty()).cloned();
        let sub = member.zip(topic).and_then(|(member, topic)| member.sub(topic));
        ClientInfo {
            user: member.map(|m| m.user.to_string()).unwrap_or_default(),
            client: self.client_name(self.id_of(slot)),
            conn_info: some(member.and_then(|m| m.info.as_ref())),
            chan_info: some(sub.and_then(|s| s.info.as_ref())),
        }
    }

    /// Removes a session from the sessions of its user.
    pub(crate) fn forget_user(&mut self, slot: Slot, user: &str) {
        if let Some(slots) = self.users.get_mut(user) {
            slots.retain(|s| *s != slot);
            if slots.is_empty() {
                self.users.remove(user);
            }
        }
    }
}
