//! The server API over real sockets, with hand-written requests and with client libraries.

mod access;
mod api_server;
mod audit;
mod batch;
mod blocks;
mod bounds;
mod caps;
mod channels;
mod connections;
mod foreign_node;
mod forgery;
mod grpc;
mod grpc_streams;
mod keys;
mod libraries;
mod limits;
mod methods;
mod nodes;
mod publishing;
mod reload;
mod reload_clients;
mod reload_options;
mod rules;
#[path = "../support/mod.rs"]
mod support;
