//! What the hub promises, without sockets.

mod client;
mod plain;
mod properties;
mod resp;
mod world;
