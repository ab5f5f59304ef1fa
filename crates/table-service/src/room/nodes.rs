//! The same table on other nodes.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use std::time::Instant;

use super::effect::Effect;
use super::state::Room;
use super::timers::Timer;
use super::writing::Work;
use crate::message;
use crate::news::{Loading, News, Say, Word};
use crate::record::{Record, Stamp};

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
pub(super) struct RemoteViewers {
    /// How many, and when that was said, by node.
    viewers: HashMap<u64, (u64, Instant)>,
    /// A file that comes in on one of them, how far it is, and when that was said.
    loading: Option<(u64, Loading, Instant)>,
}

impl RemoteViewers {
    /// The file that comes in on another node.
    pub(super) fn loading(&self) -> Option<Loading> {
        self.loading.map(|(_, loading, _)| loading)
    }
}

impl Room {
    /// How many look at the table, wherever they are.
    pub(super) fn everybody(&self) -> u64 {
        let elsewhere: u64 = self.remote.viewers.values().map(|(viewers, _)| viewers).sum();
        self.viewers.len() + elsewhere
    }

    /// Something was changed here: gives it a stamp, and has it kept and told.
    pub(super) fn change(&mut self) {
        self.record.version += 1;
        self.record.stamp = Stamp { version: self.record.version, node: self.settings.node };
        self.view.follows = false;
        self.keep();
        self.tell_nodes(Say::Changed);
    }

    /// Tells the other nodes, if there are any.
    pub(super) fn tell_nodes(&mut self, say: Say) {
        if !self.settings.has_other_nodes {
            return;
        }
        let loading = self.upload.as_ref().map(|upload| Loading {
            received: upload.far.received.load(Ordering::Relaxed),
            size: upload.size,
            rows: upload.far.rows.load(Ordering::Relaxed),
        });
        let received = self.data.as_ref().filter(|data| self.record.file.as_ref() == Some(&data.file));
        let received = received.map_or(0, |data| data.table.reading().summary().received);
        let word = Word { say, viewers: self.viewers.len(), received, loading };
        self.effects.push(Effect::Notify(word, Box::new(self.record.clone())));
        self.timers.set(Timer::Announce, self.now + AGAIN);
    }

    /// Tells the other nodes again that the table is open here, and forgets nodes that have been silent for long.
    pub(super) fn announce(&mut self) {
        let (now, before) = (self.now, self.everybody());
        self.remote.viewers.retain(|_, (_, when)| now.duration_since(*when) < SILENT);
        self.tell_nodes(Say::Here);
        if self.everybody() != before {
            self.timers.set(Timer::ViewerCount, now);
        }
        // A node that has ended has taken its upload along.
        if self.remote.loading.is_some_and(|(.., when)| now.duration_since(when) >= SILENT) {
            self.remote.loading = None;
            self.render_soon(Duration::ZERO);
        }
    }

    /// Another node has said something.
    pub(super) fn hear(&mut self, news: News) {
        let now = self.now;
        let before = self.everybody();
        let viewers = &mut self.remote.viewers;
        if viewers.len() < NODES || viewers.contains_key(&news.node) {
            viewers.insert(news.node, (news.viewers, now));
        }
        if self.everybody() != before {
            self.timers.set_if_unset(Timer::ViewerCount, now + COUNT);
        }
        match news.say {
            Say::Gone => return self.gone(),
            Say::Hello => self.tell_nodes(Say::Here),
            Say::Here | Say::Changed | Say::Loading | Say::Stopped => {}
        }
        self.hear_loading(news.node, news.loading);
        let Some(record) = news.record else { return };
        self.record.version = self.record.version.max(record.version);
        let is_newer = record.stamp > self.record.stamp;
        let is_other_file = self.record.file != record.file;
        if is_newer {
            let (locks, wish) = (self.record.locks, self.record.wish.clone());
            let record = Record { version: self.record.version, ..record };
            let old = std::mem::replace(&mut self.record, record);
            self.view.follows = true;
            if self.record.locks != locks {
                let frame = message::locks(self.record.locks);
                self.view.board.send_modify(|board| board.tell_locks(frame));
                self.enforce_locks();
            }
            if is_other_file || self.record.wish != wish {
                self.open_again();
            } else {
                self.render_for(None);
            }
            self.saving.obsolete.extend(old.file.filter(|_| is_other_file));
            self.keep();
        }
        // Rows that were appended there.
        let received = self.reading().map_or(0, |reading| reading.summary().received);
        if !is_other_file && news.received > received && self.data.as_ref().is_some_and(|data| !data.loading)
        {
            if !self.work.waiting.iter().any(|work| matches!(work, Work::Grow | Work::Open)) {
                self.work.waiting.push_back(Work::Grow);
            }
            self.work_on();
        }
    }

    /// Another node has said how far a file is that comes in there, or that none does.
    fn hear_loading(&mut self, node: u64, loading: Option<Loading>) {
        let before = self.remote.loading;
        match loading {
            Some(now) => {
                self.remote.loading = Some((node, now, self.now));
                if before.is_none_or(|(_, before, _)| before != now) {
                    let frame = message::progress(now.received, now.size, now.rows);
                    self.view.board.send_modify(|board| board.tell_progress(frame));
                }
            }
            None if before.is_some_and(|(of, ..)| of == node) => self.remote.loading = None,
            None => return,
        }
        // A first file shows as one that is loading; whoever watched another sees that it has ended.
        if before.is_some() != self.remote.loading.is_some() {
            self.render_soon(Duration::ZERO);
        }
    }

    /// Has the file that the record names read from the start.
    pub(super) fn open_again(&mut self) {
        if !self.work.waiting.iter().any(|work| matches!(work, Work::Open)) {
            self.work.waiting.push_back(Work::Open);
        }
        self.work_on();
    }
}
