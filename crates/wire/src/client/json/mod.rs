//! The client protocol in JSON: one object per message, without a line break in it or behind it.

mod read;
mod write;

pub(crate) use read::{is_empty, read, read_string};
pub(crate) use write::write;
