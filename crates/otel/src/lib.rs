//! Traces for OpenTelemetry (`opentelemetry.*`): spans, the W3C trace context, and the export by OTLP/HTTP in JSON.
//!
//! A [`Tracer`] starts the first [`Span`] of an operation, with the context of the caller's request if it has one.
//! Within [`Span::scope`], [`child`] starts further spans, without a tracer being passed along.
//!
//! Invariants:
//! - Without `opentelemetry.endpoint` every operation here is a test of an `Option`; nothing is allocated.
//! - Ending a span never waits: a span that does not fit into the queue of [`QUEUE`] spans is dropped and counted.
//! - A text of an attribute has at most [`MAX_TEXT`] bytes, and a span at most [`MAX_ATTRIBUTES`] attributes. No
//!   attribute contains a body, a token or a key.

mod context;
mod counters;
mod export;
mod json;
mod span;
mod tracer;

pub use context::TraceContext;
pub use export::QUEUE;
pub use span::{MAX_ATTRIBUTES, MAX_TEXT, Span, SpanKind, Value, child};
pub use tracer::{Shutdown, Tracer};
