//! MQTT's state in the data directory: kills of the server lose nothing that was acknowledged.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tidings_testkit::{Signal, Tidings, test_tool};

use crate::test_servers::{TIDINGS, root};

fn start(data: &TempDir, tcp: &str) -> Tidings {
    Tidings::builder(TIDINGS)
        .args(["--tcp", tcp, "--http", "127.0.0.1:0", "--data-dir"])
        .args([data.path()])
        .start()
}

/// Kills a server, and starts another one with its data at its address.
fn restart(server: Tidings, data: &TempDir) -> Tidings {
    let address = server.tcp().to_string();
    server.signal(Signal::KILL);
    // Waits for its end.
    drop(server);
    start(data, &address)
}

#[test]
fn kills_lose_no_acknowledged_message_of_paho() {
    let data = tempfile::tempdir().expect("a folder");
    let mut server = start(&data, "127.0.0.1:0");
    let address = server.tcp();
    let mut script = Command::new(test_tool("mqtt-python").join("bin/python"))
        .arg(root().join("tests/clients/mqtt/restart.py"))
        .args([address.ip().to_string(), address.port().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python starts");
    let mut input = script.stdin.take().expect("a piped stdin");
    let output = BufReader::new(script.stdout.take().expect("a piped stdout"));
    for line in output.lines() {
        assert_eq!(line.expect("a line"), "kill");
        server = restart(server, &data);
        writeln!(input, "started").expect("the script runs");
    }
    assert!(script.wait().expect("an exit status").success());
}

/// A connection of a raw client of 5.0 with the client id `raw`, whose session is kept for 255 seconds.
struct Raw(TcpStream);

impl Raw {
    /// Returns whether the session was present, too.
    fn connect(address: SocketAddr) -> (Self, bool) {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        stream
            .write_all(b"\x10\x15\x00\x04MQTT\x05\x00\x00\x00\x05\x11\x00\x00\x00\xff\x00\x03raw")
            .expect("sent");
        let mut raw = Self(stream);
        let connack = raw.packet();
        assert_eq!((connack[0], connack[3]), (0x20, 0), "CONNACK of success");
        (raw, connack[2] == 1)
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("sent");
    }

    /// A packet of less than 128 bytes.
    fn packet(&mut self) -> Vec<u8> {
        let mut packet = vec![0; 2];
        self.0.read_exact(&mut packet).expect("a head");
        packet.resize(2 + usize::from(packet[1]), 0);
        self.0.read_exact(&mut packet[2..]).expect("a packet");
        packet
    }
}

#[test]
fn the_steps_of_qos_2_continue_after_a_kill() {
    let data = tempfile::tempdir().expect("a folder");
    let mut server = start(&data, "127.0.0.1:0");
    let (mut raw, is_present) = Raw::connect(server.tcp());
    assert!(!is_present);
    // Subscribes to its own messages, and publishes one with the packet identifier 7.
    raw.send(b"\x82\x08\x00\x01\x00\x00\x02qt\x02");
    assert_eq!(raw.packet()[..1], [0x90]);
    let publish = b"\x34\x08\x00\x02qt\x00\x07\x00a";
    raw.send(publish);
    let mut packets = [raw.packet(), raw.packet()];
    packets.sort();
    assert_eq!((packets[0][0], packets[1][0]), (0x34, 0x50), "PUBLISH and PUBREC");
    assert_eq!(packets[1][2..4], [0, 7]);
    let id = packets[0][6..8].to_vec();
    let pubrec = [&[0x50, 2][..], &id].concat();
    raw.send(&pubrec);
    assert_eq!(raw.packet()[..4], [&[0x62, 2][..], &id].concat(), "PUBREL");

    server = restart(server, &data);
    let (mut raw, is_present) = Raw::connect(server.tcp());
    assert!(is_present);
    assert_eq!(raw.packet()[..4], [&[0x62, 2][..], &id].concat(), "PUBREL again, and no PUBLISH");
    raw.send(&[&[0x70, 2][..], &id].concat());
    // The client repeats its message, which was published before.
    let again: Vec<u8> = [&[0x3c][..], &publish[1..]].concat();
    raw.send(&again);
    assert_eq!(raw.packet()[..4], [0x50, 2, 0, 7]);
    raw.send(b"\x62\x02\x00\x07");
    assert_eq!(raw.packet()[..4], [0x70, 2, 0, 7]);

    server = restart(server, &data);
    let (mut raw, is_present) = Raw::connect(server.tcp());
    assert!(is_present);
    // The packet identifier is free: this is another message.
    raw.send(b"\x34\x08\x00\x02qt\x00\x07\x00b");
    let mut packets = [raw.packet(), raw.packet()];
    packets.sort();
    assert_eq!(packets[0].last(), Some(&b'b'));
    assert_ne!(packets[0][6..8], id[..], "another packet identifier");
    drop(server);
}

#[test]
fn wills_of_clients_that_were_connected_are_published_after_a_kill() {
    let data = tempfile::tempdir().expect("a folder");
    let mut server = start(&data, "127.0.0.1:0");
    let (mut raw, _) = Raw::connect(server.tcp());
    raw.send(b"\x82\x0a\x00\x01\x00\x00\x04will\x01");
    assert_eq!(raw.packet()[..1], [0x90]);
    // A clean start, a session that ends with the connection, and the retained will `off` with QoS 1.
    let mut stream = TcpStream::connect(server.tcp()).expect("a connection");
    stream
        .write_all(b"\x10\x1a\x00\x04MQTT\x05\x2e\x00\x00\x00\x00\x01w\x00\x00\x04will\x00\x03off")
        .expect("sent");
    let mut device = Raw(stream);
    let connack = device.packet();
    assert_eq!((connack[0], connack[3]), (0x20, 0), "CONNACK of success");
    for is_published in [true, false] {
        server = restart(server, &data);
        let (mut raw, is_present) = Raw::connect(server.tcp());
        assert!(is_present);
        if is_published {
            let publish = raw.packet();
            assert_eq!((publish[0], publish.last()), (0x32, Some(&b'f')), "{publish:?}");
            raw.send(&[&[0x40, 2][..], &publish[8..10]].concat());
        }
        // The will is the retained message of its topic, and comes no second time.
        raw.send(b"\x82\x0a\x00\x02\x00\x00\x04will\x01");
        let mut packets = [raw.packet(), raw.packet()];
        packets.sort();
        assert_eq!((packets[0][0], packets[1][0]), (0x33, 0x90), "{packets:?}");
        raw.send(&[&[0x40, 2][..], &packets[0][8..10]].concat());
        raw.send(b"\xc0\x00");
        assert_eq!(raw.packet()[0], 0xd0, "no other message");
    }
}

#[test]
fn without_files_nothing_outlives_the_server_and_an_unusable_folder_is_an_error() {
    let data = tempfile::tempdir().expect("a folder");
    std::fs::write(data.path().join("mqtt"), "a file").expect("a file");
    let (code, _, stderr) = Tidings::builder(TIDINGS)
        .args(["--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"])
        .args([data.path()])
        .run_to_end();
    assert_ne!(code, 0);
    assert!(stderr.contains("the state of MQTT in"), "{stderr}");
    let mut server = Tidings::builder(TIDINGS)
        .args(["--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data-dir"])
        .args([data.path()])
        .env("TIDINGS_MQTT_PERSISTENCE", "false")
        .start();
    assert!(!Raw::connect(server.tcp()).1);
    assert_eq!(server.terminate(), 0);
}
