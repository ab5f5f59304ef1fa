//! Who may do what on a running server: by tokens, and by what the application answers to the hooks.

mod application;
mod failing;
mod headers;
mod hooks;
mod log;
mod options;
mod tokens;
mod world;
