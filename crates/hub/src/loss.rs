//! Lost publications: each subscriber of the topic gets a report, as its protocol provides.

use tidings_wire::Topic;
use tidings_wire::code::{self, Code};

use crate::close::CloseReason;
use crate::context::Context;
use crate::effects::Effects;
use crate::hub::Hub;
use crate::index::{Slot, TopicKey};
use crate::protocols::{Event, LossReport, Peer as _, Protocols};
use crate::user_state::SubscriptionFlag;

impl<P: Protocols> Hub<P> {
    /// Publications of a topic are lost: reports it to each subscriber, as its protocol provides.
    pub fn on_publications_lost(&mut self, topic: &Topic, fx: &mut Effects<P::Messages>) {
        let text = format!("{}: messages of {} were lost", code::INSUFFICIENT_STATE.text, topic.as_str());
        self.interrupt(topic, code::INSUFFICIENT_STATE, code::INSUFFICIENT_STATE.text, &text, fx);
    }

    /// The broker has lost the subscription of a topic. Clients of the client protocol are unsubscribed with a code on
    /// which they subscribe again until it succeeds; subscribers with notices stay subscribed; others reconnect.
    pub(crate) fn on_topic_interrupted(&mut self, topic: &Topic, fx: &mut Effects<P::Messages>) {
        let text = format!("broker unavailable: {} is interrupted until it is back", topic.as_str());
        self.interrupt(topic, code::INTERNAL, "broker unavailable", &text, fx);
    }

    /// Reports missing publications to every subscriber of a topic. `code` and `text` are the error of a notice.
    fn interrupt(
        &mut self,
        topic: &Topic,
        code: Code,
        reason: &str,
        text: &str,
        fx: &mut Effects<P::Messages>,
    ) {
        let Some(key) = self.topics.key(topic) else { return };
        let slots: Vec<Slot> =
            self.topics.get(key).map(|e| e.all_subscribers().collect()).unwrap_or_default();
        for slot in slots {
            match self.sessions[slot.index()].peer.loss_report() {
                LossReport::Resubscribe | LossReport::Reconnect => {
                    self.context(slot, fx).lose_position(key, reason);
                }
                LossReport::Notice => self.event(slot, Event::Interrupted { code, reason: text }, fx),
                LossReport::Close => {
                    let reason = CloseReason::Code(code::POSITION_LOST.number, text.to_owned());
                    self.end(slot, &reason, fx);
                }
            }
        }
    }
}

impl<P: Protocols> Context<'_, P> {
    /// A subscriber has missed publications: ends its subscription so that the client subscribes again, or the session
    /// so that the client connects again.
    pub(crate) fn lose_position(&mut self, key: TopicKey, reason: &str) {
        self.hub.clients.lost += 1;
        let session = self.session();
        let by_server = session
            .user_state()
            .and_then(|user_state| user_state.sub(key))
            .is_some_and(|sub| sub.flags.has(SubscriptionFlag::ServerSide));
        if by_server || session.peer.loss_report() == LossReport::Reconnect {
            let number = code::POSITION_LOST.number;
            return self.end(&CloseReason::Code(number, reason.to_owned()));
        }
        self.end_subscription(key, code::INSUFFICIENT_STATE.number, reason);
    }
}
