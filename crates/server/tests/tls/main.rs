//! TLS on the server's listeners, with the client of rustls and with other programs.

mod handshakes;
mod line;
mod renewal;
#[path = "../support/mod.rs"]
mod support;
mod tls_server;
mod web;
