//! What the server API promises, asked over real sockets, by hand and by ready-made libraries.

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
