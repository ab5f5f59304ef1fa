//! Pings: a session is pinged at an interval, and ended if its peer replies to pings and does not reply in time.

use crate::close::CloseReason;
use crate::context::Context;
use crate::effects::Timer;
use crate::protocols::{Event, Peer as _, Protocols};
use crate::session::Flag;

impl<P: Protocols> Context<'_, P> {
    /// Starts the timer of the first ping, unless pings are disabled.
    pub(crate) fn start_pings(&mut self) {
        let interval = self.hub.settings.ping_interval;
        if !interval.is_zero() {
            self.start_timer(Timer::Ping, interval);
        }
    }

    /// Reports that a ping is due, and starts the timers of the next ping and, if the peer replies to pings, of the
    /// pong.
    pub(crate) fn ping(&mut self) {
        let timeout = self.hub.settings.pong_timeout;
        self.event(Event::PingDue);
        let session = self.session_mut();
        if !timeout.is_zero() && session.peer.answers_pings() {
            session.flags.set(Flag::PongDue, true);
            self.start_timer(Timer::Pong, timeout);
        }
        self.start_timer(Timer::Ping, self.hub.settings.ping_interval);
    }

    /// Ends the session if its pong is still due.
    pub(crate) fn check_pong(&mut self) {
        let flags = self.session().flags;
        if flags.has(Flag::PongDue) && flags.has(Flag::Stopped) {
            // The server does not read from the session now: the pong may be in the unread input.
            self.start_timer(Timer::Pong, self.hub.settings.pong_timeout);
        } else if flags.has(Flag::PongDue) {
            self.end(&CloseReason::NoPong);
        }
    }
}
