//! Shared live tables, over real sockets against a whole server.

mod article;
mod http;
mod limits;
mod shared;
mod world;
