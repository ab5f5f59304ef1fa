//! Notices: messages to a connection before its protocol is known, and the reasons of disconnects.

use std::ops::RangeInclusive;
use std::time::Duration;

use tidings_hub::CloseReason;
use tidings_wire::{code, plain};

/// Disconnect codes of the client protocol and of applications. Other close codes are those of WebSocket.
pub(crate) const DISCONNECT_CODES: RangeInclusive<u16> = 3000..=4999;

/// Whether a disconnect code requests that the client reconnects. Codes of the protocol and of applications differ.
pub(crate) fn requests_reconnect(number: u16) -> bool {
    matches!(number, 3000..=3499 | 4000..=4499)
}

/// The disconnect code and the reason.
pub(crate) fn disconnect_code_and_reason(reason: &CloseReason) -> Option<(u16, String)> {
    let (code, words) = reason.code_and_reason()?;
    let number =
        if matches!(reason, CloseReason::Protocol(_)) { code::BAD_PROTOCOL.number } else { code.number };
    Some((number, words))
}

/// The reason of a shutdown for a client without its own reconnect policy.
pub(crate) fn shutdown_reason(delay: Duration) -> String {
    format!("{}, reconnect in {:.1} s", code::SHUTDOWN.text, delay.as_secs_f64())
}

/// Appends the notice to a plain client that `dropped` messages could not be sent.
pub fn gap_notice(dropped: u64, out: &mut Vec<u8>) {
    plain::error(code::SLOW.number, &format!("slow: {dropped} messages dropped"), out);
}

/// Appends the notice for a refused connection: because of the `limit` of connections or, without one, because the
/// server stops and the client should reconnect after `delay`. The protocol is not known yet.
pub fn refusal_notice(limit: Option<usize>, delay: Duration, out: &mut Vec<u8>) {
    match limit {
        Some(limit) => {
            plain::error(code::CONNECTION_LIMIT.number, &format!("connection limit: {limit}"), out);
        }
        None => plain::error(code::SHUTDOWN.number, &shutdown_reason(delay), out),
    }
}

/// Appends the notice for a connection that is refused temporarily because of a limit.
pub fn overload_notice(words: &str, out: &mut Vec<u8>) {
    plain::error(code::OVERLOADED.number, words, out);
}
