//! What the server API promises, asked over real sockets, by hand and by ready-made libraries.

mod access;
mod batch;
mod bounds;
mod channels;
mod examples;
mod libraries;
mod methods;
mod nodes;
mod publishing;
mod world;
