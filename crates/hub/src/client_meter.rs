//! Usage limits of a client that has no session on a shard, such as a viewer of a table.

use std::sync::Arc;

use crate::settings::Settings;
use crate::usage::{Cost, Meter, UsageKind};

/// The meters of one client: those of sessions from its address and of its user.
#[derive(Debug)]
pub struct ClientMeter {
    settings: Arc<Settings>,
    address: Option<Arc<Meter>>,
    user: Option<Arc<Meter>>,
}

/// An exceeded limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExceededUsage {
    is_user: bool,
    kind: UsageKind,
}

impl ClientMeter {
    /// The meters of an address, as for [`Hub::meter_address`](crate::Hub::meter_address). `now` is the time in nanoseconds
    /// of the clock that all hubs share.
    pub fn new(settings: Arc<Settings>, address: Option<u128>, now: u64) -> Self {
        let usage = &settings.usage.addresses;
        let address = address.filter(|_| usage.meters_commands()).map(|address| usage.meter(address, now));
        Self { settings, address, user: None }
    }

    /// Sets the user; an empty name is an anonymous client.
    pub fn set_user(&mut self, user: &str, now: u64) {
        let users = &self.settings.usage.users;
        self.user = (!user.is_empty() && users.meters_commands()).then(|| users.meter(user.into(), now));
    }

    /// Charges a command of this many bytes. A refused command costs nothing.
    ///
    /// # Errors
    /// The exceeded limit, which is not counted as a refusal.
    pub fn charge(&self, bytes: usize, now: u64) -> Result<(), ExceededUsage> {
        let (usage, cost) = (&self.settings.usage, Cost { bytes, publishes: false });
        if let Some(meter) = &self.address {
            let charged = usage.addresses.charge(meter, cost, now);
            charged.map_err(|kind| ExceededUsage { is_user: false, kind })?;
        }
        if let Some(meter) = &self.user {
            usage.users.charge(meter, cost, now).map_err(|kind| {
                if let Some(meter) = &self.address {
                    usage.addresses.refund(meter, cost);
                }
                ExceededUsage { is_user: true, kind }
            })?;
        }
        Ok(())
    }

    /// Counts a refusal; returns a text that names the limit.
    pub fn count_refusal(&self, exceeded: ExceededUsage) -> String {
        let ExceededUsage { is_user, kind } = exceeded;
        let usage = &self.settings.usage;
        if is_user { usage.users.count_refusal(kind).1 } else { usage.addresses.count_refusal(kind).1 }
    }
}
