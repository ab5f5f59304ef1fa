//! What a running server promises about deliveries, with a real Redis where there is one.

mod by_hand;
mod clients;
mod limits;
mod line_port;
mod redis;
mod refusals;
mod same_as_redis;
mod slow;
mod stopping;
#[path = "../support/mod.rs"]
mod support;
mod up;
