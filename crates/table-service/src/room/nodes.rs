//! The same table on other nodes.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use std::time::Instant;

use super::effect::Effect;
use super::state::Room;
use super::timers::Timer;
use super::work::Work;
use crate::message;
use crate::node_messages::{Loading, MessageKind, NodeMessage, NodeStatus};
use crate::record::{Record, Stamp};

/// How often a node says that it has a table open.
const AGAIN: Duration = Duration::from_secs(10);
/// How long after its last word a node's viewers count no more.
const SILENT: Duration = Duration::from_secs(30);
/// How long after a message of another node the viewers receive their new number.
const COUNT: Duration = Duration::from_millis(250);
/// How many nodes are counted.
const NODES: usize = 1_024;

/// The viewers of the table on other nodes, by the last message of each node.
#[derive(Debug, Default)]
pub(super) struct RemoteViewers {
    /// Their number and the time of the message, by node.
    viewers: HashMap<u64, (u64, Instant)>,
    /// The node that receives a file, the progress, and the time of the message.
    loading: Option<(u64, Loading, Instant)>,
}

impl RemoteViewers {
    /// The progress of a file that another node receives.
    pub(super) fn loading(&self) -> Option<Loading> {
        self.loading.map(|(_, loading, _)| loading)
    }
}

impl Room {
    /// The number of viewers on all nodes.
    pub(super) fn viewer_count(&self) -> u64 {
        let elsewhere: u64 = self.remote.viewers.values().map(|(viewers, _)| viewers).sum();
        self.viewers.len() + elsewhere
    }

    /// Stamps a change that was made here, saves it and sends it to the other nodes.
    pub(super) fn change(&mut self) {
        self.record.version += 1;
        self.record.stamp = Stamp { version: self.record.version, node: self.settings.node };
        self.view.follows = false;
        self.keep();
        self.notify_nodes(MessageKind::Changed);
    }

    /// Sends the table's state to the other nodes, if there are any.
    pub(super) fn notify_nodes(&mut self, say: MessageKind) {
        if !self.settings.has_other_nodes {
            return;
        }
        let loading = self.upload.as_ref().map(|upload| Loading {
            received: upload.progress.received.load(Ordering::Relaxed),
            size: upload.size,
            rows: upload.progress.rows.load(Ordering::Relaxed),
        });
        let received = self.data.as_ref().filter(|data| self.record.file.as_ref() == Some(&data.file));
        let received = received.map_or(0, |data| data.table.reading().summary().received);
        let word = NodeStatus { say, viewers: self.viewers.len(), received, loading };
        self.effects.push(Effect::Notify(word, Box::new(self.record.clone())));
        self.timers.set(Timer::Announce, self.now + AGAIN);
    }

    /// Announces the table to the other nodes again, and removes nodes that have been silent for [`SILENT`].
    pub(super) fn announce(&mut self) {
        let (now, before) = (self.now, self.viewer_count());
        self.remote.viewers.retain(|_, (_, when)| now.duration_since(*when) < SILENT);
        self.notify_nodes(MessageKind::Here);
        if self.viewer_count() != before {
            self.timers.set(Timer::ViewerCount, now);
        }
        // A node that has ended has taken its upload along.
        if self.remote.loading.is_some_and(|(.., when)| now.duration_since(when) >= SILENT) {
            self.remote.loading = None;
            self.render_soon(Duration::ZERO);
        }
    }

    /// Handles a message of another node.
    pub(super) fn on_node_message(&mut self, message: NodeMessage) {
        let now = self.now;
        let before = self.viewer_count();
        let viewers = &mut self.remote.viewers;
        if viewers.len() < NODES || viewers.contains_key(&message.node) {
            viewers.insert(message.node, (message.viewers, now));
        }
        if self.viewer_count() != before {
            self.timers.set_if_unset(Timer::ViewerCount, now + COUNT);
        }
        match message.say {
            MessageKind::Gone => return self.on_deleted(),
            MessageKind::Hello => self.notify_nodes(MessageKind::Here),
            MessageKind::Here | MessageKind::Changed | MessageKind::Loading | MessageKind::Stopped => {}
        }
        self.on_remote_upload(message.node, message.loading);
        let Some(record) = message.record else { return };
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
                self.view.board.send_modify(|board| board.set_locks(frame));
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
        // The other node has appended rows.
        let received = self.reading().map_or(0, |reading| reading.summary().received);
        if !is_other_file
            && message.received > received
            && self.data.as_ref().is_some_and(|data| !data.loading)
        {
            if !self.work.waiting.iter().any(|work| matches!(work, Work::Grow | Work::Open)) {
                self.work.waiting.push_back(Work::Grow);
            }
            self.work_on();
        }
    }

    /// Handles the progress of an upload on another node; `None`: no upload runs there.
    fn on_remote_upload(&mut self, node: u64, loading: Option<Loading>) {
        let before = self.remote.loading;
        match loading {
            Some(now) => {
                self.remote.loading = Some((node, now, self.now));
                if before.is_none_or(|(_, before, _)| before != now) {
                    let frame = message::progress(now.received, now.size, now.rows);
                    self.view.board.send_modify(|board| board.set_progress(frame));
                }
            }
            None if before.is_some_and(|(of, ..)| of == node) => self.remote.loading = None,
            None => return,
        }
        // The view says whether a file is loading, so both the start and the end are shown.
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
