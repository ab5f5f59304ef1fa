//! Every bound of a table, in one place.

/// The bounds that a table is held to, each in bytes unless it says otherwise.
///
/// They are upper bounds of what one operation takes; nothing of it is kept between operations except what
/// [`Self::order_bytes`] names and the index (16 bytes for each 16 KiB of text).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The file as it is received, before decompression. Default 1 GiB.
    pub original_bytes: u64,
    /// The text that it holds, decompressed and decoded to UTF-8: the guard against a small file that unpacks
    /// to a huge one. Default 4 GiB.
    pub text_bytes: u64,
    /// How many times as large as the bytes received a packed file may be, unpacked; [`Self::UNPACK_FREE`] bytes are
    /// allowed beyond that. Default 100.
    pub unpack_ratio: u64,
    /// How much of one cell is shown, in bytes of UTF-8; the rest is cut and its true length given.
    /// Default 4 KiB.
    pub cell_bytes: usize,
    /// How many cells of one row are shown; of the others only their number. Default 1,000 (cells).
    pub row_cells: usize,
    /// The text of one page. Each of its rows gets an equal share. Default 8 MiB.
    pub page_bytes: usize,
    /// The cells of one page, which take memory even if they are empty. Each of its rows gets an equal share.
    /// Default 250,000 (cells): all of a thousand rows of 250.
    pub page_cells: usize,
    /// The rows of one page. Default 10,000 (rows).
    pub page_rows: usize,
    /// Most bytes of one row that sorts, filters, searches and facts examine. Longer rows are reported
    /// ([`View::clipped`](crate::View::clipped)). Default 16 MiB, which is also the most that a thread holds.
    pub scan_row_bytes: usize,
    /// The keys that a sort holds in memory; past it they go to disk, sorted, and are merged.
    /// At most 2 GiB. Default 192 MiB, which is 12 million rows by a number.
    pub sort_bytes: usize,
    /// The row numbers of one sorted or filtered view that are held in memory; past it they are held on
    /// disk. Default 16 MiB, which is 4 million rows.
    pub order_bytes: usize,
}

impl Limits {
    /// The most rows of one table: their numbers are 32 bits wide in sorted and filtered views.
    pub const ROWS: u64 = u32::MAX as u64;

    /// How many unpacked bytes are not held against [`Self::unpack_ratio`], so that small files of repeated rows are read.
    pub const UNPACK_FREE: u64 = 16 << 20;
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
