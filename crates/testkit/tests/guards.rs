//! Tests of the guards.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use tidings_testkit::{LineClient, PATIENCE, Proxy, RedisServer, Reply, RespClient, free_port, wait_until};

#[test]
fn a_redis_can_be_killed_and_restarted_on_its_port() {
    let mut redis = RedisServer::start();
    assert_eq!(redis.cli(&["SET", "a", "1"]), Reply::Simple("OK".into()));
    redis.kill();
    assert!(RespClient::try_connect(redis.addr()).is_err());
    redis.restart();
    assert_eq!(redis.cli(&["GET", "a"]), Reply::Nil, "nothing is kept over a restart");
}

#[test]
fn a_redis_accepts_further_arguments() {
    let redis = RedisServer::start_with(&["--requirepass", "secret"]);
    let mut client = redis.client();
    assert!(client.command(&["GET", "a"]).text().starts_with("NOAUTH"));
    assert_eq!(client.command(&["AUTH", "secret"]).text(), "OK");
    assert_eq!(client.command(&["CLIENT", "SETNAME", "me"]).text(), "OK");
    assert_eq!(client.command(&["GET", "a"]), Reply::Nil);
}

#[test]
fn clients_of_a_redis_are_found_by_name() {
    let redis = RedisServer::start();
    let mut client = redis.client();
    client.command(&["CLIENT", "SETNAME", "tester"]);
    let ids = redis.client_ids("test");
    assert_eq!(ids, [client.command(&["CLIENT", "ID"]).int().to_string()]);
}

#[test]
fn a_pipeline_returns_every_reply_in_order() {
    let redis = RedisServer::start();
    let commands: Vec<Vec<Vec<u8>>> =
        (0..1_000).map(|i| vec![b"ECHO".to_vec(), format!("{i}").into_bytes()]).collect();
    let replies = redis.client().pipeline(&commands);
    assert!(replies.iter().enumerate().all(|(i, reply)| reply.text() == i.to_string()));
}

#[test]
fn a_cut_link_closes_its_connections_and_accepts_new_ones() {
    let redis = RedisServer::start();
    let proxy = Proxy::to(redis.addr());
    let mut client = RespClient::connect(proxy.addr());
    assert_eq!(client.command(&["PING"]).text(), "PONG");
    proxy.cut();
    assert!(client.try_reply().is_err());
    assert_eq!(RespClient::connect(proxy.addr()).command(&["PING"]).text(), "PONG");
    assert_eq!(proxy.accepted(), 2);
}

#[test]
fn a_silent_link_buffers_everything_until_it_is_resumed() {
    let redis = RedisServer::start();
    let proxy = Proxy::to(redis.addr());
    let mut client = RespClient::connect(proxy.addr());
    assert_eq!(client.command(&["PING"]).text(), "PONG");
    proxy.black_hole();
    client.send(&["PING"]);
    client.expect_silence(Duration::from_millis(200));
    proxy.resume();
    assert_eq!(client.reply().text(), "PONG");
}

#[test]
fn a_line_client_reads_lines_at_every_split() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for part in ["on", "e\r", "\ntwo\r\nthr", "ee\r\n"] {
            stream.write_all(part.as_bytes()).unwrap();
        }
        let mut heard = [0; 6];
        stream.read_exact(&mut heard).unwrap();
        stream.write_all(b"rest").unwrap();
        heard
    });
    let mut client = LineClient::connect(addr);
    client.expect("one");
    client.expect("two");
    client.expect("three");
    client.expect_silence(Duration::from_millis(50));
    assert_eq!(client.line_within(Duration::from_millis(10)), None);
    client.send("done");
    assert_eq!(client.expect_closed(), b"rest");
    assert_eq!(&server.join().unwrap(), b"done\r\n");
}

#[test]
fn a_free_port_can_be_listened_on() {
    let port = free_port();
    let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    wait_until(PATIENCE, "a connection to the port", || TcpStream::connect(("127.0.0.1", port)).is_ok());
}

#[test]
#[should_panic(expected = "the moon")]
fn a_passed_deadline_names_its_condition() {
    wait_until(Duration::from_millis(10), "the moon", || false);
}
