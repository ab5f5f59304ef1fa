//! Tests of the client against scripted servers.

mod api;
mod protocol;
mod scripted;
