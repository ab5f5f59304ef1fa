//! Subscriptions without the session's own publications.

use std::sync::Arc;

use tidings_hub::Slot;
use tidings_wire::{Channel, ClientInfo, Extra, Publication, Topic};

use crate::test_hub::{TestHub, settings};

fn news() -> Topic {
    Topic::Channel(Channel::new("news").unwrap())
}

/// A client of the plain port that is subscribed to `news`, perhaps without its own publications.
fn subscriber(w: &mut TestHub, no_local: bool) -> Slot {
    let slot = w.open();
    w.input(slot, "SUBSCRIBE news\r\n");
    let key = w.hub.topic(&news()).unwrap();
    w.hub.set_no_local(slot, key, no_local);
    w.sent.clear();
    slot
}

fn client_id(w: &TestHub, slot: Slot) -> String {
    w.hub.client_id(w.hub.session_id(slot))
}

fn publication(body: &str, extra: Extra) -> Arc<Publication> {
    let mut publication = Publication::new(Channel::new("news").unwrap(), body.to_owned());
    publication.extra = Some(Box::new(extra));
    Arc::new(publication)
}

fn with_origin(body: &str, origin: &str) -> Arc<Publication> {
    publication(body, Extra { origin: Some(origin.into()), ..Extra::default() })
}

fn received(w: &mut TestHub, slot: Slot) -> String {
    let bytes = w.sent.remove(&slot).unwrap_or_default();
    String::from_utf8(bytes).unwrap().replace("MESSAGE news ", "").replace("\r\n", " ")
}

#[test]
fn a_publication_does_not_reach_the_subscription_of_its_origin_with_no_local() {
    let mut w = TestHub::without_auto_subscribe(settings());
    let (without, with, other) =
        (subscriber(&mut w, true), subscriber(&mut w, false), subscriber(&mut w, true));
    let (a, b) = (client_id(&w, without), client_id(&w, with));
    let info = ClientInfo { client: a.clone(), ..ClientInfo::default() };
    let batch = [
        with_origin("1", &a),
        with_origin("2", &b),
        with_origin("3", "123.456"),
        publication("4", Extra { info: Some(info), ..Extra::default() }),
        Arc::new(Publication::new(Channel::new("news").unwrap(), "5")),
    ];
    w.fan_out(&news(), &batch);
    assert_eq!(received(&mut w, without), "2 3 5 ");
    assert_eq!(received(&mut w, with), "1 2 3 4 5 ");
    assert_eq!(received(&mut w, other), "1 2 3 4 5 ");
}

#[test]
fn the_option_can_be_changed_and_ends_with_the_subscription() {
    let mut w = TestHub::without_auto_subscribe(settings());
    let slot = subscriber(&mut w, true);
    let (id, key) = (client_id(&w, slot), w.hub.topic(&news()).unwrap());
    w.hub.set_no_local(slot, key, false);
    w.fan_out(&news(), &[with_origin("1", &id)]);
    w.hub.set_no_local(slot, key, true);
    w.fan_out(&news(), &[with_origin("2", &id)]);
    assert_eq!(received(&mut w, slot), "1 ");
    w.input(slot, "UNSUBSCRIBE news\r\nSUBSCRIBE news\r\n");
    w.sent.clear();
    w.fan_out(&news(), &[with_origin("3", &id)]);
    assert_eq!(received(&mut w, slot), "3 ");
}

#[test]
fn a_later_session_in_the_slot_gets_the_publications_of_the_earlier_one() {
    let mut w = TestHub::without_auto_subscribe(settings());
    let first = subscriber(&mut w, true);
    let id = client_id(&w, first);
    let mut fx = tidings_session::Effects::default();
    w.hub.closed(first, &mut fx);
    let second = subscriber(&mut w, true);
    assert_eq!(first, second, "the slot is reused");
    w.fan_out(&news(), &[with_origin("1", &id)]);
    assert_eq!(received(&mut w, second), "1 ");
}
