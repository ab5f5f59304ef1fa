//! The server API over real sockets, with hand-written requests and with client libraries.

mod access;
mod batch;
mod blocks;
mod bounds;
mod channels;
mod forgery;
mod libraries;
mod limits;
mod methods;
mod nodes;
mod publishing;
mod sealed;
#[path = "../support/mod.rs"]
mod support;
mod world;
