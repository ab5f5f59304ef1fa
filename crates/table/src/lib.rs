//! Delimited files as shared views.

mod column;
mod compression;
mod control;
mod cursor;
mod dialect;
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

pub use column::{ColumnType, Kinds};
pub use compression::Compression;
pub use control::{Cancel, Control};
pub use dialect::{Choice, Dialect, LineEnd};
pub use encoding::{Encoding, Evidence};
pub use error::Error;
pub use facts::{Bin, ColumnFacts, Distinct, Facts};
pub use limits::Limits;
pub use page::{Cell, Page, Row};
pub use reading::{Reading, Summary};
pub use syntax::{Event, Reader, Syntax};
pub use value::{Kind, Style};
pub use view::{Filter, Format, Op, Query, SortBy, View};
pub use writer::{ORIGINAL, Table, Writer};
