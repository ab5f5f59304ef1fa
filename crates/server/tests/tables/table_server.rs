//! A server in this process, and WebSocket clients of tables.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidings_testkit::{PATIENCE, wait_until};
use tidings_wire::ws::handshake::{self, Request};
use tidings_wire::ws::{self, Event, Header, Opcode, Reader, Role, Rules};

use crate::support::TestServer;

/// A server in this process, stopped when dropped.
pub(crate) struct TableServer {
    pub(crate) server: TestServer,
    pub(crate) http: SocketAddr,
    pub(crate) tcp: SocketAddr,
    /// The data folder, if the test server owns one.
    folder: Option<tempfile::TempDir>,
}

impl TableServer {
    /// Starts a server with free ports, its own data folder and these options, each `KEY=VALUE`.
    pub(crate) fn with(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = format!("data_dir={}", folder.path().display());
        let mut server = Self::start(&[&[&*store], options].concat());
        server.folder = Some(folder);
        server
    }

    /// Starts a server with free ports and these options.
    pub(crate) fn start(options: &[&str]) -> Self {
        let server = TestServer::start(&[&["shutdown.drain=0s"], options].concat());
        Self { http: server.http(), tcp: server.tcp(), server, folder: None }
    }

    /// Waits until the broker delivers publications.
    pub(crate) fn until_ready(&self) {
        self.server.wait_until_ready();
    }

    /// Stops the server and returns its data folder.
    pub(crate) fn stop(mut self) -> tempfile::TempDir {
        self.server.stop();
        self.folder.take().expect("a folder of its own")
    }

    /// The folder of the tables.
    pub(crate) fn store(&self) -> std::path::PathBuf {
        self.folder.as_ref().expect("a folder of its own").path().join("tables")
    }

    /// Connects to this path, with additional headers.
    pub(crate) fn viewer(&self, path: &str) -> Viewer {
        Viewer::connect(self.http, path)
    }

    /// Uploads a text in chunks to a new table. Returns the uploader, the table's id and the owner's secret.
    pub(crate) fn shared(&self, name: &str, text: &str) -> (Viewer, String, String) {
        let mut viewer = self.viewer("/tables/ws");
        viewer.upload(name, text.as_bytes());
        let owner = viewer.until("the owner's secret", |message| message["owner"].is_string());
        let view = viewer.view(|view| view["loading"] == false);
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        (viewer, text(&view["uuid"]), text(&owner["owner"]))
    }

    /// The response to a request with `Connection: close`: status, head, body.
    pub(crate) fn ask(&self, request: &[u8]) -> (u16, String, Vec<u8>) {
        let response = self.server.send(request);
        (response.status, response.head, response.bytes)
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String, Vec<u8>) {
        let response = self.server.get(path);
        (response.status, response.head, response.bytes)
    }

    /// Appends rows with the owner's secret.
    pub(crate) fn append(&self, table: &str, secret: &str, kind: &str, rows: &str) -> (u16, Value) {
        let headers = [format!("Authorization: Bearer {secret}"), format!("Content-Type: {kind}")];
        let path = format!("/tables/{table}/rows");
        let response = self.server.post(&path, &headers.each_ref().map(String::as_str), rows);
        (response.status, serde_json::from_str(&response.body).expect("JSON"))
    }
}

/// A message to a viewer.
#[derive(Debug, PartialEq)]
pub(crate) enum Sent {
    Json(Value),
    Close(u16),
    End,
}

/// A WebSocket client.
pub(crate) struct Viewer {
    pub(crate) io: TcpStream,
    reader: Reader,
    message: Vec<u8>,
    input: Vec<u8>,
}

impl Viewer {
    pub(crate) fn connect(address: SocketAddr, path: &str) -> Self {
        Self::open(address, path, &[])
    }

    /// Connects with an additional header.
    pub(crate) fn with_header(address: SocketAddr, path: &str, header: (&str, &str)) -> Self {
        Self::open(address, path, &[header])
    }

    fn open(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut io = TcpStream::connect(address).expect("a connection");
        io.set_nodelay(true).expect("a socket");
        io.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let host = address.to_string();
        let request =
            Request { host: &host, target: path, key: &handshake::key([7; 16]), protocols: &[], headers };
        let mut bytes = Vec::new();
        request.write(&mut bytes);
        io.write_all(&bytes).expect("a handshake sent");
        let mut input = Vec::new();
        let used = loop {
            if let Some(accepted) = handshake::read_answer(&input, &request).expect("an accepted handshake") {
                break accepted.used;
            }
            let mut piece = [0; 4096];
            let read = io.read(&mut piece).expect("an answer");
            assert!(read > 0, "the server closed the connection");
            input.extend_from_slice(&piece[..read]);
        };
        input.drain(..used);
        Self { io, reader: Reader::default(), message: Vec::new(), input }
    }

    pub(crate) fn send(&mut self, message: &Value) {
        self.text(&message.to_string());
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.frame(true, Opcode::Text, text.as_bytes());
    }

    pub(crate) fn binary(&mut self, bytes: &[u8]) {
        self.frame(true, Opcode::Binary, bytes);
    }

    /// Sends one frame.
    pub(crate) fn frame(&mut self, is_final: bool, opcode: Opcode, payload: &[u8]) {
        let mask = [1, 2, 3, 4];
        let mut frame = Vec::new();
        Header { is_final, opcode, mask: Some(mask), length: payload.len() as u64 }.write(&mut frame);
        let start = frame.len();
        frame.extend_from_slice(payload);
        ws::mask(&mut frame[start..], mask, 0);
        self.io.write_all(&frame).expect("a frame sent");
    }

    /// Uploads a file in chunks.
    pub(crate) fn upload(&mut self, name: &str, bytes: &[u8]) {
        self.send(&json!({"upload": {"name": name, "size": bytes.len()}}));
        for chunk in bytes.chunks(1 << 20) {
            self.binary(chunk);
        }
        self.send(&json!({"upload_end": {}}));
    }

    /// The next message.
    pub(crate) fn next(&mut self) -> Sent {
        self.next_within(PATIENCE).unwrap_or_else(|| panic!("nothing came within {PATIENCE:?}"))
    }

    /// The next message within this time.
    pub(crate) fn next_within(&mut self, limit: Duration) -> Option<Sent> {
        let end = Instant::now() + limit;
        let rules = Rules { role: Role::Client, max_message: 64 << 20 };
        loop {
            let (used, event) = self.reader.read(&self.input, &rules, &mut self.message).expect("frames");
            self.input.drain(..used);
            match event {
                Event::Message(_) => {
                    let message = std::mem::take(&mut self.message);
                    let value: Value = serde_json::from_slice(&message).expect("JSON");
                    // The server's ping.
                    if value != json!({}) {
                        return Some(Sent::Json(value));
                    }
                }
                Event::Ping(payload) => {
                    let payload = payload.to_vec();
                    self.frame(true, Opcode::Pong, &payload);
                }
                Event::Pong(_) => {}
                Event::Close(close) => return Some(Sent::Close(close.code().map_or(1005, |code| code.0))),
                Event::Partial => {
                    let left = end.checked_duration_since(Instant::now())?;
                    self.io.set_read_timeout(Some(left.max(Duration::from_millis(1)))).expect("a time-out");
                    let mut piece = [0; 64 << 10];
                    match self.io.read(&mut piece) {
                        Ok(0) => return Some(Sent::End),
                        Ok(read) => self.input.extend_from_slice(&piece[..read]),
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
                        Err(_) => return Some(Sent::End),
                    }
                }
            }
        }
    }

    /// The next message as JSON.
    pub(crate) fn json(&mut self) -> Value {
        match self.next() {
            Sent::Json(value) => value,
            other => panic!("{other:?} instead of a message"),
        }
    }

    /// The next message that matches.
    pub(crate) fn until(&mut self, what: &str, is_match: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let message = self.json();
            if is_match(&message) {
                return message;
            }
            assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}; the last was {message}");
        }
    }

    /// The next view that matches.
    pub(crate) fn view(&mut self, is_match: impl Fn(&Value) -> bool) -> Value {
        self.until("a view", |message| message["uuid"].is_string() && is_match(message))
    }

    /// The code and the text of the next error. Skips views.
    pub(crate) fn error(&mut self) -> (u64, String) {
        let message = self.until("an error", |message| message["error"].is_object());
        let error = &message["error"];
        (error["code"].as_u64().expect("a number"), error["message"].as_str().expect("a text").to_owned())
    }

    /// The close code. Skips messages.
    pub(crate) fn close_code(&mut self) -> u16 {
        loop {
            match self.next() {
                Sent::Json(_) => {}
                Sent::Close(code) => return code,
                Sent::End => panic!("an end without a close frame"),
            }
        }
    }
}

/// A table with this number of rows: `id name value`, tab-separated, with a header.
pub(crate) fn tsv(rows: usize) -> String {
    let mut text = String::from("id\tname\tvalue\n");
    for row in 0..rows {
        text.push_str(&format!("{row:06}\trow {row}\t{}\n", (row * 7919) % rows.max(1)));
    }
    text
}

/// The names of all files below a folder, sorted.
pub(crate) fn listing(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
            let path = entry.path();
            // A record has a temporary name while it is written.
            let passing =
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("record.json."));
            if path.is_dir() {
                folders.push(path);
            } else if !passing {
                names.push(path.strip_prefix(folder).expect("below").display().to_string());
            }
        }
    }
    names.sort();
    names
}

/// The same of a store with a table, after its record is written.
pub(crate) fn kept(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    wait_until(PATIENCE, "the record of a table", || {
        names = listing(folder);
        names.iter().any(|name| name.ends_with("record.json"))
    });
    names
}
