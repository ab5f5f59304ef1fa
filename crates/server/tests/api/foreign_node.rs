//! Messages between nodes, sealed by an independent implementation of the format in `cluster::sealing`.

use std::time::{SystemTime, UNIX_EPOCH};

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::{hkdf, hmac};
use serde_json::Value;

/// A node of the test, which has a key and seals any message.
pub(crate) struct ForeignNode {
    shared: hkdf::Prk,
    uid: [u8; 16],
    sequence: u64,
}

impl ForeignNode {
    /// A node with this uid, and with the key that is derived from this option.
    pub(crate) fn new(uid: u128, option: &str, key: &str) -> Self {
        let salt = format!("tidings cluster v1 {option}");
        let shared = hkdf::Salt::new(hkdf::HKDF_SHA256, salt.as_bytes()).extract(key.as_bytes());
        Self { shared, uid: uid.to_be_bytes(), sequence: 0 }
    }

    /// The uid in hexadecimal.
    pub(crate) fn uid(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.uid))
    }

    /// Seals a message for `channel`.
    pub(crate) fn seal(&mut self, channel: &str, message: &Value) -> Vec<u8> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
        let time = u64::try_from(now.as_millis()).expect("a time of this era");
        self.seal_at(channel, message, time)
    }

    /// Seals a message with another time, in Unix milliseconds.
    pub(crate) fn seal_at(&mut self, channel: &str, message: &Value, time: u64) -> Vec<u8> {
        self.sequence += 1;
        let mut id = [0; 32];
        let okm = self.shared.expand(&[b"tidings cluster key id\0"], hmac::HMAC_SHA256).expect("a length");
        okm.fill(&mut id).expect("a length");
        let mut head = vec![1];
        head.extend(&id[..8]);
        head.extend(self.uid);
        head.extend(time.to_be_bytes());
        head.extend(self.sequence.to_be_bytes());
        let info = [&b"tidings cluster message key\0"[..], &self.uid];
        let okm = self.shared.expand(&info, &CHACHA20_POLY1305).expect("a length");
        let key = LessSafeKey::new(UnboundKey::from(okm));
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.sequence.to_be_bytes());
        let authenticated = Aad::from([&head, channel.as_bytes()].concat());
        let mut body = message.to_string().into_bytes();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), authenticated, &mut body)
            .expect("a short message");
        [head, body].concat()
    }
}
