//! Messages about tables between nodes that share a store.
//!
//! Invariants:
//! - The record of a table is its whole state, and each change has a stamp. A node adopts a record with a larger stamp,
//!   so concurrent changes converge to the same record on all nodes.
//! - A node repeats the status of its open tables, with the number of viewers, so a later message makes up for a lost
//!   one.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use tidings_table_store::Record;

use crate::people::{ChangedBy, Person};

/// A message of one node about one table.
#[derive(Debug, Deserialize, Serialize)]
pub struct NodeMessage {
    /// The sender.
    pub node: u64,
    /// The id of the table.
    pub table: String,
    #[serde(rename = "say")]
    /// The reason.
    pub kind: MessageKind,
    /// The number of viewers on that node.
    pub viewers: u64,
    /// The bytes of the table's file that the node has read.
    pub received: u64,
    /// The progress of an upload on that node.
    #[serde(default)]
    pub loading: Option<RemoteUpload>,
    /// The record, if it may have changed.
    pub record: Option<Record>,
    /// The author of the last change of the view.
    #[serde(default)]
    pub changed_by: Option<ChangedBy>,
    /// The people on that node.
    #[serde(default)]
    pub people: Option<PeopleUpdate>,
}

/// The people of a node, or their changes.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct PeopleUpdate {
    /// Whether these are all people of the node.
    #[serde(rename = "all")]
    pub is_all: bool,
    #[serde(serialize_with = "inner", deserialize_with = "shared")]
    /// People that joined or changed.
    pub changed: Vec<Arc<Person>>,
    /// The ids of people that left.
    pub left: Vec<String>,
}

fn inner<S: Serializer>(people: &[Arc<Person>], into: S) -> Result<S::Ok, S::Error> {
    into.collect_seq(people.iter().map(|person| &**person))
}

fn shared<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Arc<Person>>, D::Error> {
    Ok(Vec::<Person>::deserialize(from)?.into_iter().map(Arc::new).collect())
}

/// The progress of an upload on another node.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct RemoteUpload {
    /// The received bytes.
    pub received: u64,
    /// The announced size.
    pub size: Option<u64>,
    /// The received rows.
    pub rows: u64,
}

/// The reason of the message.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    /// Requests the status from nodes that have the table open.
    Hello,
    /// The sender has the table open.
    Here,
    /// The sender has changed the table.
    Changed,
    /// The sender receives a file for the table.
    Loading,
    /// The upload has ended. The record shows whether its file became the table's.
    Stopped,
    /// The table was deleted.
    Gone,
    /// The people on the node have changed. Without a record.
    People,
}

/// The status of a table on this node, without its record; see [`NodeMessage`].
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// The reason.
    pub kind: MessageKind,
    /// The number of viewers on this node.
    pub viewers: u64,
    /// The bytes of the table's file that this node has read.
    pub received: u64,
    /// The progress of an upload on this node.
    pub loading: Option<RemoteUpload>,
    /// The author of the last change of the view.
    pub changed_by: Option<ChangedBy>,
    /// The people on this node.
    pub people: Option<PeopleUpdate>,
}
