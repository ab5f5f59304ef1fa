//! Publishing over the server API.

use std::io::{Read as _, Write as _};

use serde_json::{Value, json};
use tidings_client::api::{Api, IdempotencyKeys};
use tidings_client::{Error, Server};

use crate::scripted::{Scripted, head};

/// Reads one request from a connection. Returns its head and its body.
fn request(stream: &mut std::net::TcpStream) -> (String, Value) {
    let head = head(stream);
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let mut body = vec![0; length.parse().expect("a number")];
    stream.read_exact(&mut body).expect("a body");
    (head, serde_json::from_slice(&body).expect("JSON"))
}

fn answer(stream: &mut std::net::TcpStream, status: &str, body: &str) {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).expect("written");
}

fn run(scripted: &Scripted, server: impl FnOnce(&Scripted) + Send, client: impl AsyncFnOnce(Api)) {
    let Server::Web(web) = scripted.server("http") else { panic!("not HTTP") };
    std::thread::scope(|scope| {
        let served = scope.spawn(|| server(scripted));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(client(Api::new(web, Some("secret".to_owned()))));
        served.join().expect("a server that does not panic");
    });
}

#[test]
fn a_publication_without_a_response_is_repeated_with_the_same_key() {
    let server = |scripted: &Scripted| {
        let mut first = scripted.accept();
        let (head, sent) = request(&mut first);
        assert!(head.starts_with("POST /api/publish HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nx-api-key: secret\r\n"), "{head}");
        assert_eq!((&sent["channel"], &sent["b64data"]), (&json!("news"), &json!("/wA=")));
        drop(first);
        let mut second = scripted.accept();
        assert_eq!(request(&mut second).1, sent);
        answer(&mut second, "200 OK", r#"{"result":{}}"#);
    };
    run(&Scripted::new(), server, async |mut api| {
        let one = IdempotencyKeys::default().prepare("news", b"\xff\0".to_vec());
        assert_eq!(api.publish(&[one]).await, Ok(vec![Ok(())]));
    });
}

#[test]
fn several_publications_in_one_call_have_one_result_each() {
    let server = |scripted: &Scripted| {
        let mut stream = scripted.accept();
        let (head, sent) = request(&mut stream);
        assert!(head.starts_with("POST /api/batch HTTP/1.1\r\n"), "{head}");
        let channels: Vec<&Value> =
            sent["commands"].as_array().unwrap().iter().map(|c| &c["publish"]["channel"]).collect();
        assert_eq!(channels, ["a", "b"]);
        answer(
            &mut stream,
            "200 OK",
            r#"{"replies":[{"publish":{}},{"error":{"code":102,"message":"unknown channel"}}]}"#,
        );
        request(&mut stream);
        answer(&mut stream, "401 Unauthorized", r#"{"error":"no"}"#);
    };
    run(&Scripted::new(), server, async |mut api| {
        let mut names = IdempotencyKeys::default();
        let all = [names.prepare("a", Vec::new()), names.prepare("b", b"x".to_vec())];
        let answers = api.publish(&all).await.expect("answers");
        assert_eq!(answers[0], Ok(()));
        assert_eq!(answers[1].as_ref().unwrap_err().to_string(), "unknown channel (code 102)");
        let error = api.publish(&all).await.expect_err("refused");
        assert!(matches!(error, Error::Refused { .. }), "{error}");
        assert!(
            error.to_string().contains("401") && error.to_string().contains("is it the right key?"),
            "{error}"
        );
    });
}
