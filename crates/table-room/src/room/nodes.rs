//! The state of the same table on other nodes.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use std::time::Instant;

use tidings_table_store::{Record, Stamp};

use super::effect::Effect;
use super::state::Room;
use super::timers::Timer;
use super::work::Work;
use crate::message;
use crate::node_messages::{MessageKind, NodeMessage, NodeStatus, PeopleUpdate, RemoteUpload};
use crate::people::{Actor, ChangedBy};

/// The interval at which a node announces an open table.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(10);
/// The time after a node's last message at which its viewers are not counted any more.
const NODE_TIMEOUT: Duration = Duration::from_secs(30);
/// The delay of the new number of viewers after a message of another node.
const VIEWER_COUNT_DELAY: Duration = Duration::from_millis(250);
/// The most nodes that are counted.
const MAX_NODES: usize = 1_024;

/// The viewers of the table on other nodes, by the last message of each node.
#[derive(Debug, Default)]
pub(super) struct RemoteViewers {
    /// The number of viewers and the time of the message, by node.
    viewers: HashMap<u64, (u64, Instant)>,
    /// The node that receives a file, its progress, and the time of the message.
    loading: Option<(u64, RemoteUpload, Instant)>,
}

impl RemoteViewers {
    /// The progress of an upload on another node.
    pub(super) fn loading(&self) -> Option<RemoteUpload> {
        self.loading.map(|(_, loading, _)| loading)
    }
}

impl Room {
    /// The number of viewers on all nodes.
    pub(super) fn viewer_count(&self) -> u64 {
        let elsewhere: u64 = self.remote.viewers.values().map(|(viewers, _)| viewers).sum();
        self.viewers.len() + elsewhere
    }

    /// As [`Self::change`], by this author; `None`: a viewer that has left.
    pub(super) fn change_by(&mut self, author: Option<ChangedBy>) {
        self.view.changed_by = author.or_else(|| Some(ChangedBy::program(Actor::Viewer)));
        self.change();
    }

    /// Stamps a local change, saves it and sends it to the other nodes.
    pub(super) fn change(&mut self) {
        self.record.version += 1;
        self.record.stamp = Stamp { version: self.record.version, node: self.settings.node };
        self.view.follows = false;
        self.save_soon();
        self.notify_nodes(MessageKind::Changed);
    }

    /// Sends the table's state to the other nodes, if there are any.
    pub(super) fn notify_nodes(&mut self, kind: MessageKind) {
        if !self.settings.has_other_nodes {
            return;
        }
        // The complete list makes up for lost messages.
        let people = (kind == MessageKind::Here).then(|| self.people_update());
        let status = self.status(kind, people);
        self.effects.push(Effect::Notify(Box::new(status), Some(Box::new(self.record.clone()))));
        self.timers.set(Timer::Announce, self.now + ANNOUNCE_INTERVAL);
    }

    /// The status of the table on this node.
    pub(super) fn status(&self, kind: MessageKind, people: Option<PeopleUpdate>) -> NodeStatus {
        let loading = self.upload.as_ref().map(|upload| RemoteUpload {
            received: upload.progress.received.load(Ordering::Relaxed),
            size: upload.size,
            rows: upload.progress.rows.load(Ordering::Relaxed),
        });
        let received =
            self.open_file.as_ref().filter(|open_file| self.record.file.as_ref() == Some(&open_file.file));
        let received = received.map_or(0, |open_file| open_file.table.reading().summary().received);
        // Nodes of version 0.1.0 do not know `api`, and discard messages with it.
        let changed_by = self.view.changed_by.clone().map(|author| match author.by {
            Actor::Api => ChangedBy::program(Actor::Append),
            _ => author,
        });
        let viewers = self.viewers.len();
        NodeStatus { kind, viewers, received, loading, changed_by, people }
    }

    /// Announces the table to the other nodes again, and removes nodes without a message for [`NODE_TIMEOUT`].
    pub(super) fn announce(&mut self) {
        let (now, before) = (self.now, self.viewer_count());
        self.remote.viewers.retain(|_, (_, when)| now.duration_since(*when) < NODE_TIMEOUT);
        let alive: Vec<u64> = self.remote.viewers.keys().copied().collect();
        self.retain_people(|node| alive.contains(&node));
        self.notify_nodes(MessageKind::Here);
        if self.viewer_count() != before {
            self.timers.set(Timer::ViewerCount, now);
        }
        // The upload of a terminated node has ended too.
        if self.remote.loading.is_some_and(|(.., when)| now.duration_since(when) >= NODE_TIMEOUT) {
            self.remote.loading = None;
            self.render_soon(Duration::ZERO);
        }
    }

    /// Handles a message of another node.
    pub(super) fn on_node_message(&mut self, message: NodeMessage) {
        let now = self.now;
        let before = self.viewer_count();
        let viewers = &mut self.remote.viewers;
        if viewers.len() < MAX_NODES || viewers.contains_key(&message.node) {
            viewers.insert(message.node, (message.viewers, now));
        }
        if self.viewer_count() != before {
            self.timers.set_if_unset(Timer::ViewerCount, now + VIEWER_COUNT_DELAY);
        }
        if let Some(people) = message.people {
            self.on_remote_people(message.node, people);
        }
        match message.kind {
            MessageKind::People => return,
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
            let (locks, dialect) = (self.record.locks, self.record.dialect.clone());
            let record = Record { version: self.record.version, ..record };
            let old = std::mem::replace(&mut self.record, record);
            self.view.follows = true;
            let author = message.changed_by.unwrap_or_else(|| ChangedBy::program(Actor::Node));
            self.view.changed_by = Some(author);
            if self.record.locks != locks {
                let frame = message::locks(self.record.locks);
                self.view.broadcast.send_modify(|broadcast| broadcast.set_locks(frame));
                self.enforce_locks();
            }
            if is_other_file || self.record.dialect != dialect {
                self.history.clear();
                self.reset_private();
                self.forget_log();
                self.open_again();
            } else {
                self.history.record(&old.view, &self.record.view, now);
                if self.record.key != old.key {
                    self.catch_up();
                }
                self.render_for(None);
            }
            self.release_files(&old);
            self.await_previous();
            self.save_soon();
        }
        // The other node has appended rows, or compacted the log, which also makes it smaller.
        let received = self.reading().map_or(0, |reading| reading.summary().received);
        let has_changed = message.received > received
            || (message.received > 0 && message.received < received && !self.record.key.is_empty());
        if !is_other_file
            && has_changed
            && self.open_file.as_ref().is_some_and(|open_file| !open_file.loading)
        {
            self.catch_up();
        }
    }

    /// Reads what other nodes appended, and the keys of all rows if the record has another key.
    fn catch_up(&mut self) {
        if !self.work.waiting.iter().any(|work| matches!(work, Work::CatchUp | Work::Open)) {
            self.work.waiting.push_back(Work::CatchUp);
        }
        self.work_on();
    }

    /// Handles the progress of an upload on another node; `None`: no upload is running there.
    fn on_remote_upload(&mut self, node: u64, loading: Option<RemoteUpload>) {
        let before = self.remote.loading;
        match loading {
            Some(now) => {
                self.remote.loading = Some((node, now, self.now));
                if before.is_none_or(|(_, before, _)| before != now) {
                    let frame = message::progress(now.received, now.size, now.rows);
                    self.view.broadcast.send_modify(|broadcast| broadcast.set_progress(frame));
                }
            }
            None if before.is_some_and(|(of, ..)| of == node) => self.remote.loading = None,
            None => return,
        }
        // A view shows whether a file is being uploaded, so it is sent at the start and at the end.
        if before.is_some() != self.remote.loading.is_some() {
            self.render_soon(Duration::ZERO);
        }
    }

    /// Reads the file that the record names from the start.
    pub(super) fn open_again(&mut self) {
        if !self.work.waiting.iter().any(|work| matches!(work, Work::Open)) {
            self.work.waiting.push_back(Work::Open);
        }
        self.work_on();
    }
}
