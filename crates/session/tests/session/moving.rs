//! Which sessions can be moved to another node.

use tidings_hub::{Peer as _, Slot};
use tidings_session::Link;
use tidings_session::Response;
use tidings_wire::{History, HistoryPage, Position};

use crate::recovery::with_history;
use crate::test_hub::{Broker, TestHub, settings};

fn respond(w: &mut TestHub) {
    while let Some((id, ticket, _)) = w.pending_requests.pop_front() {
        let position = Position { offset: 0, epoch: "e1".into() };
        let page = History::Page(HistoryPage { position, publications: vec![] });
        w.with(|hub, fx| hub.respond(id, ticket, Response::History(page), fx));
    }
}

fn client(w: &mut TestHub, subscribe: &str) -> Slot {
    let slot = w.open();
    w.input(slot, "{\"id\":1,\"connect\":{}}\n");
    w.input(slot, format!("{{\"id\":2,\"subscribe\":{subscribe}}}\n"));
    slot
}

#[test]
fn a_session_is_movable_if_it_can_recover_all_of_its_subscriptions() {
    let mut w = TestHub::without_auto_subscribe(with_history());
    let slot = w.open();
    assert!(!w.hub.is_movable(slot), "not connected");
    w.input(slot, "{\"id\":1,\"connect\":{}}\n");
    assert!(w.hub.is_movable(slot), "without subscriptions");
    w.input(slot, "{\"id\":2,\"subscribe\":{\"channel\":\"a\",\"recoverable\":true}}\n");
    assert!(!w.hub.is_movable(slot), "a command in progress");
    respond(&mut w);
    assert!(w.hub.is_movable(slot));
    w.input(slot, "{\"id\":3,\"subscribe\":{\"channel\":\"b\",\"recoverable\":true}}\n");
    respond(&mut w);
    assert!(w.hub.is_movable(slot));
    w.input(slot, "{\"id\":4,\"subscribe\":{\"channel\":\"c\"}}\n");
    respond(&mut w);
    assert!(!w.hub.is_movable(slot), "a subscription without recovery");
    w.input(slot, "{\"id\":5,\"unsubscribe\":{\"channel\":\"c\"}}\n");
    assert!(w.hub.is_movable(slot));
    // Another subscriber of a channel moves in its list when one leaves.
    let other = client(&mut w, r#"{"channel":"a","recoverable":true}"#);
    respond(&mut w);
    w.close(slot);
    assert!(w.hub.is_movable(other));
    w.set_broker(Broker::Down);
    assert!(!w.hub.is_movable(other), "the broker is away");
}

#[test]
fn a_session_in_a_channel_without_history_is_not_movable() {
    let mut w = TestHub::without_auto_subscribe(settings());
    let slot = client(&mut w, r#"{"channel":"a","recoverable":true}"#);
    respond(&mut w);
    assert!(w.output(slot).contains("\"id\":2") && !w.hub.is_movable(slot));
    let plain = w.open();
    w.input(plain, "PING\r\n");
    assert!(!w.hub.is_movable(plain));
}

#[test]
fn clients_that_return_with_their_positions_are_those_of_the_client_protocol_and_event_streams() {
    let recovering: Vec<_> =
        Link::all().filter(|link| tidings_session::Peer::from(*link).recovers()).map(Link::name).collect();
    assert_eq!(
        recovering,
        [
            "json",
            "websocket_json",
            "websocket_protobuf",
            "websocket_json_deflate",
            "websocket_protobuf_deflate",
            "http_stream_json",
            "http_stream_protobuf",
            "sse",
            "events"
        ]
    );
}
