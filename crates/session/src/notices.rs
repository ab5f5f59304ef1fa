//! Notices: messages for a connection before its protocol is known, and the reasons of disconnects.

use std::ops::RangeInclusive;
use std::time::Duration;

use tidings_hub::CloseReason;
use tidings_wire::{code, plain};

/// The disconnect codes of the client protocol and of applications; other close codes are those of WebSocket itself.
pub(crate) const DISCONNECTS: RangeInclusive<u16> = 3000..=4999;

/// Whether a disconnect code requests that the client connects again: the protocol's own, and those of applications.
pub(crate) fn asks_to_return(number: u16) -> bool {
    matches!(number, 3000..=3499 | 4000..=4499)
}

/// The disconnect code of an ending, and its reason.
pub(crate) fn disconnect_words(ending: &CloseReason) -> Option<(u16, String)> {
    let (code, words) = ending.words()?;
    let number =
        if matches!(ending, CloseReason::Protocol(_)) { code::BAD_PROTOCOL.number } else { code.number };
    Some((number, words))
}

/// The words of a shutdown for a client without a reconnect policy of its own.
pub(crate) fn shutdown_words(delay: Duration) -> String {
    format!("{}, reconnect in {:.1} s", code::SHUTDOWN.text, delay.as_secs_f64())
}

/// Appends the notice that `dropped` messages could not be sent to a plain client.
pub fn gap_notice(dropped: u64, out: &mut Vec<u8>) {
    plain::error(code::SLOW.number, &format!("slow: {dropped} messages dropped"), out);
}

/// Appends the notice for a connection that is refused, because there are as many as the limit, or (without one) because
/// the server is stopping and the client should reconnect after `delay`. The protocol is not known yet.
pub fn refusal_notice(limit: Option<usize>, delay: Duration, out: &mut Vec<u8>) {
    match limit {
        Some(limit) => {
            plain::error(code::CONNECTION_LIMIT.number, &format!("connection limit: {limit}"), out);
        }
        None => plain::error(code::SHUTDOWN.number, &shutdown_words(delay), out),
    }
}

/// Appends the notice for a connection that is refused because of a limit that passes.
pub fn overload_notice(words: &str, out: &mut Vec<u8>) {
    plain::error(code::OVERLOADED.number, words, out);
}
