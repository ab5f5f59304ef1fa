//! Wills of MQTT: the arguments and the answers of their functions (see `library.lua`).

use bytes::Bytes;
use redis::Value;

use super::envelope;
use super::library::{self, Function};
use super::queue::Arg;
use super::state_reader::millis;
use crate::{BegunWill, WillChange, WillOutcome};

/// The function of a change, and its arguments.
pub(super) fn call(node: &str, change: &WillChange) -> (Function, Vec<Arg>) {
    let flag = |on: bool| Arg::Number(u64::from(on));
    let node = Arg::text(node);
    match change {
        WillChange::Open { key, connection, will, lease, max_bytes, is_again, delay, continues } => {
            let (key, connection) = (Arg::text(key), Arg::text(connection));
            let (lease, will) = (Arg::Number(millis(*lease)), Arg::Bytes(will.clone().unwrap_or_default()));
            let most = Arg::Number(*max_bytes as u64);
            let delay = Arg::Number(u64::try_from(delay.as_millis()).unwrap_or(0));
            let flags = (flag(*is_again), flag(*continues));
            (library::WILL_OPEN, vec![node, lease, key, connection, will, most, flags.0, delay, flags.1])
        }
        WillChange::Close { key, connection, is_published, max_delay } => {
            let (key, connection) = (Arg::text(key), Arg::text(connection));
            let max_delay = if max_delay.is_zero() { 0 } else { millis(*max_delay) };
            (library::WILL_CLOSE, vec![node, key, connection, flag(*is_published), Arg::Number(max_delay)])
        }
        WillChange::Done { connection } => (library::WILL_DONE, vec![node, Arg::text(connection)]),
        WillChange::Claim { lease, most } => {
            (library::WILL_CLAIM, vec![node, Arg::Number(millis(*lease)), Arg::Number(*most as u64)])
        }
    }
}

/// The outcome of a change.
pub(super) fn outcome(value: &Value) -> Option<WillOutcome> {
    let Value::Array(parts) = value else { return None };
    let [Value::Int(flag), Value::Int(count), Value::Int(bytes), begun @ ..] = &parts[..] else {
        return None;
    };
    Some(WillOutcome {
        is_full: *flag == 1,
        had_no_lease: *flag == 2,
        count: u64::try_from(*count).ok()?,
        bytes: u64::try_from(*bytes).unwrap_or(0),
        begun: begun.chunks_exact(2).map(begun_will).collect::<Option<_>>()?,
    })
}

fn begun_will(parts: &[Value]) -> Option<BegunWill> {
    let [connection, will] = parts else { return None };
    let connection = String::from_utf8(envelope::bytes(connection)?.to_vec()).ok()?;
    Some(BegunWill { connection, will: Bytes::copy_from_slice(envelope::bytes(will)?) })
}
