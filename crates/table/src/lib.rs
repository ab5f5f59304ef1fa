//! Delimited files as shared views: CSV, TSV and their relatives, larger than memory, shown by pages while they
//! arrive.
//!
//! The crate uses files and threads, but no network, clock or async runtime. A service passes a folder for each table,
//! the bytes of an upload as they arrive, and queries; the crate returns pages.
//!
//! # How to drive it
//! One thread has the [`Writer`]; every other thread has a clone of its [`Table`].
//! - **Upload**: [`Writer::append`] with chunks cut anywhere, then [`Writer::finish`]. After each call the rows
//!   that are whole can be read, so the first page shows after the first chunk. Each call gives a [`Summary`]:
//!   bytes and rows so far, and what should be noted (`ragged`, `lossy`, `open_quote`, and
//!   [`Dialect::evidence`] when an encoding was guessed).
//! - **Pages**: [`Table::reading`] gives the [`Reading`] of now; [`View::plain`] all its rows at no cost, growing
//!   with it; [`View::page`] any window of them.
//! - **Sort, filter, search**: [`Reading::view`] computes a [`View`] of a [`Query`] on the threads of the current
//!   rayon pool (`pool.install(…)` chooses one), with a [`Control`] that reports progress and a [`Cancel`] that a
//!   newer request uses. [`View::refresh`] takes in rows that came since; [`View::write`] downloads it.
//! - **Another dialect**: [`Writer::reread`] reads the same file again, also in the middle of an upload; readers
//!   keep the old reading until it is complete, and a [`View`] keeps its reading alive as long as it exists. Make the
//!   views of a query anew on the new reading.
//! - **Live rows**: [`Writer::append`] for a file that grows, [`Writer::append_rows`] for cells, and
//!   [`Writer::catch_up`] for what another process has written to the file.
//! - **Column facts**: [`Reading::facts`], in the background.
//! - **Restart**: [`Writer::open`] on the same folder, which reads it as it was read before. **Delete**: drop the
//!   writer, remove the folder. **A new upload in place of an old one**: a second folder and writer; swap the
//!   [`Table`] when it is whole.
//! - **What it costs**: [`Reading::disk_bytes`], [`View::bytes`]; [`Limits::text_bytes`] and [`Limits::unpack_ratio`] bound
//!   what a small packed file may unpack to, and a [`Budget`] what the nameless files of many tables take together.
//!
//! ```
//! use tidings_table::{Cancel, Choice, Control, Filter, Limits, Op, Query, SortBy, View, Writer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let mut writer = Writer::create(folder.path(), Choice::hinted_by("prices.csv"), Limits::default())?;
//! let table = writer.table().clone();
//!
//! // An upload, on its own thread, in whatever pieces it comes.
//! writer.append(b"article;price;zip\nApples;1,5")?;
//! let summary = writer.append(b"0;01234\nPears;12,00;00042\n")?;
//! assert_eq!((summary.rows, summary.finished), (2, false));
//!
//! // Meanwhile, on any thread: the first page, cells exactly as they are written.
//! let all = View::plain(&table.reading(), false);
//! assert_eq!(all.header()?.unwrap().cells[0].text, "article");
//! let page = all.page(0, 100)?;
//! assert_eq!((page.total, &page.rows[0].cells[1].text[..]), (2, "1,50"));
//!
//! writer.append(b"\"Plums; ripe\";9,75;00007\n")?;
//! writer.finish()?;
//! writer.append_rows([["Quinces", "8,00", "00008"]])?;
//!
//! // A view: sorted by number, although the numbers are German ones.
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
//! // The same file read in another way, and column facts.
//! writer.reread(Choice { header: Some(false), ..Choice::default() }, Control::default())?;
//! let facts = table.reading().facts(Control::default())?;
//! assert_eq!((facts.rows, facts.columns[0].distinct.count), (5, 5));
//! # Ok(())
//! # }
//! ```
//!
//! # Invariants
//! - No cell is ever changed. It is shown as written, without the quotes around it, cut where it is too long with its
//!   true length reported ([`Cell::cut`]), and whole in a download. Types serve sorting and facts alone.
//! - Nor does a cell change afterwards. When a file has ended and has two lines, its delimiter, quote, escape, encoding
//!   and header are final, and lie beside it ([`DIALECT`], some 200 bytes): whatever is appended, a restart and another
//!   node read the rows before just as they were. With one line or none there is nothing to hold on to, and the guess
//!   goes on with what follows; but cells that are appended then are read as they were written. Only
//!   [`Writer::reread`] with another [`Choice`] changes it, and judges by the file as it was then.
//! - A folder holds one file, [`ORIGINAL`], exactly as received, and [`DIALECT`]. Whatever else is on disk is nameless
//!   and goes with the process: there is nothing to clean up and nothing that could be stale.
//! - Everything is bounded by [`Limits`], and omissions at a bound are reported.
//! - Rows are never held in memory: the index takes 16 bytes for each 16 KiB of text, a sorted or filtered view
//!   what [`Limits::order_bytes`] says.
//! - A view, its facts and a guess depend on the file (and on where it ended first) and the query alone: not on how the
//!   file arrived, on the number of threads, or on which bound sent something to disk.
//!
//! # Why it is built so
//! - **Positioned reads, no memory mapping.** Reading 1 GB through a buffer costs 60 ms more than through a
//!   mapping (190 against 130 ms of scanning), and a block for a page 3 µs. For that there is no `unsafe`, no
//!   signal when a disk fails, and no address space taken: a small server with a limit on it opens any file.
//! - **UTF-8 is read where it lies; anything else is turned into UTF-8 beside it** while it arrives: UTF-16,
//!   legacy encodings, gzip, zstd. So all later stages support one encoding, and offsets are offsets of a file.
//! - **The index is made anew at every start** instead of being kept: that takes some two `wc -l`
//!   (a quarter of a second for 1 GB), rows show meanwhile, and no crash can leave a wrong one.
//! - **Sorting by keys that compare byte by byte**, 16 bytes a row in memory, runs on disk beyond the bound.
//!
//! # Where to change what
//! `syntax/` is the grammar and its three readers; `dialect/` the guess; `encoding.rs` and `compression.rs` come
//! before them. `writer.rs` → `intake.rs` → `index.rs` is the way in, `cursor.rs` → `page.rs` the way out,
//! `scan.rs` the way over all rows, on which `view/` (`select.rs`, `sort/`) and `facts/` stand. `value/` says
//! what is a number or a date, and how text is ordered and compared.

mod column;
mod compression;
mod control;
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
mod page;
mod reading;
mod scan;
mod syntax;
mod value;
mod view;
mod writer;

pub use column::{ColumnType, Kinds, TypeChoice, Types, UnknownType};
pub use compression::Compression;
pub use control::{Cancel, Control};
pub use dialect::{Choice, DIALECT, Dialect, LineEnd};
pub use disk::Budget;
pub use encoding::{Encoding, Evidence};
pub use error::Error;
pub use facts::{Bin, ColumnFacts, Distinct, Facts};
pub use limits::Limits;
pub use page::{Cell, Page, Row};
pub use reading::{Reading, Summary};
pub use syntax::{Event, Reader, Syntax};
pub use value::{DateOrder, Kind, Style};
pub use view::{Export, Filter, Format, Op, Query, SortBy, UnknownOp, View};
pub use writer::{ORIGINAL, Table, Writer};
