//! The codec as a user of the crate sees it.

mod anything;
mod conformance;
mod fanout;
mod fuzz_corpus;
mod index;
mod known_bytes;
mod oracle;
mod round_trip;
mod samples;
mod violations;
