//! The memory of idle sessions: bytes of live allocations, counted by the allocator.

#[path = "session/test_hub.rs"]
#[allow(dead_code, unused_imports, reason = "the tests of sessions use the rest")]
mod test_hub;

use peak_alloc::PeakAlloc;
use test_hub::{TestHub, settings};
use tidings_hub::Slot;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const SESSIONS: usize = 2_000;

/// The bytes that each session of many adds, without its entry in tables that grow for all.
fn bytes_each(open: impl Fn(&mut TestHub, usize) -> Slot) -> usize {
    let mut w = TestHub::without_auto_subscribe(settings());
    w.set_session_limits(|limits| limits.sessions = 10_000);
    let mut before = 0;
    for round in 0..2 {
        before = ALLOCATOR.current_usage();
        let slots: Vec<Slot> = (0..SESSIONS).map(|number| open(&mut w, number)).collect();
        w.sent.clear();
        w.notifications = Vec::new();
        if round == 0 {
            slots.into_iter().for_each(|slot| w.close(slot));
            w.closed.clear();
            w.sent.clear();
            w.notifications = Vec::new();
            w.timers = Vec::with_capacity(4 * SESSIONS);
        }
    }
    (ALLOCATOR.current_usage() - before) / SESSIONS
}

/// Bytes of `CONNECT` of this version with a client id of 23 bytes, and `SUBSCRIBE` to `news`.
fn mqtt(level: u8, number: usize) -> (Vec<u8>, Vec<u8>) {
    let id = format!("client-{number:016}");
    let properties: &[u8] = if level == 5 { &[0] } else { &[] };
    let mut connect = vec![0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, 60];
    connect.extend_from_slice(properties);
    connect.extend_from_slice(&(id.len() as u16).to_be_bytes());
    connect.extend_from_slice(id.as_bytes());
    let mut subscribe = vec![0, 1];
    subscribe.extend_from_slice(properties);
    subscribe.extend_from_slice(&[0, 4, b'n', b'e', b'w', b's', 0]);
    let packet = |kind: u8, body: Vec<u8>| [vec![kind, body.len() as u8], body].concat();
    (packet(0x10, connect), packet(0x82, subscribe))
}

#[test]
fn an_idle_session_with_one_subscription_takes_few_bytes() {
    let lines = bytes_each(|w, _| {
        let slot = w.open();
        w.input(slot, "SUBSCRIBE news\n");
        slot
    });
    let of = |level: u8| {
        bytes_each(|w, number| {
            let slot = w.open();
            let (connect, subscribe) = mqtt(level, number);
            w.input(slot, connect);
            assert_eq!(w.bytes(slot).first(), Some(&0x20), "CONNACK");
            w.input(slot, subscribe);
            assert_eq!(w.bytes(slot).first(), Some(&0x90), "SUBACK");
            slot
        })
    };
    let (v3, v5) = (of(4), of(5));
    eprintln!("lines {lines}, MQTT 3.1.1 {v3}, MQTT 5.0 {v5}");
    assert!(lines <= 8 && v3 <= 320 && v5 <= 320, "lines {lines}, MQTT 3.1.1 {v3}, MQTT 5.0 {v5}");
}
