//! The sessions of MQTT in Redis: the source of the functions that the broker loads with its library, and their names.
//!
//! The functions match publications with the subscriptions of all sessions, and keep the messages of each session. An answer is
//! a list of texts.
//!
//! | file | has |
//! |---|---|
//! | `store.lua` | the keys; sessions, their messages |
//! | `groups.lua` | filters and their subscribers, groups of shared subscriptions, messages that pass to other members |
//! | `append.lua` | publications |
//! | `sessions.lua` | what connections and nodes call |
//!
//! Each function states its arguments and its answer.

mod messages;

pub use messages::{QueuedEntry, entries};

/// The source of the functions, which follows that of the broker's library and uses its helpers.
pub const SOURCE: &str = concat!(
    include_str!("store.lua"),
    include_str!("groups.lua"),
    include_str!("append.lua"),
    include_str!("sessions.lua"),
);

/// Most bytes of the copies of one step of [`Function::Append`], and most subscribers, as in `append.lua`.
const STEP: (usize, usize) = (4_194_304, 500);

/// Whether a message of so many bytes gets steps with fewer subscribers than others.
pub fn has_small_steps(message_bytes: usize) -> bool {
    STEP.0 / message_bytes.max(1) < STEP.1
}

/// A function for the sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// A client connects.
    Open,
    /// A connection changes its session.
    Steps,
    /// A connection reads the messages of its session.
    Read,
    /// A connection has ended.
    Close,
    /// Adds a publication to the sessions that get it, a bounded number in one step.
    Append,
    /// Renews the lease of a node, ends sessions that have expired, passes messages of groups on, lists sessions of the node.
    Sweep,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_a_step_are_those_of_the_function() {
        let (bytes, subscribers) = STEP;
        assert!(SOURCE.contains(&format!("local STEP_BYTES = {bytes}\n")));
        assert!(SOURCE.contains(&format!("local STEP_SUBSCRIBERS = {subscribers}\n")));
        assert!(!has_small_steps(bytes / subscribers) && has_small_steps(bytes / subscribers + 1));
    }
}
