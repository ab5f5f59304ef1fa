//! The same table on other nodes.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{Room, Work};
use crate::tables::message;
use crate::tables::news::{News, Say};
use crate::tables::record::{Record, Stamp};

/// How often a node says that it has a table open.
const AGAIN: Duration = Duration::from_secs(10);
/// How long after its last word a node's viewers count no more.
const SILENT: Duration = Duration::from_secs(30);
/// How long after another node's word everybody is told how many look.
const COUNT: Duration = Duration::from_millis(250);
/// How many nodes are counted.
const NODES: usize = 1_024;

/// Who looks at the table on other nodes, as far as they have said.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// How many, and when that was said, by node.
    viewers: HashMap<u64, (u64, Instant)>,
    /// When to say again that it is open here; `None` where there are no other nodes.
    again: Option<Instant>,
}

impl Elsewhere {
    pub(super) fn next_moment(&self) -> Option<Instant> {
        self.again
    }
}

impl Room {
    /// How many look at the table, wherever they are.
    pub(super) fn everybody(&self) -> u64 {
        let elsewhere: u64 = self.elsewhere.viewers.values().map(|(viewers, _)| viewers).sum();
        self.viewers.len() as u64 + elsewhere
    }

    /// Something was changed here: gives it a stamp, and has it kept and told.
    pub(super) fn change(&mut self) {
        self.record.version += 1;
        self.record.stamp = Stamp { version: self.record.version, node: self.service.own };
        self.follows = false;
        self.keep();
        self.tell_nodes(Say::Changed);
    }

    /// Tells the other nodes, if there are any.
    pub(super) fn tell_nodes(&mut self, say: Say) {
        if !self.service.has_others() || self.record.file.is_none() && say != Say::Gone {
            return;
        }
        let received = self.reading().map_or(0, |reading| reading.summary().received);
        self.service.tell(self.id(), say, self.viewers.len() as u64, received, Some(&self.record));
        self.elsewhere.again = Some(Instant::now() + AGAIN);
    }

    /// Says again that the table is open here, and forgets who has long said nothing.
    pub(super) fn nodes_moment(&mut self, now: Instant) {
        if self.elsewhere.again.is_some_and(|again| now >= again) {
            let before = self.everybody();
            self.elsewhere.viewers.retain(|_, (_, when)| now.duration_since(*when) < SILENT);
            self.tell_nodes(Say::Here);
            if self.everybody() != before {
                self.count_at = Some(now);
            }
        }
    }

    /// Another node has said something.
    pub(super) fn hear(&mut self, news: News) {
        let now = Instant::now();
        let before = self.everybody();
        let viewers = &mut self.elsewhere.viewers;
        if viewers.len() < NODES || viewers.contains_key(&news.node) {
            viewers.insert(news.node, (news.viewers, now));
        }
        if self.everybody() != before {
            self.count_at.get_or_insert(now + COUNT);
        }
        match news.say {
            Say::Gone => return self.gone(),
            Say::Hello => self.tell_nodes(Say::Here),
            Say::Here | Say::Changed => {}
        }
        let Some(record) = news.record else { return };
        self.record.version = self.record.version.max(record.version);
        let is_newer = record.stamp > self.record.stamp;
        let is_other_file = self.record.file != record.file;
        if is_newer {
            let (locks, wish) = (self.record.locks, self.record.wish.clone());
            let record = Record { version: self.record.version, ..record };
            let old = std::mem::replace(&mut self.record, record);
            self.follows = true;
            if self.record.locks != locks {
                let frame = message::locks(self.record.locks);
                self.board.send_modify(|board| board.tell_locks(frame));
                self.enforce_locks();
            }
            if is_other_file || self.record.wish != wish {
                self.open_again();
            } else {
                self.render_for(None);
            }
            if let Some(file) = old.file.filter(|_| is_other_file) {
                self.remove_file(file, true);
            }
            self.keep();
        }
        // Rows that were appended there.
        let received = self.reading().map_or(0, |reading| reading.summary().received);
        if !is_other_file && news.received > received && self.data.as_ref().is_some_and(|data| !data.loading)
        {
            self.open_again();
        }
    }

    /// Has the file that the record names read from the start.
    fn open_again(&mut self) {
        if !self.works.iter().any(|work| matches!(work, Work::Open)) {
            self.works.push_back(Work::Open);
        }
        self.work_on();
    }
}
