//! Messages on stdout.

use std::io::{self, Write as _};

use tidings_client::Body;
use tidings_wire::body::write_json_string;

use super::Subscribe;
use crate::text::visible;

/// Lines are written to stdout when this many bytes are buffered, or no further message is available.
const WRITE_AT: usize = 64 << 10;

/// Prints messages, one per line, with many lines in one write.
pub(super) struct Printer<'a> {
    options: &'a Subscribe,
    lines: Vec<u8>,
    text: String,
    printed: u64,
}

impl<'a> Printer<'a> {
    /// With the command's options.
    pub(super) fn new(options: &'a Subscribe) -> Self {
        Self { options, lines: Vec::new(), text: String::new(), printed: 0 }
    }

    /// Prints one message. Returns whether it was the last requested one.
    pub(super) fn print(&mut self, channel: &str, body: &Body) -> io::Result<bool> {
        if self.options.json {
            self.lines.extend_from_slice(b"{\"channel\":");
            write_json_string(channel, &mut self.lines);
            self.lines.extend_from_slice(b",\"data\":");
            body.write_json(&mut self.lines);
            self.lines.push(b'}');
        } else {
            self.text.clear();
            if self.options.prints_names() {
                visible(channel.as_bytes(), &mut self.text);
                self.text.push(' ');
            }
            visible(&body.read(), &mut self.text);
            self.lines.extend_from_slice(self.text.as_bytes());
        }
        self.lines.push(b'\n');
        self.printed += 1;
        let enough = self.options.count == Some(self.printed);
        if enough || self.lines.len() >= WRITE_AT {
            self.flush()?;
        }
        Ok(enough)
    }

    /// Whether there are buffered lines.
    pub(super) fn waits(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Writes the buffered lines.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if !self.lines.is_empty() {
            let mut out = io::stdout().lock();
            out.write_all(&self.lines)?;
            out.flush()?;
            self.lines.clear();
        }
        Ok(())
    }
}
