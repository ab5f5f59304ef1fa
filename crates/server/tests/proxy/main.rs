//! Who may do what on a running server: by tokens, and by what the application answers to the hooks.

mod application;
mod failing;
mod headers;
mod hooks;
mod log;
mod options;
#[path = "../support/mod.rs"]
mod support;
mod tokens;
mod world;
