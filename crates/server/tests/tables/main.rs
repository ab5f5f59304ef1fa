//! Shared live tables, over real sockets against a whole server.

mod article;
mod bucket;
mod compaction;
mod feeds;
mod formats;
mod group;
mod http;
mod life;
mod limits;
mod live;
mod many;
mod near;
mod nodes;
mod operators;
mod owner;
mod people;
mod private;
mod reload;
mod restore;
mod rights;
mod shared;
#[path = "../support/mod.rs"]
mod support;
mod table_server;
mod typed;
mod uploads;
mod wide;
