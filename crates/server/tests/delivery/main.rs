//! Delivery of publications by a running server, with the memory broker and with a real Redis.

mod by_hand;
mod clients;
mod deltas;
mod limits;
mod line_port;
mod matrix;
mod node;
mod redis;
mod refusals;
mod same_as_redis;
mod slow;
mod stopping;
#[path = "../support/mod.rs"]
mod support;
