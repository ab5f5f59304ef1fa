//! The log line of each connection that has ended, at level `debug`.
//!
//! What the line needs beyond the session is recorded per connection, and only for connections that begin while `debug` is
//! logged: otherwise a connection costs nothing here. Lines of older connections have no duration and no bytes.

use std::collections::HashMap;
use std::net::IpAddr;

use tidings_hub::Slot;

use crate::counters::{CounterKey as _, TransportKind};
use crate::shard::Shard;

/// What is recorded of a connection.
#[derive(Debug)]
struct ConnectionRecord {
    /// The begin, in milliseconds of the shard's clock.
    began: u64,
    /// The client's address. The socket of a peer that has disconnected does not return it any more.
    address: Option<IpAddr>,
    /// Received bytes, without TLS.
    received: u64,
    /// Sent bytes, without TLS.
    sent: u64,
}

/// The records of a shard's connections.
#[derive(Debug, Default)]
pub(crate) struct EndLog(HashMap<Slot, ConnectionRecord>);

impl EndLog {
    /// Whether lines are written for connections that begin now.
    fn is_on() -> bool {
        tracing::enabled!(tracing::Level::DEBUG)
    }

    /// Whether nothing is recorded, so that bytes need not be counted.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn received(&mut self, slot: Slot, bytes: u64) {
        if let Some(record) = self.0.get_mut(&slot) {
            record.received += bytes;
        }
    }

    pub(crate) fn sent(&mut self, slot: Slot, bytes: u64) {
        if let Some(record) = self.0.get_mut(&slot) {
            record.sent += bytes;
        }
    }

    /// Corrects [`Self::sent`] by bytes that the socket did not accept.
    pub(crate) fn not_sent(&mut self, slot: Slot, bytes: u64) {
        if let Some(record) = self.0.get_mut(&slot) {
            record.sent = record.sent.saturating_sub(bytes);
        }
    }

    /// Ends the record of a connection without a line.
    pub(crate) fn forget(&mut self, slot: Slot) {
        if !self.0.is_empty() {
            self.0.remove(&slot);
        }
    }
}

impl Shard {
    /// Begins the record of a connection that was just added.
    pub(crate) fn begin_record(&mut self, slot: Slot) {
        if EndLog::is_on() {
            let (began, address) = (self.now(), self.client_address(slot));
            self.ends.0.insert(slot, ConnectionRecord { began, address, received: 0, sent: 0 });
        }
    }

    /// Logs the end of a connection, before it is removed.
    pub(crate) fn log_end(&mut self, slot: Slot) {
        if !EndLog::is_on() {
            return;
        }
        let Some(Some(conn)) = self.conns.get(slot.index()) else { return };
        let transport = TransportKind::from(&conn.socket).label();
        let record = self.ends.0.remove(&slot);
        let address = record.as_ref().map_or_else(|| self.client_address(slot), |record| record.address);
        let address = address.map(|address| address.to_string());
        let Some(end) = self.hub.session_end(slot) else { return };
        let seconds = record.as_ref().map(|record| self.now().saturating_sub(record.began) as f64 / 1e3);
        let (received, sent) = (record.as_ref().map(|r| r.received), record.as_ref().map(|r| r.sent));
        let (code, reason) =
            end.close.map_or((None, "closed by the client".to_owned()), |(c, r)| (Some(c), r));
        let (client, dialect, address) = (end.client, end.dialect, address.as_deref());
        let user = Some(&*end.user).filter(|user| !user.is_empty());
        tracing::debug!(
            client,
            user,
            address,
            transport,
            dialect,
            seconds,
            received,
            sent,
            code,
            reason,
            "a connection has ended"
        );
    }
}
