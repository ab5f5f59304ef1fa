//! Delimited files as shared views: CSV, TSV and similar formats, larger than memory, displayed by pages while they
//! arrive.
//!
//! The crate uses files and threads, but no network, clock or async runtime. A service passes a folder for each table,
//! the bytes of an upload as they arrive, and queries; the crate returns pages.
//!
//! # Usage
//! One thread has the [`Writer`]; every other thread has a clone of its [`Table`].
//! - **Upload**: [`Writer::append`] with chunks of any size, then [`Writer::finish`]. After each call the complete rows
//!   can be read, so the first page is available after the first chunk. Each call returns a [`Summary`]: bytes and rows
//!   so far, and findings (`ragged`, `lossy`, `open_quote`, and [`Dialect::evidence`] for a guessed encoding).
//! - **Pages**: [`Table::reading`] returns the current [`Reading`]; [`View::plain`] all its rows at no cost, growing
//!   with it; [`View::page`] any window of them.
//! - **Sort, filter, search**: [`Reading::view`] computes a [`View`] of a [`Query`] on the threads of the current rayon
//!   pool (`pool.install(…)` selects one), with a [`Control`] that reports progress and a [`Cancel`] for newer
//!   requests. [`View::refresh`] adds later rows; [`View::write`] downloads it.
//! - **Another dialect**: [`Writer::reread`] reads the same file again, also during an upload. Readers keep the old
//!   reading until it is complete, and a [`View`] keeps its reading alive. Compute the views of a query again on the
//!   new reading.
//! - **Live rows**: [`Writer::append`] for a growing file, [`Writer::append_rows`] for cells, and [`Writer::catch_up`]
//!   for rows that another process has appended to the file.
//! - **Rows with a key**: [`Reading::set_overlay`] states which lines are rows, so that later lines can replace and
//!   remove earlier ones (the crate `table-live`).
//! - **Column facts**: [`Reading::facts`], in the background.
//! - **Restart**: [`Writer::open`] on the same folder, which reads it as before. **Delete**: drop the writer, remove
//!   the folder. **Replace a file**: create a second folder and writer; swap the [`Table`] when it is complete.
//! - **Cost**: [`Reading::disk_bytes`], [`View::bytes`]. [`Limits::text_bytes`] and [`Limits::unpack_ratio`] bound the
//!   decompressed size of a file, and a [`Budget`] the unlinked files of many tables together.
//!
//! ```
//! use tidings_table::{Cancel, Choice, Control, Filter, Limits, Op, Query, SortBy, View, Writer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let mut writer = Writer::create(folder.path(), Choice::hinted_by("prices.csv"), Limits::default())?;
//! let table = writer.table().clone();
//!
//! // An upload, on its own thread, in chunks of any size.
//! writer.append(b"article;price;zip\nApples;1,5")?;
//! let summary = writer.append(b"0;01234\nPears;12,00;00042\n")?;
//! assert_eq!((summary.rows, summary.finished), (2, false));
//!
//! // Concurrently, on any thread: the first page, cells exactly as they are written.
//! let all = View::plain(&table.reading(), false);
//! assert_eq!(all.header()?.unwrap().cells[0].text, "article");
//! let page = all.page(0, 100)?;
//! assert_eq!((page.total, &page.rows[0].cells[1].text[..]), (2, "1,50"));
//!
//! writer.append(b"\"Plums; ripe\";9,75;00007\n")?;
//! writer.finish()?;
//! writer.append_rows([["Quinces", "8,00", "00008"]])?;
//!
//! // A view: sorted by number; the numbers have decimal commas.
//! let cancel = Cancel::default();
//! let progress = |part: f32| println!("{:.0} %", part * 100.0);
//! let query = Query {
//!     sort: vec![SortBy { column: 1, desc: true, natural: false }],
//!     filter: vec![Filter { column: 1, op: Op::Greater, value: "5".to_owned(), others: vec![] }],
//!     ..Query::default()
//! };
//! let control = Control::default().cancelled_by(&cancel).with_progress(&progress);
//! let view = table.reading().view(&query, control)?;
//! let names: Vec<String> = view.page(0, 100)?.rows.into_iter().map(|mut row| row.cells.swap_remove(0).text).collect();
//! assert_eq!(names, ["Pears", "Plums; ripe", "Quinces"]);
//!
//! // The same file in another dialect, and column facts.
//! writer.reread(Choice { header: Some(false), ..Choice::default() }, Control::default())?;
//! let facts = table.reading().facts(Control::default())?;
//! assert_eq!((facts.rows, facts.columns[0].distinct.count), (5, 5));
//! # Ok(())
//! # }
//! ```
//!
//! # Invariants
//! - Cells are never changed. A cell is shown as written, without its quotes, truncated if it is too long with its
//!   length reported ([`Cell::cut`]), and complete in a download. Types only affect sorting and facts.
//! - Cells do not change later either. When a file has ended with at least two lines, its delimiter, quote, escape,
//!   encoding and header are final and stored beside it ([`DIALECT`], about 200 bytes): appended rows, a restart and
//!   other nodes do not change how earlier rows are read. With at most one line the guess continues with the following
//!   rows; but appended cells are read as they were written. Only [`Writer::reread`] with another [`Choice`] changes
//!   the dialect, and guesses from the file as it was when it ended.
//! - A folder holds one file, [`ORIGINAL`], exactly as received, and [`DIALECT`]. All other files are unlinked and end
//!   with the process: there is nothing to clean up and nothing that could be stale.
//! - Everything is bounded by [`Limits`], and omissions at a limit are reported.
//! - Rows are never held in memory: the index takes 16 bytes for each 16 KiB of text, a sorted or filtered view takes
//!   [`Limits::order_bytes`].
//! - A view, its facts and a guess depend only on the file (and on where it ended first) and the query: not on how the
//!   file arrived, on the number of threads, or on which limit moved data to disk.
//!
//! # Rationale
//! - **Positioned reads, no memory mapping.** Reading 1 GB through a buffer costs 60 ms more than through a mapping
//!   (190 against 130 ms of scanning), and a block of a page 3 µs. In return there is no `unsafe`, no signal when a
//!   disk fails, and no address space in use: a small server with a memory limit opens any file.
//! - **UTF-8 is read in place; all other text is converted to UTF-8** while it arrives: UTF-16, legacy encodings, gzip,
//!   zstd, and rows of JSON, XLSX and Parquet files. So all later stages support one encoding and one format, and offsets
//!   are offsets in a file.
//! - **The index is built at every start** and not stored: building takes about as long as two `wc -l` (a quarter of a
//!   second for 1 GB), rows are available meanwhile, and no crash can leave a wrong index.
//! - **Sorting by keys that compare byte by byte**, 16 bytes per row in memory, with runs on disk above the limit.
//!
//! # Where to change things
//! `syntax/` is the grammar and its three readers; `dialect/` the guess; `encoding.rs`, `compression.rs` and
//! `conversion.rs` precede them. `writer.rs` → `intake.rs` → `index.rs` is the write path, `cursor.rs` → `page.rs` the
//! read path, `scan.rs` the pass over all rows that `view/` (`select.rs`, `sort/`) and `facts/` use. The crate
//! table-value defines numbers, dates, and the order and equality of text.

mod cells;
mod column;
mod compression;
mod control;
mod conversion;
mod cursor;
mod dialect;
mod disk;
mod encode;
mod encoding;
mod error;
mod facts;
mod index;
mod intake;
mod limits;
mod order;
mod overlay;
mod page;
mod reading;
mod rewrite;
mod scan;
mod syntax;
mod view;
mod writer;

use tidings_table_value as value;

pub use cells::{CellFormat, CellValue, Lines, RowCells};
pub use column::{ColumnType, Kinds, TypeChoice, TypeChoices, UnknownType};
pub use compression::Compression;
pub use control::{Cancel, Control};
pub use dialect::{Choice, DIALECT, Dialect, LineEnd};
pub use disk::Budget;
pub use encoding::{Encoding, Evidence};
pub use error::Error;
pub use facts::{Bin, ColumnFacts, Distinct, Facts};
pub use limits::Limits;
pub use overlay::{LineOrder, MovedLines, Overlay, Places, Superseded};
pub use page::{Cell, Page, Row};
pub use reading::{Reading, Summary};
pub use syntax::{Event, Reader, Syntax};
pub use tidings_table_formats::FileFormat;
pub use value::{DateOrder, DecimalMark, Kind, Number};
pub use view::{CellWriter, Export, Filter, Format, LineCells, Op, Query, RowKeys, SortBy, UnknownOp, View};
pub use writer::{ORIGINAL, Table, Writer};
