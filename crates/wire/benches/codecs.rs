//! How long a codec takes for what it does all day, with bodies of 100 bytes.
//!
//! `cargo bench -p tidings-wire`. What the whole server does per delivery is in docs/performance.md.

use divan::{Bencher, black_box};
use tidings_wire::body::DataFormat;
use tidings_wire::form::Context;
use tidings_wire::resp::{Decoder, Limits};
use tidings_wire::{Channel, Form, Publication, Topic, client, form, line, plain, resp};

fn main() {
    divan::main();
}

const TEXT: &[u8] = &[b'x'; 100];
const JSON: &[u8] =
    br#"{"home":"LAL","away":"BOS","score":[101,99],"quarter":4,"clock":"00:03.2","note":"buzzer beater"}"#;

fn encode(bencher: Bencher, form: Form, body: &'static [u8]) {
    let channel = Channel::new("scores:nba").expect("a name");
    let publication = Publication::new(channel.clone(), body);
    let topic = Topic::Channel(channel);
    let context = Context { topic: &topic, default_channel: false, data_format: DataFormat::Auto };
    let mut out = Vec::with_capacity(1024);
    bencher.bench_local(|| {
        out.clear();
        form::encode(form, black_box(&context), black_box(&publication), &mut out);
        out.len()
    });
}

#[divan::bench(args = [Form::Plain, Form::Resp2, Form::Resp3, Form::JsonLine])]
fn encode_text(bencher: Bencher, form: Form) {
    encode(bencher, form, TEXT);
}

#[divan::bench]
fn encode_json_as_json(bencher: Bencher) {
    encode(bencher, Form::JsonLine, JSON);
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

#[divan::bench]
fn read_a_json_command(bencher: Bencher) {
    let bytes = [br#"{"id":7,"publish":{"channel":"scores:nba","data":"#, JSON, b"}}"].concat();
    bencher.bench_local(|| client::parse_json(black_box(&bytes)).is_ok());
}
