//! Publications for sessions without a connection, for members of groups, and for the files.

use std::sync::Arc;

use tidings_mqtt_session::{Connection, SharedDelivery, SharedFilter};
use tidings_wire::{Delivery, Publication, Topic};

use super::groups::Member;
use super::{Place, Session, State};

impl<W> State<W> {
    pub(super) fn deliver_parked(&mut self, delivery: &Delivery, now: u64) {
        let Self { limits, sessions, subscribers, bytes, dropped, mirror, .. } = self;
        if let Some(mirror) = mirror {
            mirror.deliver(delivery, *limits, now);
        }
        for id in subscribers.get(&delivery.topic).into_iter().flatten() {
            if let Some(Session { place: Place::Parked(parked), .. }) = sessions.get_mut(id) {
                let before = parked.bytes();
                *dropped += parked.add(delivery, limits.with_room(*bytes - before), now);
                *bytes = *bytes + parked.bytes() - before;
                if let Some(mirror) = mirror.as_mut().filter(|_| parked.arriving.is_none()) {
                    mirror.trim(*id, parked.state.waiting.required().len());
                }
            }
        }
    }

    /// Delivers a publication to one member of each group of a topic; with `only`, of that group, and not to the connection.
    pub(super) fn deliver_shared(
        &mut self,
        topic: &Topic,
        publication: &Arc<Publication>,
        only: Option<(&str, Connection)>,
        now: u64,
        shared: &mut Vec<(Connection, SharedDelivery)>,
    ) {
        let (only, excluded) = only.unzip();
        for (filter, member, options) in self.groups.select(topic, publication, only, excluded) {
            match member {
                Member::Connected(connection) => {
                    if let Some(mirror) = &mut self.mirror
                        && let Some(session) = mirror.session(connection)
                    {
                        mirror.add_to(vec![(session, options.into())], publication, self.limits, now);
                    }
                    let filter = SharedFilter { filter, topic: topic.clone() };
                    let publication = Arc::clone(publication);
                    shared.push((connection, SharedDelivery { shared: filter, publication }));
                }
                Member::Parked(id) => {
                    let Some(Session { place: Place::Parked(parked), .. }) = self.sessions.get_mut(&id)
                    else {
                        continue;
                    };
                    let before = parked.bytes();
                    let limits = self.limits.with_room(self.bytes - before);
                    self.dropped += parked.add_message(publication, options.into(), limits, now);
                    self.bytes = self.bytes + parked.bytes() - before;
                    if let Some(mirror) = &mut self.mirror {
                        mirror.add_to(vec![(id, options.into())], publication, self.limits, now);
                        if parked.arriving.is_none() {
                            mirror.trim(id, parked.state.waiting.required().len());
                        }
                    }
                }
            }
        }
    }
}
