//! Usage limits applied to sessions. Every command passes through [`Hub::metered_or`].
//!
//! Invariants:
//! - A command is charged once, even if it is held back and executed later.
//! - A refusal is the temporary error 111 in the session's protocol, in the order of its commands, and names the limit.
//! - A backend (a session with an API key) is not limited.

use std::sync::Arc;

use tidings_wire::code;

use crate::close::CloseReason;
use crate::effects::Effects;
use crate::hub::{Hub, Progress};
use crate::index::Slot;
use crate::protocols::Protocols;
use crate::session::Flag;
use crate::usage::{ConnectionPermit, Cost, Meter, UsageKind};

/// The meters of a session.
#[derive(Debug, Default)]
pub(crate) struct SessionUsage {
    address: Option<Arc<Meter>>,
    user: Option<ConnectionPermit>,
}

impl<P: Protocols> Hub<P> {
    /// Sets the time of the limits, in nanoseconds of a clock that all hubs of the process share.
    pub fn set_clock(&mut self, nanos: u64) {
        self.clock = nanos;
    }

    /// Whether usage is limited by address.
    pub fn meters_addresses(&self) -> bool {
        self.settings.usage.addresses.meters_commands()
    }

    /// Sets the address of the session in `slot`: an IPv4 address or a network of IPv6, as a number.
    pub fn meter_address(&mut self, slot: Slot, address: u128) {
        let meter = self.settings.usage.addresses.meter(address, self.clock);
        self.usage_mut(slot).address = Some(meter);
    }

    /// Counts a connection of a user. Returns `false`, and ends the session, if a limit is exceeded.
    pub(crate) fn meter_user(&mut self, slot: Slot, user: &str, fx: &mut Effects<P::Messages>) -> bool {
        if user.is_empty() {
            self.release_user_meter(slot);
            return true;
        }
        match self.settings.usage.users.connect(user.into(), self.clock) {
            Ok(None) => {}
            Ok(Some(permit)) => self.usage_mut(slot).user = Some(permit),
            Err((kind, text)) => {
                let code = match kind {
                    UsageKind::Connections => code::CONNECTION_LIMIT,
                    _ => code::OVERLOADED,
                };
                let text = format!("{}: {text}", code.text);
                self.end(slot, &CloseReason::Code(code.number, text), fx);
                return false;
            }
        }
        true
    }

    /// Counts the users of existing sessions, without a limit on their connections: the options had no limit of users before.
    pub(crate) fn meter_existing_users(&mut self) {
        let users: Vec<(Box<str>, Vec<Slot>)> =
            self.users.iter().map(|(user, slots)| (user.clone(), slots.clone())).collect();
        for (user, slots) in users {
            for slot in slots {
                let is_metered = self.usage.get(slot.index()).is_some_and(|usage| usage.user.is_some());
                if !is_metered && let Some(permit) = self.settings.usage.users.admit(user.clone(), self.clock)
                {
                    self.usage_mut(slot).user = Some(permit);
                }
            }
        }
    }

    /// The session no longer counts for a user.
    pub(crate) fn release_user_meter(&mut self, slot: Slot) {
        if let Some(usage) = self.usage.get_mut(slot.index()) {
            usage.user = None;
        }
    }

    /// Removes the meters of a session that has ended.
    pub(crate) fn clear_usage(&mut self, slot: Slot) {
        if let Some(usage) = self.usage.get_mut(slot.index()) {
            *usage = SessionUsage::default();
        }
    }

    fn usage_mut(&mut self, slot: Slot) -> &mut SessionUsage {
        let slot = slot.index();
        if self.usage.len() <= slot {
            self.usage.resize_with(slot + 1, SessionUsage::default);
        }
        &mut self.usage[slot]
    }

    /// Executes a command with `act` if the limits of its address and its user allow it; otherwise `refuse` answers it,
    /// with a text that names the limit.
    pub fn metered_or(
        &mut self,
        slot: Slot,
        cost: Cost,
        fx: &mut Effects<P::Messages>,
        act: impl FnOnce(&mut Self, &mut Effects<P::Messages>) -> Progress,
        refuse: impl FnOnce(&mut Self, &str, &mut Effects<P::Messages>),
    ) -> Progress {
        // The common case: no limits.
        if self.usage.is_empty() {
            return act(self, fx);
        }
        match self.charge(slot, cost) {
            Ok(()) => {
                let done = act(self, fx);
                if done == Progress::Hold {
                    self.sessions[slot.index()].flags.set(Flag::Charged, true);
                }
                done
            }
            Err(_) if self.sessions[slot.index()].has_queued() => Progress::Hold,
            Err((is_user, kind)) => {
                let usage = &self.settings.usage;
                let (_, text) = if is_user {
                    usage.users.count_refusal(kind)
                } else {
                    usage.addresses.count_refusal(kind)
                };
                let text = format!("{}: {text}", code::TOO_MANY_REQUESTS.text);
                refuse(self, &text, fx);
                if self.is_closing(slot) { Progress::End } else { Progress::Next }
            }
        }
    }

    /// Charges input that is no command and has no error response: WebSocket pings, telnet sequences, empty lines.
    /// Returns `false` if a limit is exceeded; then the input is not answered, and counts as a refusal.
    pub fn charge_input(&mut self, slot: Slot, bytes: usize) -> bool {
        if self.usage.is_empty() {
            return true;
        }
        // This input comes between commands, and the next command may be charged already.
        let charged = self.sessions[slot.index()].flags.set(Flag::Charged, false);
        let outcome = self.charge(slot, Cost { bytes, publishes: false });
        self.sessions[slot.index()].flags.set(Flag::Charged, charged);
        match outcome {
            Ok(()) => true,
            Err((is_user, kind)) => {
                let usage = &self.settings.usage;
                if is_user {
                    usage.users.count_refusal(kind)
                } else {
                    usage.addresses.count_refusal(kind)
                };
                self.errors += 1;
                false
            }
        }
    }

    /// Charges a command to the session's address and user, unless it was charged before it was held back.
    fn charge(&mut self, slot: Slot, cost: Cost) -> Result<(), (bool, UsageKind)> {
        let Some(SessionUsage { address, user }) = self.usage.get(slot.index()) else { return Ok(()) };
        let session = &mut self.sessions[slot.index()];
        if session.flags.set(Flag::Charged, false) || session.identity.is_backend() {
            return Ok(());
        }
        let usage = &self.settings.usage;
        if let Some(meter) = address {
            usage.addresses.charge(meter, cost, self.clock).map_err(|kind| (false, kind))?;
        }
        if let Some(permit) = user {
            usage.users.charge(permit.meter(), cost, self.clock).map_err(|kind| {
                if let Some(meter) = address {
                    usage.addresses.refund(meter, cost);
                }
                (true, kind)
            })?;
        }
        Ok(())
    }
}
