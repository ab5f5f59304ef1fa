//! The lines of a view in their order: numbers of 32 bits, in memory up to a bound, else on disk.

use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::disk::{Folder, Nameless};

/// The numbers of lines, in the order of a view.
#[derive(Debug)]
pub(crate) struct Order {
    lines: Vec<u32>,
    /// Where all of them are, when they are too many for memory.
    file: Option<Nameless>,
    count: u64,
}

/// Takes the numbers of an [`Order`].
pub(crate) struct Collector<'a> {
    order: Order,
    folder: &'a Folder,
    /// How many numbers memory may hold.
    most: usize,
}

impl<'a> Collector<'a> {
    /// A collector that holds up to `bytes` in memory (at least a page of 4 KiB), the rest in a nameless file
    /// in `folder`.
    pub(crate) fn new(folder: &'a Folder, bytes: usize) -> Self {
        let order = Order { lines: Vec::new(), file: None, count: 0 };
        Self { order, folder, most: (bytes / size_of::<u32>()).max(1024) }
    }

    pub(crate) fn push(&mut self, line: u32) -> io::Result<()> {
        self.order.lines.push(line);
        self.order.count += 1;
        if self.order.lines.len() >= self.most { self.spill() } else { Ok(()) }
    }

    pub(crate) fn finish(mut self) -> io::Result<Order> {
        if self.order.file.is_some() {
            self.spill()?;
        }
        self.order.lines.shrink_to_fit();
        Ok(self.order)
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match &mut self.order.file {
            Some(file) => file,
            none => none.insert(self.folder.nameless()?),
        };
        let bytes: Vec<u8> = self.order.lines.iter().flat_map(|line| line.to_le_bytes()).collect();
        file.write_all(&bytes)?;
        self.order.lines.clear();
        Ok(())
    }
}

impl Order {
    /// How many lines there are.
    pub(crate) const fn len(&self) -> u64 {
        self.count
    }

    /// The bytes that it takes in memory and on disk.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let disk = if self.file.is_some() { self.count * 4 } else { 0 };
        (size_of_val(&self.lines[..]) as u64, disk)
    }

    /// The lines at these positions, which must be there.
    pub(crate) fn get(&self, positions: Range<u64>) -> io::Result<Vec<u32>> {
        let Some(file) = &self.file else {
            return Ok(self.lines[positions.start as usize..positions.end as usize].to_vec());
        };
        let mut bytes = vec![0; (positions.end - positions.start) as usize * 4];
        file.file().read_exact_at(&mut bytes, positions.start * 4)?;
        Ok(bytes.as_chunks().0.iter().map(|line| u32::from_le_bytes(*line)).collect())
    }
}
