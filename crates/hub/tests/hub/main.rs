//! What the hub promises, without sockets.

mod client;
mod members;
mod plain;
mod properties;
mod recovery;
mod resp;
mod transports;
mod world;
