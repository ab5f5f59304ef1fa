//! New settings for a running shard. They arrive through its mailbox, so that no setting is read under a lock.

use std::sync::Arc;

use tidings_hub::Slot;

use crate::address::network;
use crate::mailbox::ShardSettings;
use crate::shard::Shard;

impl Shard {
    /// Uses new settings for everything that happens from now on.
    pub(crate) fn reconfigure(&mut self, settings: &ShardSettings) {
        let ShardSettings { sessions, protocols, limits } = settings;
        self.limits.queue = limits.queue;
        self.limits.connections = limits.connections;
        self.limits.close_delay = limits.close_delay;
        self.reads.set_queue(limits.queue);
        tidings_session::end_removed_apps(&mut self.hub, protocols, &mut self.fx);
        self.hub.protocols.set_settings(Arc::clone(protocols));
        let was_metered = self.hub.meters_addresses();
        self.hub.set_settings(Arc::clone(sessions), &mut self.fx);
        if !was_metered && self.hub.meters_addresses() {
            self.meter_existing_addresses();
        }
    }

    /// Meters the commands of connections that began when the commands of addresses had no limit.
    fn meter_existing_addresses(&mut self) {
        let peers = self.conns.iter().enumerate().filter_map(|(slot, conn)| {
            let slot = Slot::from_index(slot);
            let address = self.clients.get(&slot).copied().or_else(|| conn.as_ref()?.socket.peer())?;
            Some((slot, network(address)))
        });
        let peers: Vec<_> = peers.collect();
        for (slot, network) in peers {
            self.hub.meter_address(slot, network);
        }
    }
}
