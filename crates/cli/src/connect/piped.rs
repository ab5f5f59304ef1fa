//! `connect` in a pipe: lines of stdin to the server, output of the server to stdout.
//!
//! Invariants: received bytes are passed on at once and unchanged, except that `\r\n` becomes `\n`; at the end of input
//! no pending response is lost, and the wait for responses has a timeout.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until};

use super::{CLOSING_TIMEOUT, MAX_LINE, READ, UNSENT, connection_lost};
use crate::failure::Failure;
use crate::input::{Lines, stdin_chunks};
use crate::stdout::print;
use tidings_client::error::reason;
use tidings_client::stream::{Incoming, Outgoing};

/// The stage of the conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Lines are read from stdin.
    Talking,
    /// `EXIT` was queued. The server closes after its responses to earlier lines.
    Exiting,
    /// The server did not close, so the output was shut down.
    HalfClosed,
}

/// Runs until the server has closed the connection.
///
/// # Errors
/// The server closed while there was input, or did not close; stdin or stdout failed.
pub(crate) async fn run(mut incoming: Incoming, mut outgoing: Outgoing) -> Result<(), Failure> {
    let mut chunks = stdin_chunks().map_err(|e| cannot_read(&e))?;
    let mut lines = Lines::new(MAX_LINE);
    let mut outbox = Vec::new();
    let mut inbox = Vec::with_capacity(READ);
    let mut endings = LineEndings::default();
    let mut stage = Stage::Talking;
    let mut deadline = Instant::now();
    let mut undelivered = false;
    loop {
        tokio::select! {
            chunk = chunks.recv(), if stage == Stage::Talking && outbox.len() < UNSENT => {
                if read_input(chunk, &mut lines, &mut outbox)? {
                    stage = Stage::Exiting;
                    deadline = Instant::now() + CLOSING_TIMEOUT;
                }
            }
            read = incoming.read_buf(&mut inbox) => match read {
                Ok(0) if stage != Stage::Talking && outbox.is_empty() && !undelivered => return Ok(()),
                Ok(0) => return Err(connection_lost("the server closed it")),
                Ok(_) => {
                    print(&endings.unified(&inbox))?;
                    inbox.clear();
                }
                Err(e) => return Err(connection_lost(&reason(&e))),
            },
            written = outgoing.write(&outbox), if !outbox.is_empty() => {
                // After a failed write, the read returns the server's last lines and the kind of close.
                undelivered |= written.is_err();
                outbox.drain(..written.unwrap_or(outbox.len()));
                deadline = Instant::now() + CLOSING_TIMEOUT;
            }
            () = sleep_until(deadline), if stage != Stage::Talking => {
                if stage == Stage::HalfClosed {
                    return Err(Failure::Failed("the server did not close the connection after EXIT".to_owned()));
                }
                // A server may not know EXIT, but handles the end of its input.
                let _ = outgoing.shutdown().await;
                undelivered |= !outbox.is_empty();
                outbox.clear();
                stage = Stage::HalfClosed;
                deadline = Instant::now() + CLOSING_TIMEOUT;
            }
        }
    }
}

/// Queues the lines of a chunk (`None` at the end of input). Returns whether the last one is `EXIT`.
fn read_input(
    chunk: Option<io::Result<Vec<u8>>>,
    lines: &mut Lines,
    outbox: &mut Vec<u8>,
) -> Result<bool, Failure> {
    let Some(chunk) = chunk else {
        lines.rest().iter().for_each(|line| queue(line, outbox));
        queue(b"EXIT", outbox);
        return Ok(true);
    };
    lines.push(&chunk.map_err(|e| cannot_read(&e))?);
    while let Some(line) = lines.next().map_err(|_| too_long())? {
        queue(line, outbox);
        if line == b"EXIT" {
            return Ok(true);
        }
    }
    Ok(false)
}

fn queue(line: &[u8], outbox: &mut Vec<u8>) {
    outbox.extend_from_slice(line);
    outbox.extend_from_slice(b"\r\n");
}

fn cannot_read(error: &io::Error) -> Failure {
    Failure::Failed(format!("cannot read standard input: {}", reason(error)))
}

fn too_long() -> Failure {
    Failure::Failed(format!("a line of standard input is longer than {MAX_LINE} bytes"))
}

/// Converts `\r\n` to `\n` in a stream that may be split between the two.
#[derive(Debug, Default)]
struct LineEndings {
    /// Whether the last byte was a `\r` that was not written yet.
    held: bool,
}

impl LineEndings {
    fn unified(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 1);
        for byte in bytes {
            if std::mem::take(&mut self.held) && *byte != b'\n' {
                out.push(b'\r');
            }
            if *byte == b'\r' {
                self.held = true;
            } else {
                out.push(*byte);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_endings_are_converted_at_every_split() {
        let stream = b"a\r\nb\rc\r\r\nd\n";
        for cut in 0..=stream.len() {
            let mut endings = LineEndings::default();
            let mut out = endings.unified(&stream[..cut]);
            out.extend(endings.unified(&stream[cut..]));
            assert_eq!(out, b"a\nb\rc\r\nd\n", "cut at {cut}");
        }
    }
}
