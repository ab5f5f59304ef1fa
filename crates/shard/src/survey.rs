//! Surveys: pages of a shard's connections, for operators.
//!
//! Invariant: one message examines at most [`MAX_EXAMINED`] slots, so that a shard with many connections continues to serve
//! them; the requester asks for the next page with [`ConnectionPage::next`].

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use tidings_hub::Slot;
use tidings_tags_filter::Filter;
use tidings_tcp_info::{TcpInfo, tcp_info};
use tidings_wire::Topic;

use crate::counters::{CounterKey as _, TransportKind};
use crate::shard::{Shard, unix_time};

/// Most slots that one message examines.
pub const MAX_EXAMINED: usize = 1_000;

/// The connections that a survey returns. Every condition must be met.
#[derive(Clone, Debug, Default)]
pub struct ConnectionFilter {
    /// The user.
    pub user: Option<String>,
    /// The public client id.
    pub client: Option<String>,
    /// Text in the user, the client id, the address, the transport or the protocol; ASCII letters of any case.
    pub text: Option<String>,
    /// A channel or pattern that the client is subscribed to.
    pub topic: Option<Topic>,
    /// A filter that the labels of the connection pass.
    pub labels: Option<Arc<Filter>>,
    /// Only connections with bytes in their queue.
    pub queued: bool,
}

/// A request for one page of a shard's connections.
pub struct ConnectionSurvey {
    /// The connections to return.
    pub filter: ConnectionFilter,
    /// The first slot to examine.
    pub from: u32,
    /// Most connections of the page. With [`ConnectionFilter::queued`] those with the longest queues among the examined ones.
    pub limit: usize,
    /// Most names of channels for each connection.
    pub names: usize,
    /// Called once with the page, on the shard's thread; must not block.
    pub done: Box<dyn FnOnce(ConnectionPage) + Send>,
}

impl fmt::Debug for ConnectionSurvey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionSurvey")
            .field("filter", &self.filter)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

/// A page of connections.
#[derive(Debug, Default)]
pub struct ConnectionPage {
    /// The connections that meet the filter, in the order of their slots or, with `queued`, of their queues.
    pub connections: Vec<ConnectionSummary>,
    /// The first slot of the next page; `None` after the last slot.
    pub next: Option<u32>,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionSummary {
    /// The public client id.
    pub client: String,
    /// The slot of the session.
    pub slot: u32,
    /// The user; empty for an anonymous client.
    pub user: String,
    /// The client's address; `None` if it is unknown.
    pub address: Option<IpAddr>,
    /// The label of the transport.
    pub transport: &'static str,
    /// The label of the session's protocol.
    pub protocol: &'static str,
    /// Whether the client is a backend with the API key.
    pub is_backend: bool,
    /// When the connection began, in Unix seconds.
    pub since: u64,
    /// Bytes in its queue.
    pub queued: usize,
    /// The kernel's numbers about the connection; `None` for a Unix socket.
    pub tcp: Option<TcpInfo>,
    /// The number of subscriptions.
    pub subscriptions: usize,
    /// The labels, by name.
    pub labels: Vec<(String, String)>,
    /// Names of channels and patterns, as many as requested.
    pub names: Vec<String>,
}

impl Shard {
    /// Responds to a survey with the connections in the next slots.
    pub(crate) fn survey(&mut self, survey: ConnectionSurvey) {
        let ConnectionSurvey { filter, from, limit, names, done } = survey;
        let mut page = ConnectionPage::default();
        let end = self.conns.len();
        let last = end.min((from as usize).saturating_add(MAX_EXAMINED));
        let mut slot = from as usize;
        while slot < last && (filter.queued || page.connections.len() < limit) {
            if let Some(summary) = self.summary(Slot::from_index(slot), &filter, names) {
                page.connections.push(summary);
            }
            slot += 1;
        }
        if filter.queued {
            page.connections.sort_by_key(|connection| std::cmp::Reverse(connection.queued));
            page.connections.truncate(limit);
        }
        page.next = (slot < end).then(|| u32::try_from(slot).unwrap_or(u32::MAX));
        done(page);
    }

    /// The connection in a slot, if it meets the filter.
    fn summary(&self, slot: Slot, filter: &ConnectionFilter, names: usize) -> Option<ConnectionSummary> {
        let conn = self.conns.get(slot.index())?.as_ref()?;
        let queued = conn.queue.as_ref().map_or(0, |queue| queue.cost());
        let session = self.hub.summary(slot)?;
        // The cheap conditions first: a client id is a MAC.
        if filter.queued && queued == 0 || filter.user.as_ref().is_some_and(|user| user != session.user) {
            return None;
        }
        if filter.labels.as_ref().is_some_and(|labels| !labels.matches(session.labels)) {
            return None;
        }
        if let Some(topic) = &filter.topic
            && !self.hub.topic(topic).is_some_and(|key| self.hub.session(slot).is_subscribed(key))
        {
            return None;
        }
        let client = self.hub.client_id(session.id);
        if filter.client.as_ref().is_some_and(|wanted| *wanted != client) {
            return None;
        }
        let address = self.client_address(slot);
        let transport = TransportKind::from(&conn.socket).label();
        if let Some(text) = &filter.text {
            let contains = |field: &str| contains_ignoring_case(field, text);
            let is_found = [session.user, &client, transport, session.protocol].into_iter().any(contains)
                || address.is_some_and(|address| contains(&address.to_string()));
            if !is_found {
                return None;
            }
        }
        let age =
            (self.now() / 1_000).saturating_sub(self.since.get(slot.index()).copied().unwrap_or(0).into());
        Some(ConnectionSummary {
            client,
            slot: slot.number(),
            user: session.user.to_owned(),
            address,
            transport,
            protocol: session.protocol,
            is_backend: session.identity.is_backend(),
            since: unix_time().as_secs().saturating_sub(age),
            queued,
            tcp: conn.socket.tcp_stream().and_then(tcp_info),
            subscriptions: session.subscriptions,
            labels: session.labels.to_vec(),
            names: self.hub.topic_names(slot, names),
        })
    }
}

/// Whether a field contains the text, with ASCII letters of any case.
fn contains_ignoring_case(field: &str, text: &str) -> bool {
    let (field, text) = (field.as_bytes(), text.as_bytes());
    text.is_empty() || field.windows(text.len()).any(|window| window.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_found_in_any_case() {
        assert!(contains_ignoring_case("User-42", "r-4") && contains_ignoring_case("User-42", "uSER"));
        assert!(contains_ignoring_case("", "") && contains_ignoring_case("x", ""));
        assert!(!contains_ignoring_case("", "x") && !contains_ignoring_case("User-42", "43"));
    }
}
