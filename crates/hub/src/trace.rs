//! Events of sessions for live traces ([`tidings_trace`]). Each function does nothing while no trace is running.

use std::sync::Arc;

use tidings_trace::{TraceEvent, TraceKind, Traces};
use tidings_wire::Channel;
use tidings_wire::code::Code;

use crate::close::CloseReason;
use crate::effects::{Failure, Response};
use crate::hub::Hub;
use crate::index::{Slot, TopicKey};
use crate::protocols::{Event, Peer as _, Protocols};

impl<P: Protocols> Hub<P> {
    /// Records events for these traces.
    #[must_use]
    pub fn with_traces(mut self, traces: Arc<Traces>) -> Self {
        self.traces = traces;
        self
    }

    /// Records an event of a session.
    #[cold]
    fn trace(&self, slot: Slot, event: TraceEvent<'_>) {
        let Some(session) = self.sessions.get(slot.index()) else { return };
        let client = self.client_id(self.session_id(slot));
        let user = Some(self.user(slot)).filter(|user| !user.is_empty());
        let protocol = Some(session.peer.name());
        self.traces.record(&TraceEvent { user, client: Some(&client), protocol, ..event });
    }

    fn trace_failure(&self, slot: Slot, channel: Option<&str>, failure: &Failure) {
        let (code, reason) = match failure {
            Failure::Unavailable => (Some(tidings_wire::code::INTERNAL.number), "broker unavailable"),
            Failure::Overloaded => (Some(tidings_wire::code::INTERNAL.number), "too many requests wait"),
            Failure::Error(rejection) => (Some(rejection.code), &*rejection.text),
            Failure::Disconnect(code, reason) => (Some(*code), &**reason),
        };
        self.trace(
            slot,
            TraceEvent { channel, code, reason: Some(reason), ..TraceEvent::new(TraceKind::Error) },
        );
    }

    /// Records an event that is reported to the protocol of a session.
    pub(crate) fn trace_event(&self, slot: Slot, event: &Event<'_, P::Messages>) {
        if !self.traces.is_active() {
            return;
        }
        match event {
            Event::Failed { failure, .. } => self.trace_failure(slot, None, failure),
            Event::Response { channel, response: Response::Failed(failure), .. } => {
                self.trace_failure(slot, channel.map(Channel::as_str), failure);
            }
            Event::Unsubscribed { topic, code, reason } => {
                let (channel, code, reason) = (Some(topic.as_str()), Some(*code), Some(*reason));
                self.trace(
                    slot,
                    TraceEvent { channel, code, reason, ..TraceEvent::new(TraceKind::Unsubscribed) },
                );
            }
            Event::Interrupted { code, reason } => {
                let (code, reason) = (Some(code.number), Some(*reason));
                self.trace(slot, TraceEvent { code, reason, ..TraceEvent::new(TraceKind::Error) });
            }
            _ => {}
        }
    }

    /// Records that a client has a user now.
    pub(crate) fn trace_connect(&self, slot: Slot) {
        if self.traces.is_active() {
            self.trace(slot, TraceEvent::new(TraceKind::Connected));
        }
    }

    /// Records the begin or the end of a subscription.
    pub(crate) fn trace_subscription(&self, slot: Slot, key: TopicKey, kind: TraceKind) {
        if self.traces.is_active()
            && let Some(entry) = self.topics.get(key)
        {
            self.trace(slot, TraceEvent { channel: Some(entry.topic().as_str()), ..TraceEvent::new(kind) });
        }
    }

    /// Records a publication that a client sends.
    pub(crate) fn trace_publish(&self, slot: Slot, channel: &Channel, bytes: usize) {
        if self.traces.is_active() {
            let (channel, bytes) = (Some(channel.as_str()), Some(bytes));
            self.trace(slot, TraceEvent { channel, bytes, ..TraceEvent::new(TraceKind::Publish) });
        }
    }

    /// Records an operation in a channel for which a session lacks the permission.
    pub(crate) fn trace_denial(&self, slot: Slot, channel: &Channel, error: &Code) {
        if self.traces.is_active() {
            let (channel, code, reason) = (Some(channel.as_str()), Some(error.number), Some(error.text));
            self.trace(slot, TraceEvent { channel, code, reason, ..TraceEvent::new(TraceKind::Error) });
        }
    }

    /// Records the end of a session; without a reason the client has closed the connection, or it broke.
    pub(crate) fn trace_end(&self, slot: Slot, reason: Option<&CloseReason>) {
        if self.traces.is_active() {
            let end = reason.and_then(CloseReason::code_and_reason);
            let (code, text) = end.map_or_else(
                || (None, "closed by the client".to_owned()),
                |(code, text)| (Some(code.number), text),
            );
            let event = TraceEvent { code, reason: Some(&text), ..TraceEvent::new(TraceKind::Disconnected) };
            self.trace(slot, event);
        }
    }
}
