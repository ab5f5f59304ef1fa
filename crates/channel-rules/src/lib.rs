//! Which channels belong to a namespace, besides those with its prefix: topic filters of MQTT (`home/+/temp`) and patterns as in
//! HTTP routers (`/users/:id`).
//!
//! [`ChannelFilter`] and [`ChannelPattern`] are single rules; [`RuleTree`] finds the rule of a name among all rules of a
//! configuration.
//!
//! Invariants:
//! - A name has at most one rule: of several that match, the most specific one. Rules that match the same names are an error when
//!   the tree is built ([`RuleConflict`]).
//! - A lookup visits each node of the tree at most once, and allocates nothing. A tree has at most [`MAX_RULES`] rules with
//!   [`MAX_LEVELS`] levels each.
//! - This crate depends on no namespaces and no options: a rule has a number of its owner.

mod filter;
mod level;
mod overlap;
mod pattern;
mod tree;

pub use filter::{ChannelFilter, FilterError};
pub use pattern::{ChannelPattern, PatternError};
pub use tree::{Owner, Rule, RuleConflict, RuleTree, RuleTreeError};

/// Longest text of a rule in bytes, which is the longest name of a channel.
pub const MAX_LEN: usize = 255;
/// Most levels of a rule.
pub const MAX_LEVELS: usize = 32;
/// Most rules of a configuration.
pub const MAX_RULES: usize = 4_096;
/// Longest name of a variable in bytes.
pub const MAX_VARIABLE: usize = 64;
