//! Non-blocking reading of standard input, and parsers of arguments that several commands share.

use std::io::{self, Read as _};
use std::thread;
use std::time::Duration;

use tidings_wire::line::{Scan, next};
use tokio::sync::mpsc;

/// The size of one read from stdin, in bytes.
const CHUNK: usize = 64 << 10;
/// The most queued chunks; while the queue is full, stdin is not read.
const WAITING: usize = 4;

/// Reads stdin on a separate thread. The channel closes at the end of input; an error is the last item.
///
/// The thread is never joined: nothing can interrupt its read, and it owns nothing that needs cleanup.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn stdin_chunks() -> io::Result<mpsc::Receiver<io::Result<Vec<u8>>>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut buf = vec![0; CHUNK];
        loop {
            let chunk = match io::stdin().lock().read(&mut buf) {
                Ok(0) => return,
                Ok(n) => Ok(buf[..n].to_vec()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => Err(e),
            };
            let last = chunk.is_err();
            if sender.blocking_send(chunk).is_err() || last {
                return;
            }
        }
    })?;
    Ok(receiver)
}

/// A line exceeds its limit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Assembles lines from chunks. A line ends with `\n` or `\r\n`, or at the end of the input.
#[derive(Debug)]
pub(crate) struct Lines {
    max: usize,
    buf: Vec<u8>,
    /// The bytes of `buf` that were returned.
    used: usize,
    /// The bytes after `used` without a line break.
    searched: usize,
    /// Whether input up to the next line break is discarded.
    skipping: bool,
}

impl Lines {
    /// Lines of at most `max` bytes without their ending.
    pub(crate) fn new(max: usize) -> Self {
        Self { max, buf: Vec::new(), used: 0, searched: 0, skipping: false }
    }

    /// Adds input.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.buf.drain(..self.used);
        self.used = 0;
        let mut chunk = chunk;
        if self.skipping {
            let Some(end) = chunk.iter().position(|b| *b == b'\n') else { return };
            chunk = &chunk[end + 1..];
            self.skipping = false;
        }
        self.buf.extend_from_slice(chunk);
    }

    /// Discards the line that is too long, up to its end, which may not have arrived yet.
    pub(crate) fn skip(&mut self) {
        let rest = &self.buf[self.used..];
        match rest.iter().position(|b| *b == b'\n') {
            Some(end) => self.used += end + 1,
            None => {
                self.used = self.buf.len();
                self.skipping = true;
            }
        }
        self.searched = 0;
    }

    /// The next complete line.
    ///
    /// # Errors
    /// [`TooLong`] once the line exceeds the limit. Further calls return it too, until [`Lines::skip`].
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, TooLong> {
        match next(&self.buf[self.used..], self.searched, self.max) {
            Scan::Line { line, used } => {
                self.used += used;
                self.searched = 0;
                Ok(Some(line))
            }
            Scan::Partial => {
                self.searched = self.buf.len() - self.used;
                Ok(None)
            }
            Scan::TooLong => Err(TooLong),
        }
    }

    /// The incomplete last line, once.
    pub(crate) fn rest(&mut self) -> Option<Vec<u8>> {
        let rest = self.buf.split_off(self.used);
        *self = Self::new(self.max);
        (!rest.is_empty()).then_some(rest)
    }
}

/// Parses a duration: a number with `ms`, `s`, `m` or `h`; without a unit it is in seconds.
///
/// # Errors
/// The expected form.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => f64::NAN,
    };
    number
        .parse::<f64>()
        .ok()
        .and_then(|number| Duration::try_from_secs_f64(number * seconds).ok())
        .filter(|duration| *duration <= Duration::from_secs(366 * 24 * 3600))
        .ok_or_else(|| "not a duration: write 500ms, 10s, 5m or 1h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_at_every_split() {
        let input = b"one\r\ntwo\n\nfour";
        for cut in 0..=input.len() {
            let mut lines = Lines::new(100);
            let mut got = Vec::new();
            for part in [&input[..cut], &input[cut..]] {
                lines.push(part);
                while let Some(line) = lines.next().unwrap() {
                    got.push(line.to_vec());
                }
            }
            got.extend(lines.rest());
            assert_eq!(got, [&b"one"[..], b"two", b"", b"four"], "cut at {cut}");
            assert_eq!(lines.rest(), None);
        }
    }

    #[test]
    fn a_line_above_the_limit_is_detected_before_its_end() {
        let mut lines = Lines::new(3);
        lines.push(b"abc\nabcdef");
        assert_eq!(lines.next(), Ok(Some(&b"abc"[..])));
        assert_eq!(lines.next(), Err(TooLong));
    }

    #[test]
    fn a_line_above_the_limit_is_skipped_at_every_split() {
        let input = b"one\nfar too long\r\nend\n";
        for cut in 0..=input.len() {
            let mut lines = Lines::new(3);
            let mut got = Vec::new();
            for part in [&input[..cut], &input[cut..]] {
                lines.push(part);
                loop {
                    match lines.next() {
                        Ok(Some(line)) => got.push(line.to_vec()),
                        Ok(None) => break,
                        Err(TooLong) => {
                            got.push(b"?".to_vec());
                            lines.skip();
                        }
                    }
                }
            }
            assert_eq!(got, [&b"one"[..], b"?", b"end"], "cut at {cut}");
        }
    }

    #[test]
    fn durations_are_written_with_or_without_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for wrong in ["", "s", "10 s", "-1s", "1d", "1e9h", "99999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
