//! Tests of loading a configuration: sources, values, rules and error messages.

mod channel_rules;
mod errors;
mod namespaces;
mod pusher;
mod reload;
mod rules;
mod secrets;
mod sources;
mod support;
mod values;
