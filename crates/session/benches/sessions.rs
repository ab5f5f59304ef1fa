//! Benchmarks of frequent operations of sessions, without sockets.
//!
//! `cargo bench -p tidings-session`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use divan::Bencher;
use tidings_hub::{Interest, SessionKey, Settings};
use tidings_session::{Effect, Effects};
use tidings_session::{Hub, ProtocolSettings, Protocols};

fn main() {
    divan::main();
}

fn hub() -> Hub {
    let protocols = ProtocolSettings { auto_subscribe: vec![], echo: false, ..ProtocolSettings::workbench() };
    let settings = Settings::workbench(SessionKey::new(&[1; SessionKey::LEN]));
    Hub::new(Arc::new(settings), Protocols::new(Arc::new(protocols)), 0, 1)
}

/// Confirms every topic at once, like the router for a live topic.
fn apply_effects(hub: &mut Hub, fx: &mut Effects) {
    let mut i = 0;
    while i < fx.list.len() {
        if let Effect::SubscribeTopic(topic) = &fx.list[i] {
            let topic = topic.clone();
            hub.on_topic_state(&topic, Interest::Live, Arc::new(AtomicU64::new(0)), fx);
        }
        i += 1;
    }
    fx.clear();
}

#[divan::bench]
fn open_subscribe_close(bencher: Bencher) {
    let mut hub = hub();
    let mut fx = Effects::default();
    let stays = hub.open(&mut fx).slot;
    tidings_session::input(&mut hub, stays, b"SUBSCRIBE\r\n", &mut fx);
    apply_effects(&mut hub, &mut fx);
    bencher.bench_local(|| {
        let slot = hub.open(&mut fx).slot;
        tidings_session::input(&mut hub, slot, b"SUBSCRIBE\r\n", &mut fx);
        apply_effects(&mut hub, &mut fx);
        hub.closed(slot, &mut fx);
        apply_effects(&mut hub, &mut fx);
    });
}

#[divan::bench]
fn ping(bencher: Bencher) {
    let mut hub = hub();
    let mut fx = Effects::default();
    let slot = hub.open(&mut fx).slot;
    bencher.bench_local(|| {
        tidings_session::input(&mut hub, slot, b"PING\r\n", &mut fx);
        fx.clear();
    });
}
