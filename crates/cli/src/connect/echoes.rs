//! Recognition of echoes: the server sends lines back that are not commands.
//!
//! Invariant: at most [`MAX_WAITING`] lines are remembered, each at most [`MAX_LENGTH`] long.

use std::collections::VecDeque;

/// The most lines that wait for their echo.
const MAX_WAITING: usize = 64;
/// The longest line with a recognized echo, in bytes.
const MAX_LENGTH: usize = 4 << 10;
/// The commands of the line port.
const COMMANDS: [&str; 6] = ["SUBSCRIBE", "UNSUBSCRIBE", "PUBLISH", "AUTH", "PING", "EXIT"];

/// Sent lines that may be echoed.
#[derive(Debug, Default)]
pub(super) struct Echoes(VecDeque<String>);

impl Echoes {
    /// Remembers a line unless it is a command.
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
    /// distinguished from an echo. The server responds in order, so echoes of earlier lines cannot follow.
    pub(super) fn is_echo(&mut self, line: &[u8]) -> bool {
        let Some(at) = self.0.iter().position(|sent| sent.as_bytes() == line) else { return false };
        self.0.drain(..=at);
        true
    }

    /// Clears all lines for a new connection.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sent_line_that_is_not_a_command_has_one_echo() {
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
    fn the_number_of_waiting_lines_is_bounded() {
        let mut echoes = Echoes::default();
        for n in 0..1_000 {
            echoes.sent(&n.to_string());
        }
        echoes.sent(&"x".repeat(MAX_LENGTH + 1));
        assert_eq!(echoes.0.len(), MAX_WAITING);
        assert!(echoes.is_echo(b"999"));
    }
}
