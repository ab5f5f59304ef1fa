//! What TLS on the server's own listeners promises, spoken to by rustls' client and by programs of others.

mod handshakes;
mod line;
mod renewal;
#[path = "../support/mod.rs"]
mod support;
mod web;
mod world;
