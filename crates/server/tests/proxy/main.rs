//! Authorization on a running server: by tokens, and by the hooks of the application.

mod application;
mod caps;
mod failing;
mod grpc;
mod headers;
mod hooks;
mod log;
mod named;
mod names;
mod options;
mod polls;
mod pusher;
mod reload;
mod renewals;
mod server_with_hooks;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod token_rules;
mod tokens;
mod traces;
mod user_header;
mod webhooks;
