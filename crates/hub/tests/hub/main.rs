//! What the hub promises, without sockets.

mod client;
mod plain;
mod properties;
mod recovery;
mod resp;
mod world;
