//! What the HTTP port promises, asked over real sockets.

mod deflate;
mod events;
mod half_close;
mod host;
mod info;
mod internal;
mod metrics;
mod page;
mod places;
mod probes;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod upgrade;
mod websocket;
