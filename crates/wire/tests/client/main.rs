//! Requirements on both encodings of the client protocol, against the bytes of the SDKs and against prost.

mod anything;
mod known_bytes;
mod oracle;
mod prost_schema;
mod samples;
