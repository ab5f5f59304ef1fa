//! The sessions of the articles, with nc, telnet and redis-cli.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use tidings_testkit::{PATIENCE, RedisServer, wait_until};

use crate::node::{TestNode, start_node, start_quiet_node};

/// An interactive program.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    screen: Receiver<String>,
}

impl Terminal {
    fn start(program: &str, node: &TestNode) -> Self {
        let address = node.tcp();
        let mut child = Command::new(program)
            .args([address.ip().to_string(), address.port().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; run `make test-tools` once"));
        let keys = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (lines, screen) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        Self { child, keys, screen }
    }

    fn type_line(&mut self, line: &str) {
        writeln!(self.keys, "{line}").expect("typed");
    }

    fn expect(&mut self, expected: &str) {
        let line = self.screen.recv_timeout(PATIENCE).expect("a line");
        assert_eq!(line.trim_end_matches('\r'), expected);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Skips the lines that telnet itself prints.
fn skip_greeting(telnet: &mut Terminal) {
    loop {
        let line = telnet.screen.recv_timeout(PATIENCE).expect("the greeting");
        if line.starts_with("Escape character") {
            return;
        }
    }
}

#[test]
fn part_one_an_echo_with_telnet_and_nc() {
    let node = start_node(&[]);
    let mut telnet = Terminal::start("telnet", &node);
    skip_greeting(&mut telnet);
    telnet.type_line("hello");
    telnet.expect("hello");
    let mut nc = Terminal::start("nc", &node);
    nc.type_line("hello from nc");
    nc.expect("hello from nc");
}

#[test]
fn part_two_updates_from_redis_to_every_connected_client() {
    let redis = RedisServer::start();
    let node = start_node(&[("broker", &redis.url())]);
    node.wait_until_ready();
    let mut clients = [Terminal::start("nc", &node), Terminal::start("telnet", &node)];
    skip_greeting(&mut clients[1]);
    for client in &mut clients {
        client.type_line("here");
        client.expect("here");
    }
    wait_until(PATIENCE, "both to be subscribed", || node.sum(|m| &m.subscriptions) == 2);
    let cli = Command::new("redis-cli")
        .args(["-p", &redis.port().to_string(), "PUBLISH", "updates", "hello world"])
        .output()
        .expect("redis-cli");
    assert_eq!(String::from_utf8_lossy(&cli.stdout), "1\n");
    for client in &mut clients {
        client.expect("hello world");
        client.type_line("an echo as before");
        client.expect("an echo as before");
    }
}

#[test]
fn part_three_a_protocol_to_subscribe_and_unsubscribe() {
    let node = start_quiet_node(&[]);
    let mut nc = Terminal::start("nc", &node);
    let publish = |text: &str| {
        let port = node.tcp().port().to_string();
        let done = Command::new("redis-cli").args(["-p", &port, "PUBLISH", "updates", text]).output();
        assert!(done.expect("redis-cli").status.success());
    };
    nc.type_line("UNSUBSCRIBE");
    nc.expect("ALREADY UNSUBSCRIBED");
    publish("not for clients without a subscription");
    nc.type_line("SUBSCRIBE");
    nc.expect("CONFIRMED");
    nc.type_line("SUBSCRIBE");
    nc.expect("ALREADY SUBSCRIBED");
    publish("LAL 101 - BOS 99");
    nc.expect("LAL 101 - BOS 99");
    nc.type_line("UNSUBSCRIBE");
    nc.expect("CONFIRMED");
    publish("not any more");
    nc.type_line("HELLO");
    nc.expect("UNKNOWN COMMAND");
}
