//! An application: a small HTTP server that the hooks ask.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use tidings_testkit::{PATIENCE, wait_until};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

/// A question as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Asked {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }
}

/// What it answers on a path.
#[derive(Clone)]
enum Answer {
    Body(StatusCode, String),
    Never,
}

#[derive(Default)]
struct State {
    answers: HashMap<String, Answer>,
    asked: Vec<Asked>,
}

struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The application; it serves until it is dropped.
pub(crate) struct Application {
    shared: Arc<Shared>,
    address: String,
    _runtime: Runtime,
}

impl Application {
    /// Starts it; until it is told what to answer, it says 404.
    pub(crate) fn start() -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Notify::new() });
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let serving = Arc::clone(&shared);
        let router = Router::new().fallback(move |method, uri, headers, body| {
            let shared = Arc::clone(&serving);
            async move { serve(&shared, method, &uri, headers, &body).await }
        });
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { shared, address, _runtime: runtime }
    }

    /// The address of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers so on a path from now on, also to those who wait for an answer.
    pub(crate) fn answer(&self, path: &str, body: impl Display) {
        self.answer_with(path, 200, body);
    }

    /// The same with a status.
    pub(crate) fn answer_with(&self, path: &str, status: u16, body: impl Display) {
        let status = StatusCode::from_u16(status).expect("a status");
        self.set(path, Answer::Body(status, body.to_string()));
    }

    /// Answers nothing on a path, until it is told what.
    pub(crate) fn hold(&self, path: &str) {
        self.set(path, Answer::Never);
    }

    fn set(&self, path: &str, answer: Answer) {
        self.shared.state().answers.insert(path.to_owned(), answer);
        self.shared.changed.notify_waiters();
    }

    /// What it was asked on a path so far.
    pub(crate) fn asked(&self, path: &str) -> Vec<Asked> {
        self.shared.state().asked.iter().filter(|asked| asked.path == path).cloned().collect()
    }

    /// The only question on a path so far.
    pub(crate) fn asked_once(&self, path: &str) -> Asked {
        let asked = self.asked(path);
        let [one] = &asked[..] else { panic!("asked {} times: {asked:?}", asked.len()) };
        one.clone()
    }

    /// Waits until it was asked so often on a path.
    pub(crate) fn wait_for(&self, path: &str, questions: usize) {
        wait_until(PATIENCE, "questions", || self.asked(path).len() >= questions);
    }
}

async fn serve(shared: &Shared, method: Method, uri: &Uri, headers: HeaderMap, body: &Bytes) -> Response {
    let path = uri.path().to_owned();
    let body = serde_json::from_slice(body).unwrap_or(Value::Null);
    shared.state().asked.push(Asked { method, path: path.clone(), headers, body });
    loop {
        let mut changed = std::pin::pin!(shared.changed.notified());
        changed.as_mut().enable();
        let answer = shared.state().answers.get(&path).cloned();
        match answer {
            Some(Answer::Body(status, body)) => return (status, body).into_response(),
            Some(Answer::Never) => changed.await,
            None => return StatusCode::NOT_FOUND.into_response(),
        }
    }
}
