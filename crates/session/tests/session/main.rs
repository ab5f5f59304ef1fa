//! What hub and sessions promise, without sockets.

mod client;
mod limits;
mod members;
mod plain;
mod properties;
mod raw_members;
mod reads;
mod recovery;
mod resp;
mod rights;
mod stomp;
mod transactions;
mod transports;
mod world;
