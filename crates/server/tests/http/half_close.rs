//! A client that sends no more and reads on: it gets its answer, then the close.

use std::io::Write as _;
use std::net::Shutdown;

use tidings_testkit::{HttpResponse, LineClient};

use crate::support::TestServer;

/// Sends a request, closes the sending half, and reads the answer.
fn ask_and_finish(world: &TestServer, request: &str) -> HttpResponse {
    let mut peer = world.connect();
    peer.write_all(request.as_bytes()).expect("a request sent");
    peer.shutdown(Shutdown::Write).expect("half a close");
    HttpResponse::read(&mut peer)
}

#[test]
fn a_request_before_a_half_close_is_carried_out_and_answered() {
    let world = TestServer::start(&[]);
    let mut listener = LineClient::connect(world.tcp());
    listener.send("SUBSCRIBE a");
    listener.expect("CONFIRMED");
    for _ in 0..40 {
        let answer = ask_and_finish(&world, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-length"), answer.body.len().to_string(), "cut short");
        let publish = "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 26\r\n\r\n\
                       {\"channel\":\"a\",\"data\":\"x\"}";
        let answer = ask_and_finish(&world, publish);
        assert_eq!((answer.status, answer.body.contains("result")), (200, true), "{}", answer.body);
        assert!(listener.line().starts_with("MESSAGE a "), "not carried out");
    }
}

#[test]
fn half_a_request_before_a_half_close_is_an_error() {
    let world = TestServer::start(&[]);
    let half =
        "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"channel\":\"a\"";
    let answer = ask_and_finish(&world, half);
    assert_eq!(answer.status, 400, "{}", answer.body);
}
