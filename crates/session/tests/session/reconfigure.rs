//! New settings while sessions exist.

use std::sync::Arc;

use tidings_hub::{Access, NamespaceOptions, Namespaces, Settings, UsageLimits};
use tidings_keys::{Scope, Scopes};
use tidings_session::ProtocolSettings;

use crate::test_hub::{TestHub, api_keys, settings};

const KEY: (&str, &str, Scopes) = ("http_api.key", "sesame", Scopes::ALL);

fn keys(keys: &[(&str, &str, Scopes)], may_subscribe: bool) -> Settings {
    let access = Access { keys: api_keys(keys), reserved: Some("tidings.".into()), ..Access::default() };
    let options = NamespaceOptions {
        allow_subscribe_for_client: may_subscribe,
        allow_subscribe_for_anonymous: may_subscribe,
        ..NamespaceOptions::default()
    };
    Settings { access, namespaces: Namespaces::new(options, []), ..settings() }
}

impl TestHub {
    /// Replaces the settings like a shard.
    fn reconfigure(&mut self, settings: Settings) {
        self.with(|hub, fx| hub.set_settings(Arc::new(settings), fx));
    }
}

#[test]
fn a_subscription_stays_and_new_operations_use_the_new_permissions() {
    let mut test_hub = TestHub::without_auto_subscribe(keys(&[KEY], true));
    let slot = test_hub.open();
    assert_eq!(test_hub.exchange(slot, "SUBSCRIBE news\r\n"), "CONFIRMED\r\n");
    test_hub.reconfigure(keys(&[KEY], false));
    test_hub.publish("news", "after");
    assert_eq!(test_hub.output(slot), "MESSAGE news after\r\n");
    assert_eq!(test_hub.exchange(slot, "SUBSCRIBE sport\r\n"), "ERROR 103 permission denied\r\n");
    assert_eq!(test_hub.exchange(slot, "UNSUBSCRIBE news\r\n"), "CONFIRMED\r\n");
    assert_eq!(test_hub.exchange(slot, "SUBSCRIBE news\r\n"), "ERROR 103 permission denied\r\n");
}

#[test]
fn a_topic_with_subscribers_gets_the_new_escape() {
    let mut test_hub = TestHub::without_auto_subscribe(keys(&[KEY], true));
    let slot = test_hub.open();
    assert_eq!(test_hub.exchange(slot, "SUBSCRIBE news\r\n"), "CONFIRMED\r\n");
    let escape = tidings_wire::plain::Escape::Always;
    test_hub.reconfigure(Settings { escape, ..keys(&[KEY], true) });
    test_hub.publish("news", "a\\b");
    assert_eq!(test_hub.output(slot), "MESSAGE news a\\\\b\r\n");
}

#[test]
fn a_backend_keeps_its_key_in_a_changed_list_and_a_removed_key_ends_it() {
    let other = ("other", "open", Scopes::ALL);
    let mut test_hub = TestHub::without_auto_subscribe(keys(&[KEY, other], false));
    let (stays, ends) = (test_hub.open(), test_hub.open());
    assert_eq!(test_hub.exchange(ends, "AUTH sesame\r\n"), "CONFIRMED\r\n");
    assert_eq!(test_hub.exchange(stays, "AUTH open\r\n"), "CONFIRMED\r\n");
    test_hub.reconfigure(keys(&[other, ("third", "third", Scopes::ALL)], false));
    assert!(test_hub.closed.contains(&ends) && !test_hub.closed.contains(&stays));
    assert_eq!(test_hub.output(ends), "ERROR 3500 invalid token: the API key is no longer valid\r\n");
    assert_eq!(test_hub.exchange(stays, "PUBLISH news hi\r\n"), "CONFIRMED\r\n");
    // Its scopes change at once.
    test_hub.reconfigure(keys(&[("other", "open", Scope::Read.into())], false));
    assert_eq!(test_hub.exchange(stays, "PUBLISH news hi\r\n"), "ERROR 103 permission denied\r\n");
    assert_eq!(test_hub.exchange(stays, "SUBSCRIBE news\r\n"), "CONFIRMED\r\n");
}

#[test]
fn limits_apply_to_existing_sessions_and_what_they_have_used_stays_counted() {
    let mut test_hub = TestHub::without_auto_subscribe(settings());
    let slot = test_hub.open();
    let (none, two) = (UsageLimits::default(), UsageLimits { commands: 2, ..UsageLimits::default() });
    let limited = test_hub.hub.settings().usage.with_limits(&two, &none);
    test_hub.reconfigure(Settings { usage: limited, ..settings() });
    test_hub.hub.meter_address(slot, 1);
    for answer in ["PONG", "PONG", "ERROR 111"] {
        assert!(test_hub.exchange(slot, "PING\r\n").starts_with(answer));
    }
    let same = test_hub.hub.settings().usage.with_limits(&two, &none);
    test_hub.reconfigure(Settings { usage: same, ..settings() });
    assert!(test_hub.exchange(slot, "PING\r\n").starts_with("ERROR 111"));
    let unlimited = test_hub.hub.settings().usage.with_limits(&none, &none);
    test_hub.reconfigure(Settings { usage: unlimited, ..settings() });
    assert_eq!(test_hub.exchange(slot, "PING\r\n"), "PONG\r\n");
}

#[test]
fn protocol_settings_apply_to_the_next_input() {
    let mut test_hub = TestHub::without_auto_subscribe(settings());
    let slot = test_hub.open();
    assert_eq!(test_hub.exchange(slot, "hello\r\n"), "hello\r\n");
    let protocols = ProtocolSettings { echo: false, auto_subscribe: vec![], ..ProtocolSettings::workbench() };
    test_hub.hub.protocols.set_settings(Arc::new(protocols));
    assert_eq!(test_hub.exchange(slot, "hello\r\n"), "UNKNOWN COMMAND\r\n");
}
