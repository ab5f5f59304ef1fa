//! No log line and no error contains a password, even when Redis itself repeats it.

use std::fmt::{Debug, Write};
use std::sync::{LazyLock, Mutex};

use tidings_broker::redis::Options;
use tidings_testkit::RedisServer;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use crate::node::Node;

/// Every log line of this process, at any level and by any crate.
static LOG: LazyLock<Mutex<String>> = LazyLock::new(|| {
    tracing::subscriber::set_global_default(Collector).expect("no other subscriber");
    Mutex::default()
});

struct Collector;

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl Subscriber for Collector {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut log = LOG.lock().unwrap();
        event.record(&mut Fields(&mut log));
        log.push('\n');
    }
}

/// Fails to connect to a server with these arguments, and returns the reason.
fn failure(server: &[&str], credentials: &str) -> String {
    assert!(LOG.lock().is_ok(), "from here on everything is collected");
    let redis = RedisServer::start_with(server);
    let node = Node::start(Options::new(format!("redis://{credentials}@{}", redis.addr())));
    let reason = node.sink.wait_down();
    assert!(!reason.is_empty());
    assert!(LOG.lock().unwrap().contains(&reason), "the reason is logged as well");
    reason
}

#[test]
fn a_wrong_password_is_not_repeated() {
    let reason = failure(&["--requirepass", "right"], ":hunter2");
    assert!(reason.starts_with("WRONGPASS"), "{reason}");
    assert!(!reason.contains("hunter2"), "{reason}");
    assert!(!LOG.lock().unwrap().contains("hunter2"));
}

#[test]
fn a_password_that_redis_repeats_is_masked() {
    // A Redis without HELLO repeats the arguments of the unknown command.
    let reason = failure(&["--rename-command", "HELLO", ""], "joe:p%40ssw0rd");
    assert!(reason.contains("***"), "{reason}");
    let log = LOG.lock().unwrap();
    for secret in ["p%40ssw0rd", "p@ssw0rd"] {
        assert!(!reason.contains(secret) && !log.contains(secret), "{reason}");
    }
}
