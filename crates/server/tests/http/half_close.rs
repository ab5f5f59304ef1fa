//! A client that shuts down its sending half: it gets its response, then the close.

use std::io::Write as _;
use std::net::Shutdown;

use tidings_testkit::{HttpResponse, LineClient};

use crate::support::TestServer;

/// Sends a request, closes the sending half, and reads the response.
fn send_and_half_close(server: &TestServer, request: &str) -> HttpResponse {
    let mut peer = server.connect();
    peer.write_all(request.as_bytes()).expect("a request sent");
    peer.shutdown(Shutdown::Write).expect("half a close");
    HttpResponse::read(&mut peer)
}

#[test]
fn a_request_before_a_half_close_is_processed_and_gets_a_response() {
    let server = TestServer::start(&[]);
    let mut listener = LineClient::connect(server.tcp());
    listener.send("SUBSCRIBE a");
    listener.expect("CONFIRMED");
    for _ in 0..40 {
        let answer = send_and_half_close(&server, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-length"), answer.body.len().to_string(), "a truncated body");
        let publish = "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 26\r\n\r\n\
                       {\"channel\":\"a\",\"data\":\"x\"}";
        let answer = send_and_half_close(&server, publish);
        assert_eq!((answer.status, answer.body.contains("result")), (200, true), "{}", answer.body);
        assert!(listener.line().starts_with("MESSAGE a "), "not processed");
    }
}

#[test]
fn half_a_request_before_a_half_close_is_an_error() {
    let server = TestServer::start(&[]);
    let half =
        "POST /api/publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"channel\":\"a\"";
    let answer = send_and_half_close(&server, half);
    assert_eq!(answer.status, 400, "{}", answer.body);
}
