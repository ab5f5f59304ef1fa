//! Namespaces that claim channels by filters and patterns, in every protocol.

use std::io::Write as _;
use std::net::TcpStream;

use serde_json::{Value, json};
use tidings_testkit::PATIENCE;

use crate::api_server::{ApiServer, USERS, json_of, mqtt_packet, token_with};

/// `home` claims temperatures, and its channels have a history; `users` has channels of one user each; `open` has the rest of
/// `home/`, in which clients may not subscribe.
const RULES: [&str; 11] = [
    "channel.without_namespace.allow_subscribe_for_client=false",
    "channel.namespaces=home,users,closed",
    "channel.namespaces.home.match=home/+/temp,devices/#",
    "channel.namespaces.home.allow_subscribe_for_client=true",
    "channel.namespaces.home.allow_publish_for_client=true",
    "channel.namespaces.home.history_size=10",
    "channel.namespaces.home.history_ttl=1m",
    "channel.namespaces.users.pattern=/users/:id",
    "channel.namespaces.users.user_variable=id",
    "channel.namespaces.closed.match=home/#",
    "channel.namespaces.users.allow_publish_for_subscriber=true",
];

fn server() -> ApiServer {
    ApiServer::with(&[&USERS[..], &RULES].concat())
}

fn history_size(server: &ApiServer, channel: &str) -> Value {
    let query = json!({"channel": channel, "limit": 10}).to_string();
    let history = json_of(&server.post("/api/history", &[], &query));
    match history["result"]["publications"].as_array() {
        Some(publications) => publications.len().into(),
        None => history["error"]["code"].clone(),
    }
}

#[test]
fn the_api_publishes_with_the_options_of_the_namespace_that_claims_a_channel() {
    let server = server();
    for channel in ["home/kitchen/temp", "home/kitchen/light", "home:a", "/users/7", "/users/7/x", "other:a"]
    {
        server.post("/api/publish", &[], &json!({"channel": channel, "data": 1}).to_string());
    }
    assert_eq!(history_size(&server, "home/kitchen/temp"), 1);
    assert_eq!(history_size(&server, "home:a"), 1, "the prefix still counts");
    assert_eq!(history_size(&server, "home/kitchen/light"), 108, "another namespace without a history");
    assert_eq!(history_size(&server, "/users/7"), 108);
    assert_eq!(history_size(&server, "/users/7/x"), 102, "no pattern claims it");
    assert_eq!(history_size(&server, "other:a"), 102);
}

#[test]
fn a_client_of_the_client_protocol_has_the_permissions_of_the_namespace_that_claims_a_channel() {
    let server = server();
    let mut client = server.user("7");
    let mut code = |command: &str, channel: &str| {
        let params = json!({"channel": channel, "data": 1});
        client.try_call(command, &params).map_or_else(|error| error["code"].clone(), |_| json!(0))
    };
    for (command, channel, expected) in [
        ("subscribe", "home/kitchen/temp", 0),
        ("subscribe", "home/kitchen/light", 103),
        ("subscribe", "devices", 0),
        ("subscribe", "lobby", 103),
        ("subscribe", "/users/7", 0),
        ("subscribe", "/users/8", 103),
        ("subscribe", "users:7", 103),
        ("subscribe", "/users/7/x", 102),
        ("publish", "home/cellar/temp", 0),
        ("publish", "home/cellar/light", 103),
        ("publish", "/users/7", 0),
        ("publish", "/users/8", 103),
    ] {
        assert_eq!(code(command, channel), expected, "{command} {channel}");
    }
    // The private prefix is no part of the rule, and needs a token for the channel.
    assert_eq!(code("subscribe", "$home/kitchen/temp"), 103);
}

#[test]
fn plain_lines_and_resp_have_the_permissions_of_the_namespace_that_claims_a_channel() {
    let server = server();
    let token = token_with(&json!({"sub": "7"}));
    let mut line = server.line();
    line.send(&format!("AUTH {token}"));
    line.expect("CONFIRMED");
    for (command, answer) in [
        ("SUBSCRIBE home/kitchen/temp", "CONFIRMED"),
        ("SUBSCRIBE /users/7", "CONFIRMED"),
        ("SUBSCRIBE /users/8", "ERROR 103 permission denied"),
        ("SUBSCRIBE home/kitchen/light", "ERROR 103 permission denied"),
        ("SUBSCRIBE /users/", "ERROR 102 unknown channel"),
    ] {
        line.send(command);
        line.expect(answer);
    }
    let mut resp = server.resp();
    assert_eq!(resp.command(&["AUTH", &token]).text(), "OK");
    assert_eq!(resp.command(&["PUBLISH", "home/kitchen/temp", "21"]).int(), 1);
    line.expect("MESSAGE home/kitchen/temp 21");
    assert!(resp.command(&["PUBLISH", "home/kitchen/light", "on"]).text().contains("permission"));
    let subscribed = resp.command(&["SUBSCRIBE", "home/cellar/temp"]);
    assert_eq!(subscribed.texts()[0], "subscribe");
    assert!(resp.command(&["SUBSCRIBE", "home/cellar/light"]).text().contains("permission"));
}

/// A client of MQTT 3.1.1 that is connected with a token (§3.1).
pub(crate) fn mqtt(server: &ApiServer, claims: &Value) -> TcpStream {
    let text = |text: &str| [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat();
    // User name, password, clean session.
    let head = [&text("MQTT")[..], &[4, 0xc2, 0, 0]].concat();
    let body = [head, text("c"), text("u"), text(&token_with(claims))].concat();
    let mut stream = TcpStream::connect(server.tcp()).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let length = [(body.len() % 128) as u8 | 0x80, (body.len() / 128) as u8];
    stream.write_all(&[&[0x10][..], &length, &body].concat()).expect("sent");
    assert_eq!(mqtt_packet(&mut stream), [0x20, 2, 0, 0], "CONNACK");
    stream
}

/// The result of a subscription (§3.8, §3.9): the granted QoS, or 0x80.
pub(crate) fn mqtt_subscribe(stream: &mut TcpStream, filter: &str) -> u8 {
    let body = [&[0, 1, 0, filter.len() as u8][..], filter.as_bytes(), &[0]].concat();
    stream.write_all(&[&[0x82, body.len() as u8][..], &body].concat()).expect("sent");
    let suback = mqtt_packet(stream);
    assert_eq!(suback[0], 0x90, "SUBACK");
    suback[4]
}

#[test]
fn a_filter_of_mqtt_is_accepted_if_a_namespace_claims_some_of_its_topics_and_gets_those_alone() {
    let server = server();
    let mut client = mqtt(&server, &json!({"sub": "7"}));
    for (filter, expected) in [
        ("home/kitchen/temp", 0),
        ("home/kitchen/light", 0x80),
        // Its first levels are closed, and some of its topics are open.
        ("home/#", 0),
        ("+/+", 0),
        ("/users/+", 0),
        ("lobby/#", 0x80),
        ("/users/8", 0x80),
    ] {
        assert_eq!(mqtt_subscribe(&mut client, filter), expected, "{filter}");
    }
    let mut other = mqtt(&server, &json!({}));
    assert_eq!(mqtt_subscribe(&mut other, "/users/+"), 0x80, "an anonymous client has no channel there");
    let mut client = mqtt(&server, &json!({"sub": "7"}));
    assert_eq!(mqtt_subscribe(&mut client, "home/#"), 0);
    assert_eq!(mqtt_subscribe(&mut client, "/users/+"), 0);
    for channel in ["home/kitchen/light", "/users/8", "home/kitchen/temp", "/users/7"] {
        server.post("/api/publish", &[], &json!({"channel": channel, "data": 1}).to_string());
    }
    let mut topic = || {
        let packet = mqtt_packet(&mut client);
        assert_eq!(packet[0] & 0xf0, 0x30, "PUBLISH");
        String::from_utf8(packet[4..4 + usize::from(packet[3])].to_vec()).expect("a topic")
    };
    assert_eq!([topic(), topic()], ["home/kitchen/temp", "/users/7"]);
}
