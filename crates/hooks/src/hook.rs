//! One hook: where it is, what is passed on, and what is done when it fails.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use bytes::Bytes;
use http_body_util::Full;
use tidings_hub::{Failure, Rejection, Requester};
use tidings_wire::code;
use tokio::sync::Semaphore;
use tracing::warn;

use super::answer::{Complaint, Outcome};
use super::question::{How, Question};
use super::{HookCounters, HookKind};
use tidings_metrics::Label as _;
use tidings_config::{HttpUrl, StaticHeaders};
use tidings_outbound::{Outbound, TlsError, write_address};

/// Most questions of one hook under way.
pub(super) const MAX_CALLS: usize = 256;
/// Largest answer, in bytes.
const MAX_ANSWER: usize = 1 << 20;
/// How long a connection is kept for the next question. Shorter than servers keep theirs (2 s is the least of the usual
/// ones), because a question that meets a connection being closed fails: it may have been read, so it is not repeated.
const IDLE: Duration = Duration::from_millis(1_500);
/// The shortest time from one complaint in the log to the next.
const APART: Duration = Duration::from_secs(10);

/// What the configuration says of a hook.
pub(super) struct Address<'a> {
    pub(super) endpoint: &'a HttpUrl,
    /// The option that names it.
    pub(super) option: &'static str,
    pub(super) timeout: Duration,
    pub(super) http_headers: &'a [HeaderName],
    pub(super) emulated_headers: &'a [HeaderName],
    pub(super) static_headers: &'a StaticHeaders,
    pub(super) include_meta: bool,
    pub(super) binary: bool,
}

/// A hook.
pub(super) struct Hook {
    kind: HookKind,
    uri: Uri,
    outbound: Outbound,
    timeout: Duration,
    http_headers: Vec<HeaderName>,
    emulated_headers: Vec<HeaderName>,
    /// What every question carries.
    headers: HeaderMap,
    how: How,
    permits: Semaphore,
    counters: Arc<HookCounters>,
    /// When the last complaint was logged, and how many have not been since.
    complaints: Mutex<(Option<Instant>, u64)>,
}

impl Hook {
    /// Prepares to ask; asks nothing yet.
    ///
    /// # Errors
    /// [`TlsError`] for an `https` address when TLS cannot be set up.
    pub(super) fn new(
        kind: HookKind,
        address: &Address<'_>,
        counters: &Arc<HookCounters>,
    ) -> Result<Self, TlsError> {
        let uri = address.endpoint.uri().clone();
        let mut headers: HeaderMap = address.static_headers.iter().cloned().collect();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
        Ok(Self {
            kind,
            outbound: Outbound::new(&uri, address.option, IDLE)?,
            uri,
            timeout: address.timeout,
            http_headers: address.http_headers.to_vec(),
            emulated_headers: address.emulated_headers.to_vec(),
            headers,
            how: How { binary: address.binary, include_meta: address.include_meta },
            permits: Semaphore::new(MAX_CALLS),
            counters: Arc::clone(counters),
            complaints: Mutex::default(),
        })
    }

    /// How it wants its questions.
    pub(super) fn how(&self) -> How {
        self.how
    }

    /// Puts a question about `who`, with the headers that the client could not send, and reads the answer.
    ///
    /// # Errors
    /// What the application says instead of yes; 111 when too many questions are under way, 100 when there is no answer
    /// that is understood.
    pub(super) async fn ask<T>(
        &self,
        who: &Requester,
        emulated: &[(String, String)],
        question: &Question<'_>,
        read: fn(&[u8]) -> Outcome<T>,
    ) -> Result<T, Failure> {
        let Ok(_permit) = self.permits.try_acquire() else {
            self.counters.refused.add(self.kind);
            self.complain(&format!("{MAX_CALLS} questions are under way, so no other is put"));
            return Err(Rejection::from(code::TOO_MANY_REQUESTS).into());
        };
        self.counters.calls.add(self.kind);
        match self.exchange(who, emulated, question, read).await {
            Ok(outcome) => outcome,
            Err(complaint) => {
                self.counters.failures.add(self.kind);
                self.complain(&complaint);
                Err(Rejection::from(code::INTERNAL).into())
            }
        }
    }

    async fn exchange<T>(
        &self,
        who: &Requester,
        emulated: &[(String, String)],
        question: &Question<'_>,
        read: fn(&[u8]) -> Outcome<T>,
    ) -> Outcome<T> {
        let body =
            serde_json::to_vec(question).map_err(|e| format!("the question cannot be written: {e}"))?;
        let mut request = Request::new(Full::from(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers(who, emulated);
        let answer =
            self.outbound.send(request, self.timeout, MAX_ANSWER).await.map_err(|e| e.to_string())?;
        read(&answer).map_err(|complaint: Complaint| format!("the answer {complaint}"))
    }

    /// The headers of a question: those of the configuration, and those of the client that are passed on, which take
    /// their places. A value that no header may hold is left out.
    fn headers(&self, who: &Requester, emulated: &[(String, String)]) -> HeaderMap {
        let mut headers = self.headers.clone();
        let sent = who.about.as_ref().map_or(&[][..], |about| &about.headers);
        for (name, from) in [(&self.emulated_headers, emulated), (&self.http_headers, sent)] {
            for name in name {
                let values = from.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name.as_str()));
                let mut values = values.filter_map(|(_, value)| HeaderValue::from_str(value).ok());
                if let Some(first) = values.next() {
                    headers.insert(name, first);
                    headers.extend(values.map(|value| (name.clone(), value)));
                }
            }
        }
        headers
    }

    /// Says in the log that something went wrong, at most every [`APART`]: a hook that fails, fails for all.
    fn complain(&self, error: &str) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, passed_over) = &mut *complaints;
        if last.is_some_and(|at| at.elapsed() < APART) {
            *passed_over += 1;
            return;
        }
        *last = Some(Instant::now());
        let more = std::mem::take(passed_over);
        drop(complaints);
        warn!(hook = self.kind.label(), address = %self, error, more, "the application was not asked, or did not answer");
    }
}

/// The address without its query, which may hold a secret.
impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_address(&self.uri, f)
    }
}

#[cfg(test)]
mod tests {
    use tidings_hub::ConnectionInfo;

    use super::*;
    use tidings_config::{Overrides, load};

    /// The headers of a question by a hook with these options of `client.proxy.connect`.
    fn headers(options: &[&str], sent: &[(&str, &str)], emulated: &[(&str, &str)]) -> HeaderMap {
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let mut overrides = Overrides::default();
        for option in options.iter().chain(&["endpoint=http://localhost/"]) {
            overrides.set(&format!("client.proxy.connect.{option}")).expect("KEY=VALUE");
        }
        let options = load(None, [], &overrides).expect("a configuration").client.proxy.connect;
        let address = Address {
            endpoint: options.endpoint.as_ref().expect("an address"),
            option: "client.proxy.connect.endpoint",
            timeout: options.timeout,
            http_headers: &options.http_headers,
            emulated_headers: &options.emulated_headers,
            static_headers: &options.http.static_headers,
            include_meta: false,
            binary: false,
        };
        let hook = Hook::new(HookKind::Connect, &address, &Arc::default()).expect("a hook");
        let about = ConnectionInfo { transport: "websocket", headers: pairs(sent) };
        let who = Requester { about: Some(Arc::new(about)), ..Requester::default() };
        let emulated: Vec<_> = pairs(emulated);
        hook.headers(&who, &emulated)
    }

    #[tokio::test]
    async fn headers_that_were_sent_go_before_those_that_could_not_be_and_those_before_static_ones() {
        let all = [
            "http_headers=Cookie,Authorization",
            "emulated_headers=Authorization,X-Static",
            r#"http.static_headers={"X-Static":"s","Authorization":"server"}"#,
        ];
        let sent = [("cookie", "a=1"), ("cookie", "b=2"), ("authorization", "sent"), ("x-other", "o")];
        let passed = headers(&all, &sent, &[("Authorization", "emulated"), ("cookie", "forged")]);
        let values = |name: &str| {
            passed.get_all(name).iter().map(|v| v.to_str().expect("text").to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(values("cookie"), ["a=1", "b=2"]);
        assert_eq!(values("authorization"), ["sent"]);
        assert_eq!(values("x-static"), ["s"]);
        assert_eq!(values("content-type"), ["application/json"]);
        assert!(!passed.contains_key("x-other"));
        let passed = headers(&all, &[], &[("Authorization", "emulated")]);
        assert_eq!(passed.get("authorization").expect("one"), "emulated");
        let passed = headers(&all, &[], &[]);
        assert_eq!(passed.get("authorization").expect("one"), "server");
    }
}
