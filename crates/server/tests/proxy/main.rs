//! Authorization on a running server: by tokens, and by the hooks of the application.

mod application;
mod failing;
mod headers;
mod hooks;
mod log;
mod options;
mod reload;
mod server_with_hooks;
#[path = "../support/mod.rs"]
mod support;
mod tokens;
mod traces;
mod webhooks;
