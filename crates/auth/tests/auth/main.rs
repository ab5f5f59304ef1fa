//! What a token must be, and must not be, to make a client somebody.

mod claims;
mod key_set;
mod options;
mod properties;
mod provider;
mod refusals;
mod secure;
mod signatures;
mod world;
