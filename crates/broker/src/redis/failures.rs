//! Error responses of Redis: the [`BrokerError`] of each, their counts, and their lines in the log.
//!
//! Invariants:
//! - The text of Redis' errors is written to the log alone: no [`BrokerError`] contains it.
//! - One code is logged at most once per [`LOG_INTERVAL`], with the number of replies since its last line.
//! - The codes that are counted are a fixed list; any other code counts as `error`.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use redis::{RedisError, ServerError, Value};

use crate::{BrokerError, lock};

/// Shortest time between two log lines about the same code.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// The code that stands for every error that is not in the list.
const OTHER: &str = "error";
/// The text of Redis 7.0 for an error that later versions report as `NOPERM`: a command inside a function is not
/// permitted.
const NOT_PERMITTED_IN_SCRIPT: &str = "The user executing the script can't";
/// The codes that are counted separately: states of Redis that an operator has to fix. The last one stands for all
/// other codes.
pub const CODES: [&str; 12] = [
    "NOPERM",
    "OOM",
    "BUSY",
    "NOREPLICAS",
    "MISCONF",
    "READONLY",
    "LOADING",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "TRYAGAIN",
    "NOAUTH",
    OTHER,
];

/// Counts of error responses since the start.
#[derive(Debug, Default)]
pub struct Failures {
    seen: Mutex<[CodeStats; CODES.len()]>,
}

#[derive(Debug, Default)]
struct CodeStats {
    total: u64,
    /// Replies since the last line in the log.
    unlogged: u64,
    logged: Option<Instant>,
}

impl Failures {
    /// The number of error responses with each of [`CODES`], in their order.
    pub fn totals(&self) -> [u64; CODES.len()] {
        let seen = lock(&self.seen);
        std::array::from_fn(|index| seen[index].total)
    }

    /// The response, or the error that it contains.
    pub(super) fn result(&self, reply: Value) -> Result<Value, BrokerError> {
        match reply {
            Value::ServerError(error) => Err(self.reply(&error)),
            other => Ok(other),
        }
    }

    /// Counts an error response; returns its meaning.
    pub(super) fn reply(&self, error: &ServerError) -> BrokerError {
        self.record(error.code(), error.details().unwrap_or_default(), Instant::now())
    }

    /// As [`Failures::reply`], for an error of the Redis library; `what` names the operation.
    pub(super) fn error(&self, error: &RedisError, what: &str) -> BrokerError {
        let words = format!("{} ({what})", error.detail().unwrap_or_default());
        self.record(error.code().unwrap_or(OTHER), &words, Instant::now())
    }

    fn record(&self, code: &str, words: &str, now: Instant) -> BrokerError {
        let code = if words.starts_with(NOT_PERMITTED_IN_SCRIPT) { "NOPERM" } else { code };
        let index = CODES.iter().position(|known| *known == code).unwrap_or(CODES.len() - 1);
        let unlogged = {
            let mut seen = lock(&self.seen);
            let seen = &mut seen[index];
            seen.total += 1;
            seen.unlogged += 1;
            let due = seen.logged.is_none_or(|last| now.saturating_duration_since(last) >= LOG_INTERVAL);
            due.then(|| {
                seen.logged = Some(now);
                std::mem::take(&mut seen.unlogged)
            })
        };
        if let Some(count) = unlogged {
            // Redis repeats the arguments of unknown commands, which may be bodies of publications.
            let words = words.split(", with args beginning with").next().unwrap_or_default();
            tracing::warn!(count, "redis answers with an error: {code} {words}");
        }
        match CODES[index] {
            "NOPERM" => BrokerError::NotPermitted,
            // The connection, or this node of a cluster, serves nothing until that state ends.
            "LOADING" | "CLUSTERDOWN" | "MASTERDOWN" | "READONLY" | "TRYAGAIN" => BrokerError::Unavailable,
            code => BrokerError::Failed(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_noperm_is_permanent() {
        let failures = Failures::default();
        let now = Instant::now();
        for code in CODES.into_iter().chain(["ERR", "WRONGTYPE", "NEWCODE", ""]) {
            let error = failures.record(code, "words", now);
            assert_eq!(error == BrokerError::NotPermitted, code == "NOPERM", "{code}");
            assert!(!error.to_string().contains("words"), "{error}");
        }
        assert_eq!(failures.totals(), [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 5]);
    }

    #[test]
    fn a_flood_of_errors_is_one_line_in_the_log_with_their_number() {
        let failures = Failures::default();
        let start = Instant::now();
        for _ in 0..1_000 {
            failures.record("OOM", "", start);
        }
        let unlogged = || lock(&failures.seen)[1].unlogged;
        assert_eq!(unlogged(), 999, "the first is logged at once");
        failures.record("OOM", "", start + LOG_INTERVAL);
        assert_eq!(unlogged(), 0, "the rest with the next line");
    }
}
