//! The interface through which the server reaches other nodes and the subscribers of a table's channel.

use tidings_wire::Channel;

/// The longest message between nodes, in bytes. Implementations of [`NodeBus`] discard longer ones before they decrypt
/// them.
pub const MAX_MESSAGE: usize = 1 << 20;

/// Callback for messages of other nodes. Runs on the broker's read thread and must not block.
pub type MessageCallback = Box<dyn Fn(&[u8]) + Send + Sync>;

/// Messages between the nodes that share a store, and publications of views.
///
/// Invariant: a message that reaches the callback was sent by a node of the same deployment. Encryption and
/// authentication belong to the implementation.
pub trait NodeBus: Send + Sync {
    /// Whether other nodes may use the same store.
    fn has_other_nodes(&self) -> bool;

    /// Sends a message to all other nodes. A message that is lost is not repeated.
    fn send(&self, message: &[u8]);

    /// Registers the callback for messages of other nodes. Called once, before the first [`Self::send`].
    fn listen(&self, callback: MessageCallback);

    /// Publishes a view of a table in the table's channel, as UTF-8 JSON.
    fn publish(&self, channel: &Channel, view: String);
}
