//! The articles' sessions, typed with the tools that people type with: nc, telnet, redis-cli.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use tidings_testkit::{PATIENCE, RedisServer, wait_until};

use crate::up::{Up, quiet, up};

/// A program with a person at it.
struct Typing {
    child: Child,
    keys: ChildStdin,
    screen: Receiver<String>,
}

impl Typing {
    fn at(program: &str, node: &Up) -> Self {
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

    fn types(&mut self, line: &str) {
        writeln!(self.keys, "{line}").expect("typed");
    }

    fn sees(&mut self, wanted: &str) {
        let line = self.screen.recv_timeout(PATIENCE).expect("a line");
        assert_eq!(line.trim_end_matches('\r'), wanted);
    }
}

impl Drop for Typing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What telnet says before the connection's own words.
fn past_the_greeting(telnet: &mut Typing) {
    loop {
        let line = telnet.screen.recv_timeout(PATIENCE).expect("the greeting");
        if line.starts_with("Escape character") {
            return;
        }
    }
}

#[test]
fn part_one_an_echo_with_telnet_and_nc() {
    let node = up(&[]);
    let mut telnet = Typing::at("telnet", &node);
    past_the_greeting(&mut telnet);
    telnet.types("hello");
    telnet.sees("hello");
    let mut nc = Typing::at("nc", &node);
    nc.types("hello from nc");
    nc.sees("hello from nc");
}

#[test]
fn part_two_updates_from_redis_to_everybody_who_is_connected() {
    let redis = RedisServer::start();
    let node = up(&[("broker", &redis.url())]);
    node.wait_until_ready();
    let mut people = [Typing::at("nc", &node), Typing::at("telnet", &node)];
    past_the_greeting(&mut people[1]);
    for person in &mut people {
        person.types("here");
        person.sees("here");
    }
    wait_until(PATIENCE, "both to be subscribed", || node.sum(|m| &m.subscriptions) == 2);
    let cli = Command::new("redis-cli")
        .args(["-p", &redis.port().to_string(), "PUBLISH", "updates", "follow the white rabbit"])
        .output()
        .expect("redis-cli");
    assert_eq!(String::from_utf8_lossy(&cli.stdout), "1\n");
    for person in &mut people {
        person.sees("follow the white rabbit");
        person.types("and they go on talking");
        person.sees("and they go on talking");
    }
}

#[test]
fn part_three_a_protocol_to_control_what_one_gets() {
    let node = quiet(&[]);
    let mut nc = Typing::at("nc", &node);
    let publish = |text: &str| {
        let port = node.tcp().port().to_string();
        let done = Command::new("redis-cli").args(["-p", &port, "PUBLISH", "updates", text]).output();
        assert!(done.expect("redis-cli").status.success());
    };
    nc.types("UNSUBSCRIBE");
    nc.sees("ALREADY UNSUBSCRIBED");
    publish("not for those who did not ask");
    nc.types("SUBSCRIBE");
    nc.sees("CONFIRMED");
    nc.types("SUBSCRIBE");
    nc.sees("ALREADY SUBSCRIBED");
    publish("LAL 101 - BOS 99");
    nc.sees("LAL 101 - BOS 99");
    nc.types("UNSUBSCRIBE");
    nc.sees("CONFIRMED");
    publish("not any more");
    nc.types("HELLO");
    nc.sees("UNKNOWN COMMAND");
}
