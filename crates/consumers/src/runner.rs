//! Runs the commands of one consumer, and counts and logs their outcomes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tidings_log_throttle::LogThrottle;

use crate::metrics::{CommandOutcome, Counters};
use crate::{CommandTarget, ConsumedCommand, Outcome};

/// What a consumer does with the commands that it has read.
#[derive(Debug)]
pub(crate) struct Runner {
    /// The name of the consumer.
    name: String,
    /// Limits log lines about refused commands.
    refused: LogThrottle,
    /// Limits log lines about commands that are repeated.
    repeated: LogThrottle,
}

impl Runner {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), refused: LogThrottle::new(), repeated: LogThrottle::new() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs a command: its method and its parameters, or the reason why it cannot be run. `id` is its place in the source, for the
    /// log. Returns whether the command is done, so that it must not be read again.
    pub(crate) async fn run(
        &self,
        (target, counters): (&Arc<dyn CommandTarget>, &Counters),
        id: &str,
        command: Result<(&str, Bytes), String>,
        idempotency_key: String,
    ) -> bool {
        let method = command.as_ref().map_or("", |(method, _)| method);
        let outcome = match command.clone() {
            Err(reason) => Outcome::Refused(reason),
            Ok((method, params)) => {
                target.run(ConsumedCommand { consumer: &self.name, method, params, idempotency_key }).await
            }
        };
        let consumer = &*self.name;
        match outcome {
            Outcome::Done => {
                counters.commands.add(CommandOutcome::Done);
                true
            }
            Outcome::Refused(reason) => {
                counters.commands.add(CommandOutcome::Refused);
                if let Some(count) = self.refused.count() {
                    tracing::warn!(
                        consumer,
                        id,
                        method,
                        reason,
                        count,
                        "a command of a consumer was refused; it is not run again"
                    );
                }
                true
            }
            Outcome::Unavailable(reason) => {
                counters.commands.add(CommandOutcome::Retried);
                if let Some(count) = self.repeated.count() {
                    tracing::warn!(
                        consumer,
                        id,
                        method,
                        reason,
                        count,
                        "a command of a consumer failed; it is repeated"
                    );
                }
                false
            }
        }
    }
}

/// The numbers of commands that wait in the parts of a source: partitions of a table, or streams.
#[derive(Debug)]
pub(crate) struct Backlog(Vec<AtomicU64>);

/// A number that is not known.
const UNKNOWN: u64 = u64::MAX;

impl Backlog {
    /// The backlog of a source with so many parts, whose numbers are not known.
    pub(crate) fn new(parts: usize) -> Self {
        Self((0..parts).map(|_| AtomicU64::new(UNKNOWN)).collect())
    }

    /// Stores the number of a part; `None` if it is not known.
    pub(crate) fn set(&self, part: usize, waiting: Option<u64>) {
        if let Some(number) = self.0.get(part) {
            number.store(waiting.unwrap_or(UNKNOWN), Ordering::Relaxed);
        }
    }

    /// The number of all parts, if each of them is known.
    pub(crate) fn total(&self) -> Option<u64> {
        let numbers = self.0.iter().map(|number| number.load(Ordering::Relaxed));
        numbers.map(|number| (number != UNKNOWN).then_some(number)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_is_known_when_each_of_its_parts_is() {
        let backlog = Backlog::new(2);
        backlog.set(0, Some(3));
        assert_eq!(backlog.total(), None);
        backlog.set(1, Some(4));
        assert_eq!(backlog.total(), Some(7));
        backlog.set(0, None);
        backlog.set(9, Some(1));
        assert_eq!(backlog.total(), None);
    }
}
