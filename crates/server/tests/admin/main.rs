//! The admin page over HTTP: access, logins, and the state of all nodes.

mod access;
#[path = "../api/foreign_node.rs"]
mod foreign_node;
mod nodes;
mod requests;
mod state;
#[path = "../support/mod.rs"]
mod support;
