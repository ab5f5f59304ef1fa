//! What the HTTP port promises, asked over real sockets.

mod host;
mod info;
mod metrics;
mod page;
mod probes;
mod upgrade;
mod world;
