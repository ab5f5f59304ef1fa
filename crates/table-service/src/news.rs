//! What nodes that share a store tell each other of tables, through the broker.
//!
//! A table's record is its whole state, and each change of it has a stamp: whoever hears of a larger one takes that
//! record for its own, so all nodes end with the same, whatever was changed where at once. A node that has the table
//! open says so again and again, with how many look at it there; what is lost on the way is made up for by the next
//! word.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Service;
use super::id::TableId;
use super::record::Record;
use super::room::Ask;

/// What a node says of a table.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct News {
    /// Who says it.
    pub(super) node: u64,
    pub(super) table: String,
    pub(super) say: Say,
    /// How many look at it there.
    pub(super) viewers: u64,
    /// The bytes of its file that the node knows of.
    pub(super) received: u64,
    /// How far a file is that comes in there.
    #[serde(default)]
    pub(super) loading: Option<Loading>,
    pub(super) record: Option<Record>,
}

/// How far a file is that comes in on another node.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Loading {
    pub(super) received: u64,
    /// Its size, if that was said.
    pub(super) size: Option<u64>,
    pub(super) rows: u64,
}

/// Why it is said.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Say {
    /// Whoever has the table open is to say so.
    Hello,
    /// Somebody has it open.
    Here,
    /// It has been changed.
    Changed,
    /// A file for it is coming in.
    Loading,
    /// None is coming in any more; if one has become the table's, its record tells.
    Stopped,
    /// It has been deleted.
    Gone,
}

/// Hears what other nodes say; with one node there are none.
pub(super) fn listen(service: &Arc<Service>) {
    if !service.bus.has_other_nodes() {
        return;
    }
    let listening = Arc::downgrade(service);
    let callback = move |message: &[u8]| {
        let Some(service) = listening.upgrade() else { return };
        let news = serde_json::from_slice::<News>(message).ok();
        let Some(news) = news.filter(|news| news.node != service.own) else { return };
        let Ok(id) = news.table.parse::<TableId>() else { return };
        let room = service.rooms.get(id);
        // A room that has too much to do hears the next word; a table that is not open here has nobody to tell.
        if let Some(room) = room {
            let _ = room.try_send(Ask::News(Box::new(news)));
        }
    };
    service.bus.listen(Box::new(callback));
}

impl Service {
    /// Tells the other nodes.
    pub(super) fn tell(&self, id: TableId, word: Word, record: &Record) {
        let Word { say, viewers, received, loading } = word;
        let (node, table, record) = (self.own, id.to_string(), Some(record.clone()));
        let news = News { node, table, say, viewers, received, loading, record };
        let Ok(body) = serde_json::to_vec(&news) else { return };
        self.bus.send(&body);
    }
}

/// What a node has to say of a table, besides its record; see [`News`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Word {
    pub(super) say: Say,
    pub(super) viewers: u64,
    pub(super) received: u64,
    pub(super) loading: Option<Loading>,
}
