//! The names of Centrifugo's options: those of version 5 (flat) with their paths in version 6 ([`flat`]), and those that
//! have another name or no counterpart in tidings ([`known`]).
//!
//! Invariants:
//! - The crate contains names and defaults alone; `config` decides about values.
//! - Options with the same name in tidings are not in these tables; a test of `config` compares them.

pub mod flat;
pub mod known;
