//! Retained messages of MQTT: the arguments and the answers of their functions (see `library.lua`).

use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use tidings_wire::{Channel, Publication};

use super::coalesced::CoalescedReads;
use super::envelope::{self, Envelope};
use super::queue::Arg;
use super::state_reader::millis;
use crate::{Retain, RetainOutcome, RetainedPage, RetainedQuery, RetainedTotals};

/// Reads in flight, by store and query.
pub(super) type RetainedReads = CoalescedReads<(Channel, RetainedQuery), RetainedPage>;

/// The arguments of a change.
pub(super) fn args(change: &Retain) -> Vec<Arg> {
    let Retain { publication, ttl, max_messages, max_bytes } = change;
    let Publication { channel, body, extra, .. } = publication;
    let envelope = if body.is_empty() {
        Bytes::new()
    } else {
        envelope::write_unpositioned(extra.as_deref(), body).into()
    };
    vec![
        Arg::text(channel.as_str()),
        Arg::Bytes(envelope),
        ttl.map_or_else(|| Arg::text(""), |ttl| Arg::Number(millis(ttl))),
        Arg::Number(*max_messages as u64),
        Arg::Number(*max_bytes as u64),
    ]
}

/// The outcome of a change.
pub(super) fn outcome(value: &Value) -> Option<RetainOutcome> {
    let Value::Array(parts) = value else { return None };
    let [Value::Int(full), messages, bytes] = &parts[..] else { return None };
    match full {
        0 => Some(RetainOutcome::Stored(totals(messages, bytes)?)),
        1 => Some(RetainOutcome::TooManyMessages),
        2 => Some(RetainOutcome::TooManyBytes),
        _ => None,
    }
}

/// The arguments of a query.
pub(super) fn query_args(query: &RetainedQuery) -> Vec<Arg> {
    let RetainedQuery { filter, after, max_bytes } = query;
    vec![Arg::text(filter), Arg::text(after), Arg::Number(*max_bytes as u64)]
}

/// A page of messages. Messages that this version cannot decode are omitted.
pub(super) fn page(value: &Value) -> Option<RetainedPage> {
    let Value::Array(parts) = value else { return None };
    let [messages, bytes, next, rest @ ..] = &parts[..] else { return None };
    let totals = totals(messages, bytes)?;
    let next = String::from_utf8(envelope::bytes(next)?.to_vec()).ok().filter(|next| !next.is_empty());
    let messages = rest.chunks_exact(3).filter_map(message).collect();
    Some(RetainedPage { messages, next, totals })
}

fn message(parts: &[Value]) -> Option<(Publication, Option<Duration>)> {
    let [topic, written, Value::Int(left)] = parts else { return None };
    let channel = Channel::new(envelope::bytes(topic)?).ok()?;
    let written = Bytes::copy_from_slice(envelope::bytes(written)?);
    let Some(Envelope::Publication(written)) = envelope::read(&written) else { return None };
    let left = u64::try_from(*left).ok().filter(|left| *left > 0).map(Duration::from_millis);
    Some((Publication { channel, body: written.body, position: None, extra: written.extra }, left))
}

fn totals(messages: &Value, bytes: &Value) -> Option<RetainedTotals> {
    let (Value::Int(messages), Value::Int(bytes)) = (messages, bytes) else { return None };
    Some(RetainedTotals {
        messages: u64::try_from(*messages).ok()?,
        bytes: u64::try_from(*bytes).unwrap_or(0),
    })
}
