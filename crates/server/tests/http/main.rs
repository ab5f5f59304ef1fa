//! The HTTP port over real sockets.

mod connection_limits;
mod deflate;
mod events;
mod half_close;
mod handler_paths;
mod host;
mod http2;
mod info;
mod internal;
mod metrics;
mod page;
mod probes;
mod pusher;
mod pusher_reload;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod upgrade;
mod websocket;
