//! Which of the server's lines are echoes: lines that are no command come back as they were sent.
//!
//! Invariant: at most [`MAX_WAITING`] lines are remembered, and none that is longer than [`MAX_LENGTH`].

use std::collections::VecDeque;

/// How many lines may wait for their echo.
const MAX_WAITING: usize = 64;
/// Longest line whose echo is recognized, in bytes.
const MAX_LENGTH: usize = 4 << 10;
/// The commands of the line port.
const COMMANDS: [&str; 6] = ["SUBSCRIBE", "UNSUBSCRIBE", "PUBLISH", "AUTH", "PING", "EXIT"];

/// Lines that were sent and may come back.
#[derive(Debug, Default)]
pub(super) struct Echoes(VecDeque<String>);

impl Echoes {
    /// Remembers a line that is no command.
    pub(super) fn sent(&mut self, line: &str) {
        let word = line.split(' ').next().unwrap_or_default();
        if COMMANDS.contains(&word) || line.len() > MAX_LENGTH {
            return;
        }
        if self.0.len() == MAX_WAITING {
            self.0.pop_front();
        }
        self.0.push_back(line.to_owned());
    }

    /// Whether a line is the echo of a sent line. A message of the default channel with the same text cannot be
    /// distinguished from it. The server responds in order, so earlier lines get no echo any more.
    pub(super) fn is_echo(&mut self, line: &[u8]) -> bool {
        let Some(at) = self.0.iter().position(|sent| sent.as_bytes() == line) else { return false };
        self.0.drain(..=at);
        true
    }

    /// Forgets everything: the connection is another one.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_was_sent_and_is_no_command_has_one_echo() {
        let mut echoes = Echoes::default();
        for line in ["PING", "PUBLISH news hi", "hello", "hello", "bye"] {
            echoes.sent(line);
        }
        assert!(!echoes.is_echo(b"PONG"));
        assert!(!echoes.is_echo(b"PUBLISH news hi"));
        assert!(echoes.is_echo(b"hello"));
        assert!(echoes.is_echo(b"hello"));
        assert!(!echoes.is_echo(b"hello"));
        assert!(echoes.is_echo(b"bye"));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut echoes = Echoes::default();
        for n in 0..1_000 {
            echoes.sent(&n.to_string());
        }
        echoes.sent(&"x".repeat(MAX_LENGTH + 1));
        assert_eq!(echoes.0.len(), MAX_WAITING);
        assert!(echoes.is_echo(b"999"));
    }
}
