//! With Sentinels, the broker connects to the current master.

use tidings_broker::Broker;
use tidings_broker::redis::Options;
use tidings_testkit::{PATIENCE, RedisServer, wait_until};

use crate::node::{Node, channel};

#[test]
fn the_broker_follows_the_master_of_the_sentinels() {
    let (mut first, second) = (RedisServer::start(), RedisServer::start());
    let sentinel = RedisServer::sentinel();
    let monitor = |redis: &RedisServer| {
        sentinel.cli(&["SENTINEL", "MONITOR", "mymaster", "127.0.0.1", &redis.port().to_string(), "1"]);
    };
    monitor(&first);
    let gone = RedisServer::absent();
    let url = format!("redis+sentinel://{},{}/mymaster", gone.addr(), sentinel.addr());
    let node = Node::connected(Options::new(url));
    node.subscribe(&channel("a"));
    assert_eq!(first.cli(&["PUBLISH", "a", "from the first"]).int(), 1);

    sentinel.cli(&["SENTINEL", "REMOVE", "mymaster"]);
    monitor(&second);
    first.kill();
    node.sink.wait_live(2, &channel("a"));
    assert_eq!(second.cli(&["PUBLISH", "a", "from the second"]).int(), 1);
    wait_until(PATIENCE, "both messages", || node.sink.bodies("a") == ["from the first", "from the second"]);
    node.wait_until_it_publishes();
    assert_eq!(node.broker.name(), "redis");
}
