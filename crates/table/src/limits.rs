//! The limits of a table.

/// The limits of a table, in bytes unless stated otherwise.
///
/// They bound one operation. Between operations, only [`Self::order_bytes`] and the index (16 bytes for each 16 KiB of
/// text) stay in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The file as received, before decompression. Default 1 GiB.
    pub original_bytes: u64,
    /// The text of the file, decompressed and decoded to UTF-8: protects against small files that decompress to huge
    /// ones. Default 4 GiB.
    pub text_bytes: u64,
    /// The largest ratio of decompressed to received bytes. [`Self::UNPACK_FREE`] bytes are always allowed. Default
    /// 100.
    pub unpack_ratio: u64,
    /// The shown part of one cell, in bytes of UTF-8. Longer cells are truncated, and their length is reported. Default
    /// 4 KiB.
    pub cell_bytes: usize,
    /// The number of shown cells of one row. Of longer rows, the number of cells is reported. Default 1,000 (cells).
    pub row_cells: usize,
    /// The text of one page, divided equally among its rows. Default 8 MiB.
    pub page_bytes: usize,
    /// The cells of one page, which take memory even if they are empty, divided equally among its rows. Default 250,000
    /// (cells): all of a thousand rows with 250 cells.
    pub page_cells: usize,
    /// The rows of one page. Default 10,000 (rows).
    pub page_rows: usize,
    /// The most bytes of one row that sorts, filters, searches and facts examine. Longer rows are reported
    /// ([`View::clipped`](crate::View::clipped)). Default 16 MiB, which is also the most that a thread holds.
    pub scan_row_bytes: usize,
    /// The keys that a sort holds in memory. Further keys are written to disk as sorted runs and merged. At most 2 GiB.
    /// Default 192 MiB: 12 million rows by a number.
    pub sort_bytes: usize,
    /// The row numbers of one sorted or filtered view that are held in memory. Further ones are held on disk. Default
    /// 16 MiB: 4 million rows.
    pub order_bytes: usize,
}

impl Limits {
    /// The most rows of one table: sorted and filtered views store row numbers in 32 bits.
    pub const ROWS: u64 = u32::MAX as u64;

    /// The decompressed bytes to which [`Self::unpack_ratio`] does not apply, so that small files of repeated rows are
    /// accepted.
    pub const UNPACK_FREE: u64 = 16 << 20;

    /// The number of columns that a page of `rows` rows shows: [`Self::row_cells`], and a row's share of
    /// [`Self::page_cells`].
    pub fn shown_columns(&self, rows: usize) -> usize {
        self.row_cells.min((self.page_cells / rows.max(1)).max(1))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            original_bytes: 1 << 30,
            text_bytes: 4 << 30,
            unpack_ratio: 100,
            cell_bytes: 4 << 10,
            row_cells: 1_000,
            page_bytes: 8 << 20,
            page_cells: 250_000,
            page_rows: 10_000,
            scan_row_bytes: 16 << 20,
            sort_bytes: 192 << 20,
            order_bytes: 16 << 20,
        }
    }
}
