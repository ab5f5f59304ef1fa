//! Tests of loading a configuration: sources, values, rules and error messages.

mod errors;
mod namespaces;
mod rules;
mod sources;
mod support;
mod values;
