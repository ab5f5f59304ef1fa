//! The application behind the shared polls of the scenarios: an HTTP server with a table of values, which the scripts change.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::{Value, json};

/// The values by key, as a response contains them; `null` for a key with which every request fails.
type Values = Arc<Mutex<HashMap<String, Value>>>;

/// A running application.
pub(crate) struct Application {
    /// The URL for values.
    pub(crate) url: String,
    values: Values,
}

impl Application {
    /// Starts on a free port; serves as long as the process runs.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/values", listener.local_addr().expect("an address"));
        let values = Values::default();
        let served = Arc::clone(&values);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let values = Arc::clone(&served);
                // An error is that of a client that has closed the connection.
                thread::spawn(move || drop(serve(stream, &values)));
            }
        });
        Self { url, values }
    }

    /// The option of a server for it, `KEY=VALUE`.
    pub(crate) fn option(&self) -> String {
        format!("channel.proxy.shared_poll_refresh.endpoint={}", self.url)
    }

    /// Sets values: an array of them, as responses contain them.
    pub(crate) fn set(&self, values: &str) {
        let Ok(Value::Array(items)) = serde_json::from_str(values) else { panic!("no array: {values}") };
        let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        for item in items {
            let key = item["key"].as_str().expect("a key").to_owned();
            if item["gone"] == true {
                values.remove(&key);
            } else {
                values.insert(key, if item["fails"] == true { Value::Null } else { item });
            }
        }
    }
}

/// Serves the requests of a connection.
fn serve(stream: TcpStream, values: &Values) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let (mut length, mut line) = (0, String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().expect("a number");
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let request: Value = serde_json::from_slice(&body).expect("JSON");
        let (status, response) = respond(&request, values);
        let response = response.to_string();
        let length = response.len();
        write!(writer, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{response}")?;
    }
}

fn respond(request: &Value, values: &Values) -> (&'static str, Value) {
    let values = values.lock().unwrap_or_else(PoisonError::into_inner);
    let items = request["items"].as_array().expect("items");
    let found: Vec<&Value> =
        items.iter().filter_map(|item| values.get(item["key"].as_str().expect("a key"))).collect();
    if found.iter().any(|value| value.is_null()) {
        return ("500 Internal Server Error", json!({}));
    }
    ("200 OK", json!({ "result": { "items": found } }))
}
