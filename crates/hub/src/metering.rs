//! Sessions and the limits of their address and user: every command passes through [`Hub::metered_or`].
//!
//! Invariants:
//! - A command is charged once, also when it has to wait for its turn and comes again.
//! - A refusal is the temporary error 111 in the session's protocol, in the order of its commands, and names the limit.
//! - A backend that has given the API key is not limited.

use std::sync::Arc;

use tidings_wire::code;

use crate::access::Identity;
use crate::close::CloseReason;
use crate::effects::Effects;
use crate::hub::{Hub, Progress};
use crate::index::Slot;
use crate::protocols::Protocols;
use crate::session::Flag;
use crate::usage::{ConnectionPermit, Cost, Meter, Metered};

/// The meters of a session.
#[derive(Debug, Default)]
pub(crate) struct SessionUsage {
    address: Option<Arc<Meter>>,
    user: Option<ConnectionPermit>,
}

impl<P: Protocols> Hub<P> {
    /// Sets the time for the limits, in nanoseconds by a clock that all hubs of the process share.
    pub fn set_clock(&mut self, nanos: u64) {
        self.clock = nanos;
    }

    /// Whether sessions are metered by address.
    pub fn meters_addresses(&self) -> bool {
        self.settings.usage.addresses.meters_commands()
    }

    /// Has the session in `slot` counted with an address: an IPv4 address or a network of IPv6, as one number.
    pub fn meter_address(&mut self, slot: Slot, address: u128) {
        let meter = self.settings.usage.addresses.meter(address, self.clock);
        self.usage_mut(slot).address = Some(meter);
    }

    /// Counts a connection of a user. One that is past a limit is ended, and this gives `false`.
    pub(crate) fn meter_user(&mut self, slot: Slot, user: &str, fx: &mut Effects) -> bool {
        if user.is_empty() {
            self.forget_meter(slot);
            return true;
        }
        match self.settings.usage.users.connect(user.into(), self.clock) {
            Ok(None) => {}
            Ok(Some(permit)) => self.usage_mut(slot).user = Some(permit),
            Err((what, words)) => {
                let code = match what {
                    Metered::Connections => code::CONNECTION_LIMIT,
                    _ => code::OVERLOADED,
                };
                let words = format!("{}: {words}", code.text);
                self.end(slot, &CloseReason::Code(code.number, words), fx);
                return false;
            }
        }
        true
    }

    /// The session is no longer counted with a user.
    pub(crate) fn forget_meter(&mut self, slot: Slot) {
        if let Some(usage) = self.usage.get_mut(slot.index()) {
            usage.user = None;
        }
    }

    /// The session in `slot` is gone.
    pub(crate) fn forget_usage(&mut self, slot: Slot) {
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

    /// Carries a command out with `act` if the limits of its address and its user allow it; otherwise `refuse` answers it,
    /// with the words that it is given.
    pub fn metered_or(
        &mut self,
        slot: Slot,
        cost: Cost,
        fx: &mut Effects,
        act: impl FnOnce(&mut Self, &mut Effects) -> Progress,
        refuse: impl FnOnce(&mut Self, &str, &mut Effects),
    ) -> Progress {
        // Without limits this is all there is to it.
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
            Err(_) if self.sessions[slot.index()].is_queued() => Progress::Hold,
            Err((is_user, what)) => {
                let usage = &self.settings.usage;
                let (_, words) =
                    if is_user { usage.users.refuse(what) } else { usage.addresses.refuse(what) };
                let words = format!("{}: {words}", code::TOO_MANY_REQUESTS.text);
                refuse(self, &words, fx);
                if self.is_closing(slot) { Progress::End } else { Progress::Next }
            }
        }
    }

    /// Charges input that is no command and has no error for its answer: pings of WebSockets, telnet's control sequences,
    /// what is empty. `false` past a limit, which counts as a refusal: then it is not answered.
    pub fn charge_input(&mut self, slot: Slot, bytes: usize) -> bool {
        if self.usage.is_empty() {
            return true;
        }
        // It comes between commands, of which the next one may be charged already.
        let charged = self.sessions[slot.index()].flags.set(Flag::Charged, false);
        let outcome = self.charge(slot, Cost { bytes, publishes: false });
        self.sessions[slot.index()].flags.set(Flag::Charged, charged);
        match outcome {
            Ok(()) => true,
            Err((is_user, what)) => {
                let usage = &self.settings.usage;
                if is_user {
                    usage.users.refuse(what)
                } else {
                    usage.addresses.refuse(what)
                };
                self.errors += 1;
                false
            }
        }
    }

    /// Charges a command to the session's address and user, unless that was done before it had to wait.
    fn charge(&mut self, slot: Slot, cost: Cost) -> Result<(), (bool, Metered)> {
        let Some(SessionUsage { address, user }) = self.usage.get(slot.index()) else { return Ok(()) };
        let session = &mut self.sessions[slot.index()];
        if session.flags.set(Flag::Charged, false) || session.identity == Identity::Backend {
            return Ok(());
        }
        let usage = &self.settings.usage;
        if let Some(meter) = address {
            usage.addresses.charge(meter, cost, self.clock).map_err(|what| (false, what))?;
        }
        if let Some(permit) = user {
            usage.users.charge(permit.meter(), cost, self.clock).map_err(|what| {
                if let Some(meter) = address {
                    usage.addresses.refund(meter, cost);
                }
                (true, what)
            })?;
        }
        Ok(())
    }
}
