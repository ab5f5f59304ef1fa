//! An identity provider: a small HTTP server that publishes a key set, or misbehaves.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fixtures::jwk;

/// The response of the provider.
#[derive(Clone)]
pub(crate) enum Answer {
    /// A key set of these keys.
    Keys(Vec<Value>),
    /// These bytes, unchanged.
    Raw(Vec<u8>),
    /// A body without an end, as fast as the client reads.
    Endless,
    /// A head, then one byte after another, slowly.
    Drip,
}

impl Answer {
    /// A key set of fixtures.
    pub(crate) fn of(names: &[&str]) -> Self {
        Self::Keys(names.iter().map(|name| jwk(name)).collect())
    }

    /// An answer with this status line and body.
    pub(crate) fn with(status: &str, body: &str) -> Self {
        Self::Raw(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
    }
}

struct State {
    answer: Answer,
    /// The heads of the requests so far.
    requests: Vec<String>,
    /// Whether responses are held back.
    held: bool,
}

struct Shared {
    state: Mutex<State>,
    released: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The provider. It serves until the test ends.
pub(crate) struct Provider {
    shared: Arc<Shared>,
    address: String,
}

impl Provider {
    pub(crate) fn start(answer: Answer) -> Self {
        Self::start_with(answer, Some)
    }

    /// A provider that serves the stream that `wrap` makes of a connection; it drops the connection when that is
    /// `None`.
    pub(crate) fn start_with<S: Read + Write>(
        answer: Answer,
        wrap: impl Fn(TcpStream) -> Option<S> + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let state = State { answer, requests: Vec::new(), held: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), released: Condvar::new() });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, wrap) = (Arc::clone(&serving), wrap.clone());
                // The client may close the connection at any time.
                thread::spawn(move || wrap(stream).map(|stream| serve(&shared, stream)));
            }
        });
        Self { shared, address }
    }

    /// The URL of its key set.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/keys?realm=a", self.address)
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.rsplit_once(':').expect("a port").1.parse().expect("a number")
    }

    /// Sets the response from now on.
    pub(crate) fn answer(&self, answer: Answer) {
        self.shared.state().answer = answer;
    }

    /// Holds all responses until [`Self::release`].
    pub(crate) fn hold(&self) {
        self.shared.state().held = true;
    }

    pub(crate) fn release(&self) {
        self.shared.state().held = false;
        self.shared.released.notify_all();
    }

    /// The heads of the requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.state().requests.clone()
    }
}

fn serve(shared: &Shared, stream: impl Read + Write) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let mut state = shared.state();
    state.requests.push(head);
    let answer = state.answer.clone();
    while state.held {
        state = shared.released.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    drop(state);
    let stream = stream.get_mut();
    match answer {
        Answer::Keys(keys) => {
            let body = json!({"keys": keys}).to_string();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok()?;
        }
        Answer::Raw(bytes) => stream.write_all(&bytes).ok()?,
        Answer::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").ok()?;
            loop {
                stream.write_all(format!("1000\r\n{}\r\n", " ".repeat(0x1000)).as_bytes()).ok()?;
            }
        }
        Answer::Drip => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n").ok()?;
            loop {
                stream.write_all(b" ").and_then(|()| stream.flush()).ok()?;
                thread::sleep(Duration::from_millis(50));
            }
        }
    }
    stream.flush().ok()
}
