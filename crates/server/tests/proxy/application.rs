//! An application: a small HTTP server that the hooks call.

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

/// A request of a hook.
#[derive(Clone, Debug)]
pub(crate) struct HookCall {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl HookCall {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }
}

/// The response on a path.
#[derive(Clone)]
enum ConfiguredResponse {
    Body(StatusCode, String),
    Never,
}

#[derive(Default)]
struct State {
    responses: HashMap<String, ConfiguredResponse>,
    calls: Vec<HookCall>,
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
    /// Starts the application, which responds with 404 on every path.
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

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sets the response on a path, also for requests that wait for one.
    pub(crate) fn respond(&self, path: &str, body: impl Display) {
        self.respond_with(path, 200, body);
    }

    /// Sets the response on a path, with a status.
    pub(crate) fn respond_with(&self, path: &str, status: u16, body: impl Display) {
        let status = StatusCode::from_u16(status).expect("a status");
        self.set(path, ConfiguredResponse::Body(status, body.to_string()));
    }

    /// Sends no response on a path until one is set.
    pub(crate) fn hold(&self, path: &str) {
        self.set(path, ConfiguredResponse::Never);
    }

    fn set(&self, path: &str, response: ConfiguredResponse) {
        self.shared.state().responses.insert(path.to_owned(), response);
        self.shared.changed.notify_waiters();
    }

    /// The requests on a path so far.
    pub(crate) fn calls(&self, path: &str) -> Vec<HookCall> {
        self.shared.state().calls.iter().filter(|call| call.path == path).cloned().collect()
    }

    /// The only request on a path so far.
    pub(crate) fn only_call(&self, path: &str) -> HookCall {
        let calls = self.calls(path);
        let [one] = &calls[..] else { panic!("{} requests: {calls:?}", calls.len()) };
        one.clone()
    }

    /// Waits until a path has had this many requests.
    pub(crate) fn wait_for(&self, path: &str, calls: usize) {
        wait_until(PATIENCE, "requests of a hook", || self.calls(path).len() >= calls);
    }
}

async fn serve(shared: &Shared, method: Method, uri: &Uri, headers: HeaderMap, body: &Bytes) -> Response {
    let path = uri.path().to_owned();
    let body = serde_json::from_slice(body).unwrap_or(Value::Null);
    shared.state().calls.push(HookCall { method, path: path.clone(), headers, body });
    loop {
        let mut changed = std::pin::pin!(shared.changed.notified());
        changed.as_mut().enable();
        let response = shared.state().responses.get(&path).cloned();
        match response {
            Some(ConfiguredResponse::Body(status, body)) => return (status, body).into_response(),
            Some(ConfiguredResponse::Never) => changed.await,
            None => return StatusCode::NOT_FOUND.into_response(),
        }
    }
}
