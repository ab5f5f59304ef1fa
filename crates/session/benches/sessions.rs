//! How long a hub takes for what sessions do all day, sockets not included.
//!
//! `cargo bench -p tidings-hub`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use divan::Bencher;
use tidings_hub::{Access, Effect, Effects, Interest, Namespaces, SessionKey, Settings, Usage};
use tidings_session::Hub;
use tidings_wire::Channel;

fn main() {
    divan::main();
}

fn hub() -> Hub {
    let settings = Settings {
        default_channel: Channel::new("updates").expect("a name"),
        auto_subscribe: vec![],
        echo: false,
        escape: Default::default(),
        max_line: 65536,
        input_limit: 1 << 20,
        first_byte_wait: Duration::from_millis(250),
        channel_limit: 128,
        ping_interval: Duration::from_secs(25),
        pong_timeout: Duration::from_secs(8),
        stale_close_delay: Duration::from_secs(10),
        access: Access {
            open: true,
            api_key: None,
            anonymous_connect: false,
            tokens: false,
            reserved: Some("tidings.canary.".into()),
        },
        namespaces: Namespaces::default(),
        max_message: 65536,
        recovery_bytes: 1 << 20,
        recovery_limit: 1000,
        connect_proxy: false,
        private_prefix: "$".into(),
        personal_channel: None,
        expired_close_delay: Duration::from_secs(25),
        expired_sub_close_delay: Duration::from_secs(25),
        usage: Usage::default(),
        session_key: SessionKey::new(&[1; SessionKey::LEN]),
        node: String::new(),
    };
    Hub::new(Arc::new(settings), 0, 1)
}

/// Confirms every topic at once, as the router does for one that is live.
fn settle(hub: &mut Hub, fx: &mut Effects) {
    let mut i = 0;
    while i < fx.list.len() {
        if let Effect::SubscribeTopic(topic) = &fx.list[i] {
            let topic = topic.clone();
            hub.interest(&topic, Interest::Live, Arc::new(AtomicU64::new(0)), fx);
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
    settle(&mut hub, &mut fx);
    bencher.bench_local(|| {
        let slot = hub.open(&mut fx).slot;
        tidings_session::input(&mut hub, slot, b"SUBSCRIBE\r\n", &mut fx);
        settle(&mut hub, &mut fx);
        hub.closed(slot, &mut fx);
        settle(&mut hub, &mut fx);
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
