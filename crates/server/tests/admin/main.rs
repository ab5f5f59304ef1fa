//! The admin page over HTTP: access, logins, and the state of all nodes.

mod access;
mod nodes;
#[path = "../api/sealed.rs"]
mod sealed;
mod state;
#[path = "../support/mod.rs"]
mod support;
mod world;
