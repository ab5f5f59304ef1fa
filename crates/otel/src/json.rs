//! The JSON of OTLP (`ExportTraceServiceRequest`, <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>):
//! ids in hexadecimal, 64-bit numbers as text.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::span::{Ended, Value};

/// The status code of a failure.
const ERROR: u8 = 2;
/// The version of the instrumented program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The attributes of this server.
#[derive(Debug)]
pub(crate) struct Resource(Vec<(&'static str, String)>);

impl Resource {
    pub(crate) fn new(service: &str, instance: &str) -> Self {
        Self(vec![
            ("service.name", service.to_owned()),
            ("service.version", VERSION.to_owned()),
            ("service.instance.id", instance.to_owned()),
        ])
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportRequest<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Attributes<'a>,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct Attributes<'a> {
    attributes: Vec<Attribute<'a>>,
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Vec<SpanJson<'a>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpanJson<'a> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    flags: u32,
    name: &'static str,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<Attribute<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u8,
    message: &'a str,
}

#[derive(Serialize)]
struct Attribute<'a> {
    key: &'a str,
    value: AttributeValue<'a>,
}

#[derive(Serialize)]
enum AttributeValue<'a> {
    #[serde(rename = "stringValue")]
    Text(&'a str),
    #[serde(rename = "intValue")]
    Number(String),
}

/// The body of a request with these spans.
pub(crate) fn encode(resource: &Resource, spans: &[Ended]) -> Vec<u8> {
    let attributes = resource.0.iter();
    let attributes = attributes.map(|(key, text)| Attribute { key, value: AttributeValue::Text(text) });
    let request = ExportRequest {
        resource_spans: [ResourceSpans {
            resource: Attributes { attributes: attributes.collect() },
            scope_spans: [ScopeSpans {
                scope: Scope { name: "tidings", version: VERSION },
                spans: spans.iter().map(span_json).collect(),
            }],
        }],
    };
    serde_json::to_vec(&request).expect("text and numbers")
}

fn span_json(span: &Ended) -> SpanJson<'_> {
    let attributes = span.attributes.iter().map(|(key, value)| Attribute {
        key,
        value: match value {
            Value::Text(text) => AttributeValue::Text(text),
            Value::Number(number) => AttributeValue::Number(number.to_string()),
        },
    });
    SpanJson {
        trace_id: format!("{:032x}", span.context.trace_id),
        span_id: format!("{:016x}", span.context.span_id),
        parent_span_id: span.parent.map(|parent| format!("{parent:016x}")),
        flags: u32::from(span.context.is_sampled),
        name: span.name,
        kind: span.kind as u8,
        start_time_unix_nano: nanos(span.began),
        end_time_unix_nano: nanos(span.ended),
        attributes: attributes.collect(),
        status: span.error.as_deref().map(|message| Status { code: ERROR, message }),
    }
}

fn nanos(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

/// The number of spans that a response rejects (`partialSuccess.rejectedSpans`, a number as text or as such).
pub(crate) fn rejected_spans(response: &[u8]) -> u64 {
    let response: serde_json::Value = serde_json::from_slice(response).unwrap_or_default();
    let rejected = &response["partialSuccess"]["rejectedSpans"];
    rejected.as_u64().or_else(|| rejected.as_str()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::context::TraceContext;
    use crate::span::SpanKind;

    #[test]
    fn spans_are_encoded_as_the_protocol_specifies() {
        let began = UNIX_EPOCH + Duration::from_nanos(1_544_712_660_000_000_000);
        let span = Ended {
            context: TraceContext {
                trace_id: 0x5b8e_fff7_9803_8103_d269_b633_813f_c60c,
                span_id: 0xeee1_9b7e_c3c1_b174,
                is_sampled: true,
            },
            parent: Some(0xeee1_9b7e_c3c1_b173),
            name: "publish",
            kind: SpanKind::Server,
            began,
            ended: began + Duration::from_secs(1),
            attributes: vec![("channel", "news".into()), ("channels", 3_u64.into())],
            error: Some("100 internal server error".to_owned()),
        };
        let body = encode(&Resource::new("tidings", "node-1"), &[span]);
        let json: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        let text = |value: &str| serde_json::json!({"stringValue": value});
        assert_eq!(
            json,
            serde_json::json!({"resourceSpans": [{
                "resource": {"attributes": [
                    {"key": "service.name", "value": text("tidings")},
                    {"key": "service.version", "value": text(VERSION)},
                    {"key": "service.instance.id", "value": text("node-1")},
                ]},
                "scopeSpans": [{
                    "scope": {"name": "tidings", "version": VERSION},
                    "spans": [{
                        "traceId": "5b8efff798038103d269b633813fc60c",
                        "spanId": "eee19b7ec3c1b174",
                        "parentSpanId": "eee19b7ec3c1b173",
                        "flags": 1,
                        "name": "publish",
                        "kind": 2,
                        "startTimeUnixNano": "1544712660000000000",
                        "endTimeUnixNano": "1544712661000000000",
                        "attributes": [
                            {"key": "channel", "value": text("news")},
                            {"key": "channels", "value": {"intValue": "3"}},
                        ],
                        "status": {"code": 2, "message": "100 internal server error"},
                    }],
                }],
            }]})
        );
    }

    #[test]
    fn rejected_spans_are_read_from_the_response() {
        assert_eq!(rejected_spans(b"{}"), 0);
        assert_eq!(rejected_spans(b""), 0);
        assert_eq!(rejected_spans(br#"{"partialSuccess":{"rejectedSpans":"2"}}"#), 2);
        assert_eq!(rejected_spans(br#"{"partialSuccess":{"rejectedSpans":3,"errorMessage":"full"}}"#), 3);
    }
}
