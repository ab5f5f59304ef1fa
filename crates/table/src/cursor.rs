//! Seeks to a line and reads it, in windows, whatever its length.

use std::io;
use std::ops::ControlFlow;

use crate::reading::Reading;
use crate::syntax::{Event, Reader, Scanner};

/// The size of one read when a row continues after its block.
const WINDOW: u64 = 64 << 10;

/// A position in the lines of a reading. Ascending line numbers are read without seeking backwards.
pub(crate) struct Cursor<'a> {
    reading: &'a Reading,
    /// The number of the next line.
    line: u64,
    /// The end of the last line in the text.
    end: u64,
    window: Vec<u8>,
    /// The offset of the window in the text.
    offset: u64,
    /// The consumed part of the window.
    used: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor over the current lines of the reading.
    pub(crate) fn new(reading: &'a Reading) -> Self {
        let end = reading.state().tally.end;
        Self { reading, line: 0, end, window: Vec::new(), offset: 0, used: 0 }
    }

    /// Reads the existing line `line` into `sink`. The return values of `sink` are ignored; the last event is
    /// [`Event::Row`].
    pub(crate) fn read(&mut self, line: u64, mut sink: impl FnMut(Event<'_>)) -> io::Result<()> {
        self.seek(line)?;
        let mut reader = Reader::new(self.reading.dialect().syntax);
        loop {
            if self.used == self.window.len() && !self.refill(WINDOW)? {
                reader.finish(|event| {
                    sink(event);
                    ControlFlow::Continue(())
                });
                break;
            }
            let mut ended = false;
            self.used += reader.feed(&self.window[self.used..], |event| {
                sink(event);
                ended = event == Event::Row;
                if ended { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            if ended {
                break;
            }
        }
        self.line = line + 1;
        Ok(())
    }

    /// Passes the bytes of the existing line `line` to `sink`, in pieces and without its line break.
    pub(crate) fn copy(
        &mut self,
        line: u64,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.seek(line)?;
        let mut reader = Reader::new(self.reading.dialect().syntax);
        let (mut begun, mut ended) = (false, false);
        while !ended && (self.used < self.window.len() || self.refill(WINDOW)?) {
            let mut piece = &self.window[self.used..];
            let length = reader.feed(piece, |event| {
                ended = event == Event::Row;
                if ended { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            self.used += length;
            piece = &piece[..length - usize::from(ended)];
            // Line breaks before the line are empty lines, or the second byte of the one before.
            while !begun && let [b'\n' | b'\r', rest @ ..] = piece {
                piece = rest;
            }
            begun |= !piece.is_empty();
            if let Err(error) = sink(piece) {
                // The next line is read from the start of its block.
                self.window.clear();
                self.used = 0;
                return Err(error);
            }
        }
        self.line = line + 1;
        Ok(())
    }

    fn seek(&mut self, line: u64) -> io::Result<()> {
        if self.line == line && self.used < self.window.len() {
            return Ok(());
        }
        let (block, block_end) = self.reading.state().locate(line);
        let is_ahead = (block.row..=line).contains(&self.line) && !self.window.is_empty();
        if !is_ahead {
            self.line = block.row;
            self.offset = block.offset;
            self.window.clear();
            self.used = 0;
            // Reads the rest of the block that the line may start in, and not more: often the following lines are not
            // needed.
            let length = (block_end - block.offset).clamp(1, WINDOW);
            self.refill(length)?;
        }
        let mut rows = line - self.line;
        let mut scanner = Scanner::new(self.reading.dialect().syntax);
        while rows > 0 {
            if self.used == self.window.len() && !self.refill(WINDOW)? {
                break;
            }
            self.used += scanner.skip(&self.window[self.used..], &mut rows);
        }
        self.line = line;
        Ok(())
    }

    /// Reads the next window. Returns false at the end of the text.
    fn refill(&mut self, length: u64) -> io::Result<bool> {
        self.offset += self.window.len() as u64;
        self.used = 0;
        let length = length.min(self.end.saturating_sub(self.offset));
        self.window.resize(length as usize, 0);
        let read = self.reading.text().read(self.offset, &mut self.window)?;
        self.window.truncate(read);
        Ok(read > 0)
    }
}
