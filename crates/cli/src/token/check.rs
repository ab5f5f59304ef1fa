//! `tidings token check`: prints the content of a token, and whether the server would accept it.
//!
//! Invariant: control characters in a token are escaped.

use std::io::{self, Read as _};

use clap::Args;
use serde_json::Value;
use tidings_auth::{MAX_TOKEN, TokenError, Verifier, inspect};

use super::{KeySource, unix_now};
use crate::failure::Failure;
use crate::interrupt::block_on;
use crate::stdout::print;
use crate::text::escape_control;

/// Prints the content of a token, and whether the server would accept it
#[derive(Args, Debug)]
#[command(after_long_help = "\
The content of the token is printed, and then verified with the keys of the configuration; a key set is fetched for that. \
The exit code is 0 for a valid token and 1 for any other.

Examples:
  tidings token check TOKEN --config tidings.toml
  tidings token connection --user 42 | tidings token check -")]
pub(super) struct Check {
    /// The token; - reads it from standard input
    token: String,

    #[command(flatten)]
    keys: KeySource,
}

impl Check {
    /// Prints and verifies the token.
    ///
    /// # Errors
    /// An invalid configuration, a text that is not a token, an invalid token.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let options = self.keys.options()?;
        let token = if self.token == "-" { from_stdin()? } else { self.token.clone() };
        let inspected = inspect(&token).map_err(Failure::new)?;
        let mut shown = show("header", &inspected.header) + &show("claims", &inspected.claims);
        print(shown.as_bytes())?;
        let verifier = Verifier::new(&options.verifier()).map_err(|e| Failure::Usage(e.to_string()))?;
        let now = unix_now();
        let (what, expires) = block_on(async {
            if inspected.is_subscription() {
                let subscription = verifier.subscription(&token, now).await.map_err(|e| verdict(&e))?;
                let (whom, channel) = (user(&subscription.user), subscription.channel);
                Ok((format!("permits {whom} to subscribe to {channel}"), subscription.expires))
            } else {
                let connection = verifier.connection(&token, now).await.map_err(|e| verdict(&e))?;
                Ok((format!("connects {}", user(&connection.user)), connection.expires))
            }
        })?;
        let for_how_long = match expires {
            Some(end) => format!("for {}", span(end.saturating_sub(now))),
            None => "without expiry".to_owned(),
        };
        shown = format!("valid: {what}, {for_how_long}\n");
        print(shown.as_bytes())
    }
}

fn verdict(error: &TokenError) -> Failure {
    match error {
        TokenError::UnknownKey { .. } | TokenError::Unavailable(_) => Failure::new(error),
        _ => Failure::Failed(format!("not valid: {error}")),
    }
}

/// A part of a token, on several lines.
fn show(name: &str, part: &Value) -> String {
    let mut out = format!("{name} ");
    for line in format!("{part:#}").lines() {
        escape_control(line.as_bytes(), &mut out);
        out.push('\n');
    }
    out
}

fn user(name: &str) -> String {
    if name.is_empty() { "an anonymous client".to_owned() } else { format!("user {name:?}") }
}

/// A formatted time from now: its two largest units.
fn span(seconds: u64) -> String {
    let units =
        [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let first = units.iter().position(|(n, _)| *n > 0).unwrap_or(units.len() - 1);
    let shown = units[first..].iter().take(2).filter(|(n, _)| *n > 0 || seconds == 0);
    shown.map(|(n, unit)| format!("{n}{unit}")).collect::<Vec<_>>().join(" ")
}

/// The token on standard input, without its line break.
fn from_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let bound = MAX_TOKEN as u64 + 3;
    io::stdin()
        .take(bound)
        .read_to_string(&mut text)
        .map_err(|e| Failure::Failed(format!("cannot read standard input: {e}")))?;
    Ok(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_its_two_largest_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (61, "1m 1s"),
            (3600, "1h"),
            (3661, "1h 1m"),
            (3601, "1h"),
            (90_000, "1d 1h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
