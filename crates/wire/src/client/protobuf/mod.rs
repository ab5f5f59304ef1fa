//! The client protocol in Protobuf: a stream of messages, each with its length before it.

mod read;
mod write;

pub(crate) use read::read;
pub(crate) use write::write_delimited;
