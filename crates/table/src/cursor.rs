//! Goes to a line and reads it, in windows, whatever its length.

use std::io;
use std::ops::ControlFlow;

use crate::reading::Reading;
use crate::syntax::{Event, Reader, Scanner};

/// How much is read at once when a row goes on beyond its block.
const WINDOW: u64 = 64 << 10;

/// A position in the lines of a reading. Lines at rising numbers are read without going back.
pub(crate) struct Cursor<'a> {
    reading: &'a Reading,
    /// The line that stands next.
    line: u64,
    /// Where the text of all lines ends.
    end: u64,
    window: Vec<u8>,
    /// Where the window starts in the text.
    offset: u64,
    /// How much of the window is dealt with.
    used: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor over the lines that the reading has now.
    pub(crate) fn new(reading: &'a Reading) -> Self {
        let end = reading.state().tally.end;
        Self { reading, line: 0, end, window: Vec::new(), offset: 0, used: 0 }
    }

    /// Reads `line`, which must exist, into `sink`, whose return values are ignored; the last event is [`Event::Row`].
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
            // All of the block that a line may start in, and no more: neighbours are not always wanted.
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

    /// Reads the window that follows, which was dealt with; false at the end of the text.
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
