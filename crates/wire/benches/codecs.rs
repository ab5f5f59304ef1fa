//! Benchmarks of the codecs' most frequent operations, with bodies of 100 bytes.
//!
//! `cargo bench -p tidings-wire`. What the whole server does per delivery is in docs/performance.md.

use divan::{Bencher, black_box};
use tidings_wire::body::DataFormat;
use tidings_wire::client::Encoding;
use tidings_wire::client::request::{Command, Publish, Request};
use tidings_wire::form::{Context, Message};
use tidings_wire::plain::Escape;
use tidings_wire::resp::{Decoder, Limits};
use tidings_wire::{Channel, Form, Framing, Publication, Topic, form, line, plain, resp};

fn main() {
    divan::main();
}

const TEXT: &[u8] = &[b'x'; 100];
const JSON: &[u8] =
    br#"{"home":"LAL","away":"BOS","score":[101,99],"quarter":4,"clock":"00:03.2","note":"buzzer beater"}"#;

fn context(topic: &Topic) -> Context<'_> {
    Context { topic, default_channel: false, data_format: DataFormat::Auto, escape: Escape::Auto }
}

fn publication(body: &'static [u8]) -> (Topic, Publication) {
    let channel = Channel::new("scores:nba").expect("a name");
    (Topic::Channel(channel.clone()), Publication::new(channel, body))
}

fn encode(bencher: Bencher, form: Form, body: &'static [u8]) {
    let (topic, publication) = publication(body);
    let mut out = Vec::with_capacity(1024);
    bencher.bench_local(|| {
        out.clear();
        form::encode(form, &context(black_box(&topic)), black_box(&publication), &mut out);
        out.len()
    });
}

#[divan::bench(args = [Form::PLAIN, Form::RESP2, Form::RESP3, Form::JSON_LINE])]
fn encode_text(bencher: Bencher, form: Form) {
    encode(bencher, form, TEXT);
}

/// JSON with quoted texts, over several lines.
const PRETTY: &[u8] =
    b"{\n  \"home\": \"LAL\",\n  \"away\": \"BOS\",\n  \"note\": \"\\\"buzzer\\\" beater\",\n  \"score\": [101, 99]\n}\n";

#[divan::bench(args = [JSON, PRETTY])]
fn encode_json_as_plain(bencher: Bencher, body: &'static [u8]) {
    encode(bencher, Form::PLAIN, body);
}

#[divan::bench]
fn encode_json_as_json(bencher: Bencher) {
    encode(bencher, Form::JSON_LINE, JSON);
}

const WS: Framing = Framing::WebSocket { deflate: false };

#[divan::bench(args = [
    Form::new(WS, Message::Reply(Encoding::Json)),
    Form::new(WS, Message::Reply(Encoding::Protobuf)),
    Form::new(Framing::SseEvent, Message::Reply(Encoding::Json)),
    Form::EVENT,
])]
fn encode_for_http(bencher: Bencher, form: Form) {
    encode(bencher, form, JSON);
}

#[divan::bench]
fn read_a_plain_line(bencher: Bencher) {
    let bytes = [b"PUBLISH scores:nba ", TEXT, b"\r\n"].concat();
    bencher.bench_local(|| match line::next(black_box(&bytes), 0, 65536) {
        line::Scan::Line { line, .. } => plain::parse(line).is_ok(),
        _ => unreachable!("a whole line"),
    });
}

#[divan::bench]
fn read_a_resp_command(bencher: Bencher) {
    let mut bytes = Vec::new();
    resp::command(&[b"PUBLISH", b"scores:nba", TEXT], &mut bytes);
    let limits = Limits { max_bulk: 65536, max_args: 1024, max_command: 1 << 17 };
    bencher.bench_local(|| Decoder::default().decode(black_box(&bytes), &limits).is_ok());
}

#[divan::bench(args = [Encoding::Json, Encoding::Protobuf])]
fn read_a_client_command(bencher: Bencher, encoding: Encoding) {
    let publish = Publish { channel: "scores:nba".into(), data: Some(JSON.into()), ..Publish::default() };
    let mut bytes = Vec::new();
    encoding.write_command(&Command { id: 7, request: Request::Publish(publish) }, &mut bytes);
    let message = encoding.messages(&bytes).flatten().next().expect("a message");
    bencher.bench_local(|| encoding.parse_command(black_box(message)).is_ok());
}
