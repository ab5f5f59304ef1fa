//! The MQTT clients of JavaScript, Python and Mosquitto. `stdbuf` has `mosquitto_sub` write each line at once.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use tidings_testkit::{RedisServer, Tidings, test_tool};

use crate::test_servers::{TIDINGS, TestServers, root};

#[test]
fn mqtt_js_works_unchanged() {
    let mut command = Command::new("node");
    command.env("TIDINGS_NODE_MODULES", test_tool("mqtt-node"));
    command.arg(root().join("tests/clients/mqtt/mqttjs.mjs"));
    TestServers::start().run(command, &[]);
}

#[test]
fn paho_works_unchanged() {
    let mut command = Command::new(test_tool("mqtt-python").join("bin/python"));
    command.arg(root().join("tests/clients/mqtt/paho_mqtt.py"));
    TestServers::start().run(command, &[]);
}

#[test]
fn the_quick_start_of_paho_works_against_a_server_without_options() {
    let server = Tidings::start(TIDINGS, &[]);
    let mut command = Command::new(test_tool("mqtt-python").join("bin/python"));
    command.arg(root().join("tests/clients/mqtt/quick_start.py"));
    succeed(command.args(["127.0.0.1", &server.tcp().port().to_string()]));
}

#[test]
fn the_quick_start_and_the_commands_of_mqtt_js_work_against_a_server_without_options() {
    let server = Tidings::start(TIDINGS, &[]);
    let mut command = Command::new("node");
    command.env("TIDINGS_NODE_MODULES", test_tool("mqtt-node"));
    command.arg(root().join("tests/clients/mqtt/quick-start.mjs"));
    let ports = [server.tcp().port(), server.http().port()].map(|port| port.to_string());
    succeed(command.arg("127.0.0.1").args(ports));
}

/// Runs a command to its end.
fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

/// A running `mosquitto_sub`.
struct Subscriber {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Subscriber {
    /// Starts it with these arguments, and with its debug messages.
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new("stdbuf")
            .args(["-oL", "mosquitto_sub", "-d"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("mosquitto_sub is installed");
        let output = BufReader::new(child.stdout.take().expect("a piped stdout"));
        Self { child, output }
    }

    /// Waits for a line that contains this text.
    fn prints(&mut self, wanted: &str) {
        let mut lines = self.output.by_ref().lines();
        let found = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains(wanted)));
        assert!(found.is_some(), "{wanted} in the output of mosquitto_sub");
    }

    /// Waits for its end.
    fn succeeds(mut self) {
        assert!(self.child.wait().expect("an exit status").success());
    }
}

/// The quick start of Mosquitto: `mosquitto_sub` and `mosquitto_pub` against `tidings serve`.
#[test]
fn mosquitto_sub_and_pub_work_against_a_server_without_options() {
    let server = Tidings::start(TIDINGS, &[]);
    let port = server.tcp().port().to_string();
    for version in ["mqttv311", "mqttv5"] {
        for qos in ["0", "1", "2"] {
            let topic = format!("{version}/{qos}/temperature");
            let filter = format!("{version}/{qos}/#");
            let mut subscriber = Subscriber::start(&[
                "-V", version, "-p", &port, "-q", qos, "-t", &filter, "-C", "2", "-F", "%t %p %q",
            ]);
            subscriber.prints("Subscribed");
            for payload in ["20", "21"] {
                let sent = Command::new("mosquitto_pub")
                    .args(["-V", version, "-p", &port, "-q", qos, "-t", &topic, "-m", payload])
                    .status();
                assert!(sent.expect("mosquitto_pub is installed").success());
            }
            subscriber.prints(&format!("{topic} 20 {qos}"));
            subscriber.prints(&format!("{topic} 21 {qos}"));
            subscriber.succeeds();
        }
    }
}

/// `CONNECT` of 5.0 with a clean start, no keep-alive and the client id `x`.
const CONNECT: &[u8] = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01x";

fn connect(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    stream.write_all(CONNECT).expect("CONNECT is sent");
    let mut head = [0; 4];
    stream.read_exact(&mut head).expect("CONNACK");
    assert_eq!((head[0], head[3]), (0x20, 0), "CONNACK of success");
    stream
}

#[test]
fn nodes_share_topics_and_client_ids_through_redis() {
    let redis = RedisServer::start();
    let broker = redis.url();
    let nodes = [(); 2].map(|()| Tidings::start(TIDINGS, &["--broker", &broker]));
    let ports = [&nodes[0], &nodes[1]].map(|node| node.tcp().port().to_string());

    let mut subscriber = Subscriber::start(&[
        "-V",
        "mqttv5",
        "-p",
        &ports[0],
        "-q",
        "2",
        "-t",
        "home/#",
        "-C",
        "1",
        "-F",
        "%t %p %q %C %R %P",
    ]);
    subscriber.prints("Subscribed");
    let sent = Command::new("mosquitto_pub")
        .args(["-V", "mqttv5", "-p", &ports[1], "-q", "2", "-t", "home/door", "-m", "open"])
        .args([
            "-D",
            "publish",
            "content-type",
            "text/plain",
            "-D",
            "publish",
            "response-topic",
            "home/answer",
        ])
        .args(["-D", "publish", "user-property", "room", "hall"])
        .status();
    assert!(sent.expect("mosquitto_pub is installed").success());
    subscriber.prints("home/door open 2 text/plain home/answer room:hall");
    subscriber.succeeds();

    // The newest connection with a client id ends the other one, on any node.
    let mut first = connect(nodes[0].tcp());
    let _second = connect(nodes[1].tcp());
    let mut rest = Vec::new();
    first.read_to_end(&mut rest).expect("the connection ends");
    let is_taken_over = rest.windows(3).any(|bytes| bytes[0] == 0xE0 && bytes[2] == 0x8E);
    assert!(is_taken_over, "DISCONNECT with 0x8E in {rest:?}");
}

#[test]
fn a_retained_message_reaches_a_later_subscriber_of_the_memory_broker() {
    let server = Tidings::start(TIDINGS, &[]);
    let port = server.tcp().port().to_string();
    for (topic, payload) in [("home/a/state", "on"), ("home/b/state", "off"), ("home/a/state", "")] {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-V", "mqttv5", "-p", &port, "-q", "1", "-r", "-t", topic]);
        if payload.is_empty() {
            command.arg("-n");
        } else {
            command.args(["-m", payload]);
        }
        assert!(command.status().expect("mosquitto_pub is installed").success());
    }
    let got = Command::new("mosquitto_sub")
        .args(["-V", "mqttv5", "-p", &port, "-t", "home/+/state", "-C", "1", "-W", "30", "-F", "%t %p %r"])
        .output()
        .expect("mosquitto_sub is installed");
    assert_eq!(String::from_utf8_lossy(&got.stdout), "home/b/state off 1\n");
}

#[test]
fn numbers_about_the_broker_are_published_at_intervals() {
    let server = Tidings::builder(TIDINGS)
        .args(["--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        // Long enough that the retained message comes before the next live one.
        .env("TIDINGS_MQTT_SYS_INTERVAL", "2s")
        .start();
    let port = server.tcp().port().to_string();
    // At once, as a retained message.
    let version = Command::new("mosquitto_sub")
        .args(["-p", &port, "-t", "$SYS/broker/version", "-C", "1", "-W", "30", "-F", "%t %p %r"])
        .output()
        .expect("mosquitto_sub is installed");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    assert!(
        version.starts_with("$SYS/broker/version tidings version ") && version.ends_with(" 1\n"),
        "{version}"
    );
    let sub = |filter: &str, rest: &[&str]| {
        Subscriber::start(&[&["-p", &port, "-q", "1", "-t", filter, "-F", "%t %p %r"], rest].concat())
    };
    let mut all = sub("#", &["-C", "1"]);
    all.prints("Subscribed");
    let mut numbers = sub("$SYS/#", &[]);
    // The second number is live, and counts both clients.
    numbers.prints("$SYS/broker/clients/connected 2 0");
    numbers.prints("$SYS/broker/retained messages/count 0 0");
    let sent = Command::new("mosquitto_pub")
        .args(["-V", "mqttv5", "-p", &port, "-q", "1", "-t", "$SYS/broker/version", "-m", "x"])
        .output()
        .expect("mosquitto_pub is installed");
    assert!(String::from_utf8_lossy(&sent.stderr).contains("Not authorized"), "{sent:?}");
    let sent = Command::new("mosquitto_pub").args(["-p", &port, "-t", "a", "-m", "x"]).status();
    assert!(sent.expect("mosquitto_pub is installed").success());
    // The filter `#` has matched none of the numbers.
    all.prints("a x 0");
    numbers.child.kill().expect("it runs");
    numbers.child.wait().expect("it ends");
}

#[test]
fn sessions_of_paho_outlive_their_connections() {
    let server = Tidings::start(TIDINGS, &[]);
    let address = server.tcp();
    let status = Command::new(test_tool("mqtt-python").join("bin/python"))
        .arg(root().join("tests/clients/mqtt/sessions.py"))
        .args([address.ip().to_string(), address.port().to_string()])
        .status();
    assert!(status.expect("python runs").success());
}

#[test]
fn messages_for_an_absent_mosquitto_sub_arrive_when_it_returns() {
    let server = Tidings::start(TIDINGS, &[]);
    let port = server.tcp().port().to_string();
    for version in ["mqttv311", "mqttv5"] {
        let filter = format!("away/{version}/#");
        let sub = |rest: &[&str]| {
            let mut command = Command::new("mosquitto_sub");
            command.args(["-V", version, "-p", &port, "-i", version, "-c", "-q", "1", "-t", &filter]);
            if version == "mqttv5" {
                command.args(["-x", "60"]);
            }
            command.args(rest).output().expect("mosquitto_sub is installed")
        };
        // Ends after SUBACK.
        assert!(sub(&["-E"]).status.success());
        for payload in ["1", "2"] {
            let sent = Command::new("mosquitto_pub")
                .args(["-p", &port, "-q", "1", "-t", &format!("away/{version}/x"), "-m", payload])
                .status();
            assert!(sent.expect("mosquitto_pub is installed").success());
        }
        let got = sub(&["-C", "2", "-W", "30", "-F", "%t %p %q"]);
        let wanted = format!("away/{version}/x 1 1\naway/{version}/x 2 1\n");
        assert_eq!(String::from_utf8_lossy(&got.stdout), wanted);
    }
}

#[test]
fn members_of_a_shared_subscription_get_each_message_once() {
    let server = Tidings::start(TIDINGS, &[]);
    let port = server.tcp().port().to_string();
    // Connections are distributed over the shards in turn.
    let mut members = ["mqttv311", "mqttv5", "mqttv5"].map(|version| {
        let args =
            ["-V", version, "-p", &port, "-q", "1", "-t", "$share/workers/jobs/+", "-C", "4", "-F", "job %p"];
        let mut member = Subscriber::start(&args);
        member.prints("Subscribed");
        member
    });
    let jobs: Vec<String> = (0..12).map(|number| number.to_string()).collect();
    for job in &jobs {
        let sent =
            Command::new("mosquitto_pub").args(["-p", &port, "-q", "1", "-t", "jobs/a", "-m", job]).status();
        assert!(sent.expect("mosquitto_pub is installed").success());
    }
    let mut done: Vec<String> = Vec::new();
    for member in &mut members {
        let lines = member.output.by_ref().lines().map(|line| line.expect("a line"));
        done.extend(lines.filter_map(|line| Some(line.strip_prefix("job ")?.to_owned())));
    }
    done.sort_by_key(|job| job.parse::<u32>().expect("a number"));
    assert_eq!(done, jobs);
    members.into_iter().for_each(Subscriber::succeeds);
}

#[test]
fn a_listener_of_its_own_accepts_mqtt_alone() {
    let server = Tidings::builder(TIDINGS)
        .args(["--tcp", "off", "--http", "127.0.0.1:0"])
        .env("TIDINGS_MQTT_LISTEN", "127.0.0.1:0")
        .start();
    let address: SocketAddr = server.listeners("mqtt")[0].parse().expect("an address");
    let port = address.port().to_string();
    let mut subscriber = Subscriber::start(&["-p", &port, "-t", "a/#", "-C", "1", "-F", "%t %p"]);
    subscriber.prints("Subscribed");
    let sent = Command::new("mosquitto_pub").args(["-p", &port, "-t", "a/b", "-m", "1"]).status();
    assert!(sent.expect("mosquitto_pub is installed").success());
    subscriber.prints("a/b 1");
    subscriber.succeeds();
    let mut other = TcpStream::connect(address).expect("a connection");
    other.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    other.write_all(b"SUBSCRIBE a/b\r\n").expect("a line is sent");
    let mut answer = Vec::new();
    other.read_to_end(&mut answer).expect("the connection ends");
    assert!(answer.is_empty(), "{answer:?}");
}
