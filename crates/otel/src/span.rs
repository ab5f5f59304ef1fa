//! Spans: operations of a trace.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::context::TraceContext;
use crate::tracer::Inner;

/// Most bytes of a text in a span; the rest is cut off.
pub const MAX_TEXT: usize = 256;
/// Most attributes of a span; further ones are ignored.
pub const MAX_ATTRIBUTES: usize = 16;

tokio::task_local! {
    static CURRENT: Current;
}

/// The span of a task.
#[derive(Clone)]
struct Current {
    tracer: Arc<Inner>,
    context: TraceContext,
}

/// The role of an operation, with its number in OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Within the server.
    Internal = 1,
    /// The handling of a request.
    Server = 2,
    /// A request to another service.
    Client = 3,
    /// The sending of a message.
    Producer = 4,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// A span that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) context: TraceContext,
    pub(crate) parent: Option<u64>,
    pub(crate) name: &'static str,
    pub(crate) kind: SpanKind,
    pub(crate) began: SystemTime,
    pub(crate) ended: SystemTime,
    pub(crate) attributes: Vec<(&'static str, Value)>,
    /// The reason, if the operation failed.
    pub(crate) error: Option<String>,
}

/// A span in progress; it ends when it is dropped. Of a trace that is not sampled, only the context is kept.
#[must_use]
#[derive(Default)]
pub struct Span(Option<Box<Active>>);

struct Active {
    current: Current,
    /// `None` if the trace is not sampled.
    record: Option<Record>,
}

struct Record {
    parent: Option<u64>,
    name: &'static str,
    kind: SpanKind,
    began: (SystemTime, Instant),
    attributes: Vec<(&'static str, Value)>,
    error: Option<String>,
}

impl Span {
    /// Begins a span. It is recorded if its context is sampled.
    pub(crate) fn begin(
        tracer: &Arc<Inner>,
        name: &'static str,
        kind: SpanKind,
        context: TraceContext,
        parent: Option<u64>,
    ) -> Self {
        let record = context.is_sampled.then(|| {
            let began = (SystemTime::now(), Instant::now());
            Record { parent, name, kind, began, attributes: Vec::new(), error: None }
        });
        let current = Current { tracer: Arc::clone(tracer), context };
        Self(Some(Box::new(Active { current, record })))
    }

    fn record(&mut self) -> Option<&mut Record> {
        self.0.as_mut()?.record.as_mut()
    }

    /// Whether attributes are recorded. Callers may skip their preparation otherwise.
    pub fn is_recorded(&self) -> bool {
        self.0.as_ref().is_some_and(|active| active.record.is_some())
    }

    /// The context of the span, for other services.
    pub fn context(&self) -> Option<TraceContext> {
        self.0.as_ref().map(|active| active.current.context)
    }

    /// Sets an attribute.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(record) = self.record()
            && record.attributes.len() < MAX_ATTRIBUTES
        {
            let value = match value.into() {
                Value::Text(text) if text.len() > MAX_TEXT => Value::Text(cut(&text).to_owned().into()),
                value => value,
            };
            record.attributes.push((key, value));
        }
    }

    /// Sets a text attribute, which is copied only if the span is recorded.
    pub fn set_text(&mut self, key: &'static str, text: &str) {
        if self.is_recorded() {
            self.set(key, cut(text).to_owned());
        }
    }

    /// Marks the operation as failed.
    pub fn fail(&mut self, reason: &dyn fmt::Display) {
        if let Some(record) = self.record() {
            record.error = Some(cut(&reason.to_string()).to_owned());
        }
    }

    /// Runs `future` with this span as the parent of [`child`].
    pub async fn scope<F: Future>(&self, future: F) -> F::Output {
        match &self.0 {
            Some(active) => CURRENT.scope(active.current.clone(), future).await,
            None => future.await,
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Span").field("context", &self.context()).finish_non_exhaustive()
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(active) = self.0.take() else { return };
        let Active { current, record: Some(record) } = *active else { return };
        let Record { parent, name, kind, began: (began, at), attributes, error } = record;
        let ended = began + at.elapsed();
        let context = current.context;
        current.tracer.end(Ended { context, parent, name, kind, began, ended, attributes, error });
    }
}

/// Begins a span below the one of [`Span::scope`]; without one nothing is recorded.
pub fn child(name: &'static str, kind: SpanKind) -> Span {
    let begin = |current: &Current| {
        let parent = current.context;
        let context = TraceContext { span_id: crate::tracer::span_id(), ..parent };
        Span::begin(&current.tracer, name, kind, context, Some(parent.span_id))
    };
    CURRENT.try_with(begin).unwrap_or_default()
}

/// The context of [`Span::scope`].
pub(crate) fn current_context() -> Option<TraceContext> {
    CURRENT.try_with(|current| current.context).ok()
}

/// The text up to [`MAX_TEXT`] bytes.
fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(MAX_TEXT)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}
