//! Names of a session: the public one that others see, and the secret one by which other connections find it. Both are
//! made anew from what is known whenever they are needed, so nothing is kept.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use bytes::Bytes;
use tidings_wire::ClientInfo;

use super::super::SessionId;
use crate::deciding::Who;
use crate::hub::Hub;
use crate::topics::TopicKey;

/// 128 bits that only the node can make.
fn mix(node_seed: u64, shard: u32, id: SessionId, salt: u8) -> u128 {
    let half = |salt: u8| {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        u128::from(hasher.hash_one((node_seed, shard, id.slot, id.generation, salt)))
    };
    (half(salt) << 64) | half(salt + 1)
}

/// The public name: a UUID of version 8 (RFC 9562 §5.8).
const NAME: u8 = 1;
/// The secret one.
const SECRET: u8 = 3;

fn secret(node_seed: u64, shard: u32, id: SessionId) -> String {
    let SessionId { slot, generation } = id;
    format!("{shard:x}.{slot:x}.{generation:x}.{:032x}", mix(node_seed, shard, id, SECRET))
}

/// Where a session is, by the secret that its client was given: the shard's index, and the session there. `None` when
/// this node has not made the secret.
pub fn locate(node_seed: u64, given: &str) -> Option<(u32, SessionId)> {
    let mut parts = given.splitn(4, '.');
    let mut number = || u32::from_str_radix(parts.next()?, 16).ok();
    let (shard, slot, generation) = (number()?, number()?, number()?);
    let id = SessionId { slot, generation };
    let known = crate::access::Secret::new(secret(node_seed, shard, id));
    known.is(given.as_bytes()).then_some((shard, id))
}

impl Hub {
    /// A session's public id: not to be guessed.
    pub(crate) fn client_name(&self, id: SessionId) -> String {
        let bits = mix(self.settings.node_seed, self.shard.0, id, NAME);
        // Version 8 (custom), variant 10.
        let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x8 << 76) | (0x2 << 62);
        let hex = format!("{bits:032x}");
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    /// The secret by which a session is found.
    pub(crate) fn client_secret(&self, id: SessionId) -> String {
        secret(self.settings.node_seed, self.shard.0, id)
    }

    /// The session in `slot`, which there is.
    pub(crate) fn id_of(&self, slot: u32) -> SessionId {
        SessionId { slot, generation: self.sessions[slot as usize].generation }
    }

    /// A session for those who decide.
    pub(crate) fn who(&self, slot: u32) -> Who {
        let session = &self.sessions[slot as usize];
        let member = session.member();
        Who {
            client: self.client_name(self.id_of(slot)),
            user: member.map(|m| m.user.to_string()).unwrap_or_default(),
            meta: member.and_then(|m| m.meta.clone()),
            about: session.about().cloned(),
            encoding: session.dialect.encoding(),
        }
    }

    /// A session as others in a channel are told of it.
    pub(crate) fn client_info(&self, slot: u32, topic: Option<TopicKey>) -> ClientInfo {
        let member = self.sessions[slot as usize].member();
        let some = |bytes: Option<&Bytes>| bytes.filter(|bytes| !bytes.is_empty()).cloned();
        let sub = member.zip(topic).and_then(|(member, topic)| member.sub(topic));
        ClientInfo {
            user: member.map(|m| m.user.to_string()).unwrap_or_default(),
            client: self.client_name(self.id_of(slot)),
            conn_info: some(member.and_then(|m| m.info.as_ref())),
            chan_info: some(sub.and_then(|s| s.info.as_ref())),
        }
    }

    /// Forgets which user a session was.
    pub(crate) fn forget_user(&mut self, slot: u32, user: &str) {
        if let Some(slots) = self.users.get_mut(user) {
            slots.retain(|s| *s != slot);
            if slots.is_empty() {
                self.users.remove(user);
            }
        }
    }
}
