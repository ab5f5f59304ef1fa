//! Benchmarks of frames and of their compression.
//!
//! `cargo bench -p tidings-websocket`. What the whole server does per delivery is in docs/performance.md.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use tidings_websocket::deflate::{Deflater, Inflater};
use tidings_websocket::{self as ws, Opcode, Reader, Role, Rules};

fn main() {
    divan::main();
}

/// Trades on a market, about `length` bytes of them; real publications are rarely as regular.
fn trades(length: usize) -> String {
    let (mut text, mut seed) = ("[".to_owned(), 7_u64);
    while text.len() < length {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (symbol, price, size) =
            (["AAPL", "MSFT", "GOOG"][(seed >> 60) as usize % 3], seed >> 44, seed >> 54);
        text.push_str(&format!(
            "{{\"symbol\":\"{symbol}\",\"price\":{price},\"size\":{size},\"side\":\"buy\"}},"
        ));
    }
    text.truncate(length.max(2) - 1);
    text + "]"
}

/// Compresses a publication once for all subscribers, at these levels.
#[divan::bench(args = [(1, 256), (1, 1024), (6, 1024), (9, 1024), (1, 16384)])]
fn compress_a_publication(bencher: Bencher, (level, length): (u8, usize)) {
    let text = trades(length);
    let mut deflater = Deflater::new(level, 0);
    let mut out = Vec::with_capacity(length * 2);
    bencher.counter(BytesCount::new(length)).bench_local(|| {
        out.clear();
        deflater.frame_with(Opcode::Text, &mut out, |out| out.extend_from_slice(black_box(text.as_bytes())));
        out.len()
    });
}

#[divan::bench(args = [256, 1024, 16384])]
fn read_a_compressed_frame(bencher: Bencher, length: usize) {
    let (mut bytes, text) = (Vec::new(), trades(length));
    Deflater::new(6, 0).frame_with(Opcode::Text, &mut bytes, |out| out.extend_from_slice(text.as_bytes()));
    // A server's frame, which has no mask.
    let rules = Rules { role: Role::Client, max_message: 65536 };
    let (mut inflater, mut message) = (Inflater::default(), Vec::with_capacity(65536));
    bencher.counter(BytesCount::new(length)).bench_local(|| {
        message.clear();
        Reader::default().read_deflated(black_box(&bytes), &rules, &mut message, &mut inflater).is_ok()
    });
}

#[divan::bench(args = [16, 100, 1024, 65536])]
fn read_a_masked_frame(bencher: Bencher, length: usize) {
    let mut bytes = Vec::new();
    ws::masked_frame(Opcode::Text, &vec![b'x'; length], [1, 2, 3, 4], &mut bytes);
    let rules = Rules { role: Role::Server, max_message: 65536 };
    let mut message = Vec::with_capacity(65536);
    bencher.counter(BytesCount::new(length)).bench_local(|| {
        message.clear();
        Reader::default().read(black_box(&bytes), &rules, &mut message).is_ok()
    });
}
