//! Clients of protocols that publish and subscribe: MQTT, Pusher, and the client protocol over WebSocket.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::num::NonZeroU16;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tidings_mqtt::{Connect, Decoded, Decoder, Packet, Properties, Side, Version};
use tidings_pusher::Key;
use tidings_testkit::PATIENCE;
use tidings_wire::client::Encoding;
use tidings_wire::client::reply::Reply;
use tidings_wire::client::request::{self, Command, Request};
use tidings_wire::ws::{Kind, Opcode};

use super::CHANNEL;
use crate::support::TestServer;
use crate::support::websocket::{Client, Received};

/// Bytes in base64.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A connected client of MQTT.
pub(super) struct MqttClient {
    stream: TcpStream,
    pub(super) version: Version,
    input: Vec<u8>,
}

impl MqttClient {
    pub(super) fn connect(server: &TestServer, version: Version) -> Self {
        let stream = TcpStream::connect(server.tcp()).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut client = Self { stream, version, input: Vec::new() };
        client.send(&Packet::Connect(Connect {
            version,
            clean_start: true,
            keep_alive: 0,
            client_id: "",
            will: None,
            user_name: None,
            password: None,
            properties: Properties::default(),
        }));
        client.wait_for(|packet| matches!(packet, Packet::ConnAck(_)).then_some(()));
        client
    }

    pub(super) fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes).expect("a packet");
        self.stream.write_all(&bytes).expect("a packet sent");
    }

    /// The first packet for which `select` returns a value. Packets before it are discarded.
    pub(super) fn wait_for<T>(&mut self, mut select: impl FnMut(&Packet<'_>) -> Option<T>) -> T {
        let decoder = Decoder { side: Side::Client, version: Some(self.version), max_packet: 1 << 20 };
        loop {
            let (used, selected) = match decoder.decode(&self.input).expect("packets of a server") {
                Decoded::Packet(packet, length) => (length, select(&packet)),
                Decoded::Partial { .. } => (0, None),
            };
            self.input.drain(..used);
            if let Some(selected) = selected {
                return selected;
            }
            if used == 0 {
                let mut bytes = [0; 4096];
                let n = self.stream.read(&mut bytes).expect("more packets");
                assert!(n > 0, "the connection ended");
                self.input.extend_from_slice(&bytes[..n]);
            }
        }
    }
}

/// The only packet identifier of a client.
pub(super) const ONE: NonZeroU16 = NonZeroU16::MIN;

/// A client of the app of a workbench that is subscribed to the channel.
pub(super) struct PusherClient(Client);

impl PusherClient {
    pub(super) fn subscribed(server: &TestServer) -> Self {
        let mut client = Self(Client::open(server, "/app/key?protocol=7", "", &[]));
        let established = client.event("pusher:connection_established");
        let data: Value = serde_json::from_str(established["data"].as_str().expect("a text")).expect("JSON");
        let socket = data["socket_id"].as_str().expect("a socket id");
        let auth = format!("key:{}", Key::new("secret").sign(format!("{socket}:{CHANNEL}").as_bytes()));
        client.send(&json!({"event": "pusher:subscribe", "data": {"channel": CHANNEL, "auth": auth}}));
        client.event("pusher_internal:subscription_succeeded");
        client
    }

    pub(super) fn send(&mut self, message: &Value) {
        self.0.send(Opcode::Text, message.to_string().as_bytes());
    }

    /// The next message.
    pub(super) fn message(&mut self) -> Value {
        let messages = self.0.json();
        let [message] = &messages[..] else { panic!("one message in each frame: {messages:?}") };
        message.clone()
    }

    fn event(&mut self, name: &str) -> Value {
        let message = self.message();
        assert_eq!(message["event"], name, "{message}");
        message
    }
}

/// A connected client of STOMP.
pub(super) struct StompClient(Client);

impl StompClient {
    pub(super) fn connect(server: &TestServer) -> Self {
        let mut client = Self(Client::open(server, "/stomp", "Sec-WebSocket-Protocol: v12.stomp\r\n", &[]));
        client.send("CONNECT", &[("accept-version", "1.2")], b"");
        assert_eq!(client.frame().0, "CONNECTED");
        client
    }

    /// Sends a frame. Headers without characters that are escaped.
    pub(super) fn send(&mut self, command: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut frame = format!("{command}\n");
        headers.iter().for_each(|(name, value)| frame.push_str(&format!("{name}:{value}\n")));
        frame.push('\n');
        let frame = [frame.as_bytes(), body, b"\0"].concat();
        let opcode = if body.is_ascii() { Opcode::Text } else { Opcode::Binary };
        self.0.send(opcode, &frame);
    }

    /// The next frame: its command, its headers, and its body.
    pub(super) fn frame(&mut self) -> (String, Vec<(String, String)>, Vec<u8>) {
        let Received::Message(_, bytes) = self.0.next() else { panic!("a frame was expected") };
        let end = bytes.windows(2).position(|pair| pair == b"\n\n").expect("the end of the headers");
        let head = String::from_utf8(bytes[..end].to_vec()).expect("text");
        let body = bytes[end + 2..].strip_suffix(b"\0").expect("the end of the frame").to_vec();
        let mut lines = head.lines();
        let command = lines.next().expect("a command").to_owned();
        let headers = lines.filter_map(|line| line.split_once(':'));
        (command, headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), body)
    }
}

/// A connected client of the client protocol over WebSocket.
pub(super) struct WebSocketClient {
    client: Client,
    encoding: Encoding,
    /// Messages of a frame that are not read yet.
    input: Vec<u8>,
    last: u32,
}

impl WebSocketClient {
    pub(super) fn connect(server: &TestServer, encoding: Encoding) -> Self {
        let path = match encoding {
            Encoding::Json => "/connection/websocket",
            Encoding::Protobuf => "/connection/websocket?format=protobuf",
        };
        let client = Client::open(server, path, "", &[]);
        let mut client = Self { client, encoding, input: Vec::new(), last: 0 };
        client.request(Request::Connect(request::Connect::default()));
        client
    }

    /// Sends a command, and waits for its reply. Pushes before it are discarded.
    pub(super) fn request(&mut self, request: Request<'_>) {
        self.last += 1;
        let (id, mut bytes) = (self.last, Vec::new());
        self.encoding.write_command(&Command { id, request }, &mut bytes);
        let opcode = if self.encoding == Encoding::Json { Opcode::Text } else { Opcode::Binary };
        self.client.send(opcode, &bytes);
        self.wait_for(|reply| {
            assert!(!matches!(reply.outcome, tidings_wire::client::reply::Outcome::Error(_)), "{reply:?}");
            (reply.id == id).then_some(())
        });
    }

    /// The first message for which `select` returns a value. Messages before it are discarded.
    pub(super) fn wait_for<T>(&mut self, mut select: impl FnMut(&Reply<'_>) -> Option<T>) -> T {
        loop {
            let mut messages = self.encoding.messages(&self.input);
            let mut selected = None;
            while let (None, Some(message)) = (&selected, messages.next()) {
                let reply = self.encoding.parse_reply(message.expect("a whole message")).expect("a reply");
                selected = select(&reply);
            }
            self.input = messages.rest().to_vec();
            if let Some(selected) = selected {
                return selected;
            }
            let Received::Message(Kind::Text | Kind::Binary, bytes) = self.client.next() else {
                panic!("a message was expected")
            };
            self.input = bytes;
        }
    }
}
