//! Requirements on tokens that authenticate a client.

mod claims;
mod fixtures;
mod key_set;
mod options;
mod properties;
mod provider;
mod refusals;
mod secure;
mod signatures;
