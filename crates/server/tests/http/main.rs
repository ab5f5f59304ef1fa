//! What the HTTP port promises, asked over real sockets.

mod deflate;
mod events;
mod host;
mod info;
mod metrics;
mod page;
mod probes;
mod streams;
mod upgrade;
mod websocket;
mod world;
