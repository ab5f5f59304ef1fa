//! The client protocol: what both encodings promise, held against the SDKs' own bytes and against prost.

mod anything;
mod known_bytes;
mod oracle;
mod prost_schema;
mod samples;
