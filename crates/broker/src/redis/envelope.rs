//! Envelopes: messages with more than a body, and their encoding.
//!
//! Envelopes are sent on a separate Pub/Sub channel beside the plain one (see `Names`), so a plain `PUBLISH` cannot be
//! taken for an envelope, whatever its body. Both channels are subscribed on one connection, and Redis sends messages
//! in the order of execution, so the two need no merging.
//!
//! | message | is |
//! |---|---|
//! | `P<offset> <epoch> <n>\n`, then n bytes of extras, then the body | a publication; offset 0: without a position |
//! | `J`, then an info | a client has joined |
//! | `L`, then an info | a client has left |
//! | `E`, then an epoch | the history has ended, and the next one has this epoch |
//!
//! Extras are an `i` and an info, if there is one, then a `t`, a name and a value for each tag, then an `o` and the origin, if
//! there is one, then an `m` and the properties of a message of MQTT, if there are any: a byte with its QoS (two bits), retain
//! flag (bit 2) and whether an expiry follows (bit 3), the expiry in seconds (four bytes, big-endian), the other properties. An info is user, client, connection info and channel info. Every text is a netstring without its comma:
//! its length in decimal, a colon, its bytes. A `d` and an empty text mark a publication that is sent as a delta. In
//! a map a `k` and the key mark a new value, an `r` and the key a removal; `l` and a number of milliseconds, the time after which the
//! key expires. Every kind of a later version is a letter and one text, so that nodes of this
//! version skip it.

use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use tidings_mqtt::Qos;
use tidings_wire::{ClientInfo, Extra, MapKey, MessageProperties};

use crate::Change;

/// A decoded message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Envelope {
    Publication(EncodedPublication),
    Change(Change),
    /// The history has ended; the epoch of the next one.
    NextEpoch(String),
}

/// A publication as encoded in a message or in a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EncodedPublication {
    /// Zero without a position.
    pub(super) offset: u64,
    /// Empty in a stream, which belongs to one epoch.
    pub(super) epoch: String,
    pub(super) extra: Option<Box<Extra>>,
    pub(super) body: Bytes,
    /// The time after which the key of a map expires.
    pub(super) lifetime: Option<Duration>,
}

/// Decodes a message; `None` if it is not an envelope.
pub(super) fn read(message: &Bytes) -> Option<Envelope> {
    let mut rest = message.get(1..)?;
    match message.first()? {
        b'P' => {
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            let head = std::str::from_utf8(&rest[..end]).ok()?;
            let mut words = head.split(' ');
            let offset = words.next()?.parse().ok()?;
            let epoch = words.next()?.to_owned();
            let length: usize = words.next()?.parse().ok()?;
            let extras = rest.get(end + 1..)?.get(..length)?;
            let (extra, lifetime) = read_extra(extras)?;
            let extra = (!extras.is_empty()).then_some(extra);
            let body = message.slice(1 + end + 1 + length..);
            Some(Envelope::Publication(EncodedPublication { offset, epoch, extra, body, lifetime }))
        }
        b'J' => read_info(&mut rest).map(|info| Envelope::Change(Change::Join(info))),
        b'L' => read_info(&mut rest).map(|info| Envelope::Change(Change::Leave(info))),
        b'E' => Some(Envelope::NextEpoch(std::str::from_utf8(rest).ok()?.to_owned())),
        _ => None,
    }
}

/// Encodes a publication without a position.
pub(super) fn write_unpositioned(extra: Option<&Extra>, body: &[u8]) -> Vec<u8> {
    let extras = extra.map(write_extra).unwrap_or_default();
    // The epoch between the two spaces is empty.
    [format!("P0  {}\n", extras.len()).as_bytes(), &extras, body].concat()
}

/// Encodes a join or leave.
pub(super) fn write_change(change: &Change) -> Vec<u8> {
    let (kind, info) = match change {
        Change::Join(info) => (b'J', info),
        Change::Leave(info) => (b'L', info),
    };
    let mut out = vec![kind];
    put_info(info, &mut out);
    out
}

/// Decodes an entry of a stream as `XRANGE` returns it; `None` if it is not one of tidings.
pub(super) fn read_entry(entry: &Value) -> Option<EncodedPublication> {
    let Value::Array(parts) = entry else { return None };
    let [id, Value::Array(fields)] = &parts[..] else { return None };
    let offset = std::str::from_utf8(bytes(id)?).ok()?.strip_suffix("-0")?.parse().ok()?;
    let (epoch, body) = (String::new(), Bytes::new());
    let mut written = EncodedPublication { offset, epoch, extra: None, body, lifetime: None };
    for field in fields.chunks_exact(2) {
        match (bytes(&field[0])?, bytes(&field[1])?) {
            (b"b", body) => written.body = Bytes::copy_from_slice(body),
            (b"x", extras) => {
                let (extra, lifetime) = read_extra(extras)?;
                (written.extra, written.lifetime) = (Some(extra), lifetime);
            }
            _ => {}
        }
    }
    Some(written)
}

/// The bytes of a string response.
pub(super) fn bytes(value: &Value) -> Option<&[u8]> {
    if let Value::BulkString(bytes) = value { Some(bytes) } else { None }
}

/// Encodes extras.
pub(super) fn write_extra(extra: &Extra) -> Vec<u8> {
    let Extra { info, tags, origin, message, delta, map } = extra;
    let mut out = Vec::new();
    if let Some(info) = info {
        out.push(b'i');
        put_info(info, &mut out);
    }
    for (name, value) in tags {
        out.push(b't');
        put(name.as_bytes(), &mut out);
        put(value.as_bytes(), &mut out);
    }
    if let Some(origin) = origin {
        out.push(b'o');
        put(origin.as_bytes(), &mut out);
    }
    if let Some(message) = message {
        out.push(b'm');
        put(&write_message(message), &mut out);
    }
    if *delta {
        out.push(b'd');
        put(b"", &mut out);
    }
    if let Some(map) = map {
        out.push(if map.removed { b'r' } else { b'k' });
        put(map.key.as_bytes(), &mut out);
    }
    out
}

/// The bit of the retain flag, and the bit that an expiry follows.
const RETAIN: u8 = 1 << 2;
const EXPIRY: u8 = 1 << 3;

fn write_message(message: &MessageProperties) -> Vec<u8> {
    let MessageProperties { qos, retain, expiry, properties } = message;
    let retain = if *retain { RETAIN } else { 0 };
    let mut out = vec![*qos as u8 | retain | expiry.map_or(0, |_| EXPIRY)];
    out.extend(expiry.iter().flat_map(|seconds| seconds.to_be_bytes()));
    out.extend_from_slice(properties);
    out
}

fn read_message(bytes: &[u8]) -> Option<MessageProperties> {
    let (flags, mut rest) = bytes.split_first()?;
    let mut expiry = None;
    if flags & EXPIRY != 0 {
        let (seconds, after) = rest.split_first_chunk()?;
        (expiry, rest) = (Some(u32::from_be_bytes(*seconds)), after);
    }
    let qos = Qos::from_number(flags & 3)?;
    let properties = Bytes::copy_from_slice(rest);
    Some(MessageProperties { qos, retain: flags & RETAIN != 0, expiry, properties })
}

/// Decodes extras, and the time after which the key of a map expires.
pub(super) fn read_extra(mut rest: &[u8]) -> Option<(Box<Extra>, Option<Duration>)> {
    let mut extra = Extra::default();
    let mut lifetime = None;
    while let Some((kind, after)) = rest.split_first() {
        rest = after;
        match kind {
            b'i' => extra.info = Some(read_info(&mut rest)?),
            b't' => extra.tags.push((take_text(&mut rest)?, take_text(&mut rest)?)),
            b'o' => extra.origin = Some(take_text(&mut rest)?.into()),
            b'm' => extra.message = Some(Box::new(read_message(take(&mut rest)?)?)),
            b'd' => {
                take(&mut rest)?;
                extra.delta = true;
            }
            b'k' | b'r' => {
                let (key, removed) = (take_text(&mut rest)?.into(), *kind == b'r');
                extra.map = Some(Box::new(MapKey { key, removed, version: 0 }));
            }
            b'l' => lifetime = Some(Duration::from_millis(take_text(&mut rest)?.parse().ok()?)),
            _ => _ = take(&mut rest)?,
        }
    }
    Some((Box::new(extra), lifetime))
}

/// Encodes an info.
pub(super) fn write_info(info: &ClientInfo) -> Vec<u8> {
    let mut out = Vec::with_capacity(info.size() + 16);
    put_info(info, &mut out);
    out
}

/// Decodes an info at the front, and advances `rest` behind it.
pub(super) fn read_info(rest: &mut &[u8]) -> Option<ClientInfo> {
    let user = take_text(rest)?;
    let client = take_text(rest)?;
    let mut optional = || {
        let bytes = take(rest)?;
        Some((!bytes.is_empty()).then(|| Bytes::copy_from_slice(bytes)))
    };
    Some(ClientInfo { user, client, conn_info: optional()?, chan_info: optional()? })
}

fn put_info(info: &ClientInfo, out: &mut Vec<u8>) {
    put(info.user.as_bytes(), out);
    put(info.client.as_bytes(), out);
    put(info.conn_info.as_deref().unwrap_or_default(), out);
    put(info.chan_info.as_deref().unwrap_or_default(), out);
}

fn put(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(text.len().to_string().as_bytes());
    out.push(b':');
    out.extend_from_slice(text);
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let colon = rest.iter().take(12).position(|byte| *byte == b':')?;
    let length: usize = std::str::from_utf8(&rest[..colon]).ok()?.parse().ok()?;
    let (text, after) = rest[colon + 1..].split_at_checked(length)?;
    *rest = after;
    Some(text)
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    String::from_utf8(take(rest)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn info() -> impl Strategy<Value = ClientInfo> {
        let json = || prop::option::of(prop::collection::vec(any::<u8>(), 1..20).prop_map(Bytes::from));
        (any::<String>(), any::<String>(), json(), json()).prop_map(|(user, client, conn_info, chan_info)| {
            ClientInfo { user, client, conn_info, chan_info }
        })
    }

    proptest! {
        #[test]
        fn written_envelopes_are_read_back(
            info in prop::option::of(info()),
            tags in prop::collection::vec(any::<(String, String)>(), 0..4),
            origin in prop::option::of(any::<String>().prop_map(String::into_boxed_str)),
            delta: bool,
            message in prop::option::of((0..3_u8, any::<bool>(), any::<Option<u32>>(), any::<Vec<u8>>())),
            key in any::<Option<(String, bool)>>(),
            body in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let message = message.map(|(qos, retain, expiry, properties)| {
                let qos = Qos::from_number(qos).expect("below 3");
                Box::new(MessageProperties { qos, retain, expiry, properties: properties.into() })
            });
            let map = key.map(|(key, removed)| Box::new(MapKey { key: key.into(), removed, version: 0 }));
            let extra = Extra { info: info.clone(), tags, origin, message, delta, map };
            let extras = write_extra(&extra);
            let mut message = format!("P7 abc {}\n", extras.len()).into_bytes();
            message.extend_from_slice(&extras);
            message.extend_from_slice(&body);
            let extra = (!extras.is_empty()).then(|| Box::new(extra));
            let written = EncodedPublication {
                offset: 7,
                epoch: "abc".to_owned(),
                extra,
                body: body.into(),
                lifetime: None,
            };
            prop_assert_eq!(read(&message.into()), Some(Envelope::Publication(written)));
            for change in info.into_iter().flat_map(|info| [Change::Join(info.clone()), Change::Leave(info)]) {
                prop_assert_eq!(read(&write_change(&change).into()), Some(Envelope::Change(change)));
            }
        }

        #[test]
        fn no_message_makes_it_panic(kind in "[PJL]?", rest in "[0-9: itax\n]{0,30}") {
            let _ = read(&Bytes::from(kind + &rest));
        }
    }

    #[test]
    fn a_length_beyond_the_message_is_no_envelope() {
        for message in
            ["P1 e 5\nabc", "P1 e 99999999999999999999\n", "J3:ab", "P1 e\n", "", "X", "J999999999999:"]
        {
            assert_eq!(read(&Bytes::from_static(message.as_bytes())), None, "{message}");
        }
    }
}
