//! The order of a view: line numbers of 32 bits, in memory up to a limit, otherwise on disk.

use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::disk::{Folder, UnlinkedFile};
use crate::overlay::LineOrder;

/// The line numbers of a view, in its order.
#[derive(Debug)]
pub(crate) struct RowOrder {
    lines: Vec<u32>,
    /// The file of all line numbers, if they exceed the memory limit.
    file: Option<UnlinkedFile>,
    /// Lines that are shared with later views, and whether the header precedes them.
    live: Option<(Arc<LineOrder>, bool)>,
    count: u64,
}

/// Builds an [`RowOrder`].
pub(crate) struct OrderBuilder<'a> {
    order: RowOrder,
    folder: &'a Folder,
    /// The most numbers in memory.
    most: usize,
}

impl<'a> OrderBuilder<'a> {
    /// A builder that holds up to `bytes` in memory (at least 4 KiB), and otherwise all numbers in an unlinked file in
    /// `folder`.
    pub(crate) fn new(folder: &'a Folder, bytes: usize) -> Self {
        let order = RowOrder { lines: Vec::new(), file: None, live: None, count: 0 };
        Self { order, folder, most: (bytes / size_of::<u32>()).max(1024) }
    }

    pub(crate) fn push(&mut self, line: u32) -> io::Result<()> {
        self.order.lines.push(line);
        self.order.count += 1;
        if self.order.lines.len() >= self.most { self.spill() } else { Ok(()) }
    }

    pub(crate) fn finish(mut self) -> io::Result<RowOrder> {
        if self.order.file.is_some() {
            self.spill()?;
        }
        self.order.lines.shrink_to_fit();
        Ok(self.order)
    }

    fn spill(&mut self) -> io::Result<()> {
        let file = match &mut self.order.file {
            Some(file) => file,
            none => none.insert(self.folder.unlinked()?),
        };
        let bytes: Vec<u8> = self.order.lines.iter().flat_map(|line| line.to_le_bytes()).collect();
        file.write_all(&bytes)?;
        self.order.lines.clear();
        Ok(())
    }
}

impl RowOrder {
    /// These lines; `with_header`: after the first line of the file.
    pub(crate) fn live(order: Arc<LineOrder>, with_header: bool) -> Self {
        let count = order.len() + u64::from(with_header);
        Self { lines: Vec::new(), file: None, live: Some((order, with_header)), count }
    }

    /// Whether the lines may be in another order than in the file although nothing was sorted.
    pub(crate) const fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// The number of lines.
    pub(crate) const fn len(&self) -> u64 {
        self.count
    }

    /// Its bytes in memory and on disk.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let disk = if self.file.is_some() { self.count * 4 } else { 0 };
        (size_of_val(&self.lines[..]) as u64, disk)
    }

    /// The lines at these positions, which must exist.
    pub(crate) fn get(&self, positions: Range<u64>) -> io::Result<Vec<u32>> {
        if let Some((order, with_header)) = &self.live {
            let shift = u64::from(*with_header);
            let mut lines =
                order.get(positions.start.saturating_sub(shift)..positions.end.saturating_sub(shift));
            if *with_header && positions.start == 0 && positions.end > 0 {
                lines.insert(0, 0);
            }
            return Ok(lines);
        }
        let Some(file) = &self.file else {
            return Ok(self.lines[positions.start as usize..positions.end as usize].to_vec());
        };
        let mut bytes = vec![0; (positions.end - positions.start) as usize * 4];
        file.file().read_exact_at(&mut bytes, positions.start * 4)?;
        Ok(bytes.as_chunks().0.iter().map(|line| u32::from_le_bytes(*line)).collect())
    }
}
