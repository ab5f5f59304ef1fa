//! Bytes and time of deltas for three kinds of payloads.
//!
//! `cargo bench -p tidings-fossil`. Each row is the mean of a series of publications, where each one is a delta to the one
//! before. The results are in docs/performance.md.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use tidings_fossil::create;

/// Publications of a series.
const COUNT: usize = 1_000;
/// Measurements of a series; the fastest one counts.
const ROUNDS: usize = 15;

/// A generator of numbers with a fixed seed, so that every run has the same payloads.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// The scores of 20 matches. Each publication changes the minute of all matches or an event of one.
fn scores() -> Vec<String> {
    let mut numbers = Numbers(1);
    let mut goals = [[0_usize; 2]; 20];
    let mut shots = [[0_usize; 2]; 20];
    let document = |at: usize, goals: &[[usize; 2]; 20], shots: &[[usize; 2]; 20]| {
        let matches = (0..20).map(|n| {
            format!(
                r#"{{"id":"m{}","home":"Home United {n}","away":"Away City {n}","score":[{},{}],"shots":[{},{}],"minute":{},"status":"live"}}"#,
                4_000 + n, goals[n][0], goals[n][1], shots[n][0], shots[n][1], at / 11
            )
        });
        format!(r#"{{"league":"first","matches":[{}]}}"#, matches.collect::<Vec<_>>().join(","))
    };
    (0..=COUNT)
        .map(|at| {
            let (game, side) = (numbers.below(20), numbers.below(2));
            shots[game][side] += 1;
            goals[game][side] += usize::from(numbers.below(8) == 0);
            document(at, &goals, &shots)
        })
        .collect()
}

/// An order book with 25 levels on each side. Each publication changes the sizes of up to 6 levels, and each fifth one moves
/// the best price.
fn order_book() -> Vec<String> {
    let mut numbers = Numbers(2);
    let mut middle = 6_412_350;
    let mut sizes: Vec<usize> = (0..50).map(|_| 1_000 + numbers.below(900_000)).collect();
    (0..=COUNT)
        .map(|at| {
            if at % 5 == 4 {
                // One level disappears on one side, and one appears on the other.
                middle += 50;
                sizes.remove(25);
                sizes.push(1_000 + numbers.below(900_000));
                sizes.pop();
                sizes.insert(0, 1_000 + numbers.below(900_000));
            }
            for _ in 0..=numbers.below(6) {
                let level = numbers.below(50);
                sizes[level] = 1_000 + numbers.below(900_000);
            }
            let side = |sizes: &[usize], sign: isize| {
                let levels = sizes.iter().enumerate().map(|(level, size)| {
                    let price = middle + sign * 50 * (level as isize + 1);
                    format!(
                        r#"["{}.{:02}","{}.{:04}"]"#,
                        price / 100,
                        price % 100,
                        size / 10_000,
                        size % 10_000
                    )
                });
                levels.collect::<Vec<_>>().join(",")
            };
            format!(
                r#"{{"symbol":"BTC-EUR","sequence":{},"bids":[{}],"asks":[{}]}}"#,
                88_000_000 + at,
                side(&sizes[..25], -1),
                side(&sizes[25..], 1)
            )
        })
        .collect()
}

/// The view of a table with 50 rows and 8 columns. Each publication changes 3 cells, and each tenth one shows a new row on top.
fn table_view() -> Vec<String> {
    let mut numbers = Numbers(3);
    let row = |number: usize, numbers: &mut Numbers| -> Vec<String> {
        let mut cells = vec![format!("2026-11-{:02} 10:{:02}:00", 1 + number % 28, number % 60)];
        cells.push(format!("customer {:05}", numbers.below(99_999)));
        cells.push(["open", "paid", "sent", "returned"][numbers.below(4)].to_owned());
        cells.extend((0..5).map(|_| format!("{}.{:02}", numbers.below(9_999), numbers.below(100))));
        cells
    };
    let mut rows: Vec<_> = (0..50).map(|number| row(number, &mut numbers)).collect();
    (0..=COUNT)
        .map(|at| {
            if at % 10 == 9 {
                rows.pop();
                rows.insert(0, row(50 + at, &mut numbers));
            }
            for _ in 0..3 {
                let (row, column) = (numbers.below(50), 3 + numbers.below(5));
                rows[row][column] = format!("{}.{:02}", numbers.below(9_999), numbers.below(100));
            }
            let mut text = format!(
                r#"{{"uuid":"0d7d1f3c-9f5a-4a55-8f0f-6f4d5f1c9a3e","page_no":1,"total_number":{},"data":["#,
                50 + at / 10
            );
            for (index, cells) in rows.iter().enumerate() {
                let separator = if index == 0 { "" } else { "," };
                let quoted: Vec<_> = cells.iter().map(|cell| format!("\"{cell}\"")).collect();
                let _ = write!(text, "{separator}[{}]", quoted.join(","));
            }
            let _ = write!(text, r#"],"page_size":50,"version":{at},"changed_by":{{"by":"api"}}}}"#);
            text
        })
        .collect()
}

/// Bytes of a text as a string in JSON.
fn string_len(text: &[u8]) -> usize {
    2 + text.iter().map(|byte| if matches!(byte, b'"' | b'\\' | b'\n') { 2 } else { 1 }).sum::<usize>()
}

fn main() {
    println!("{COUNT} publications each; bytes and µs are means");
    println!("payload     in full   Protobuf: delta  saved   JSON: delta  saved   µs/delta");
    for (name, series) in [("scores", scores()), ("order book", order_book()), ("table view", table_view())] {
        let pairs = || series.windows(2).map(|pair| (pair[0].as_bytes(), pair[1].as_bytes()));
        let deltas: Vec<Vec<u8>> = pairs().map(|(source, target)| create(source, target)).collect();
        let full: usize = pairs().map(|(_, target)| target.len()).sum();
        let binary: usize = deltas.iter().map(Vec::len).sum();
        let text: usize = deltas.iter().map(|delta| string_len(delta)).sum();
        let fastest = (0..ROUNDS)
            .map(|_| {
                let begin = Instant::now();
                pairs().for_each(|(source, target)| {
                    black_box(create(black_box(source), black_box(target)));
                });
                begin.elapsed()
            })
            .min()
            .unwrap_or(Duration::ZERO);
        let saved = |bytes: usize| 100.0 * (1.0 - bytes as f64 / full as f64);
        println!(
            "{name:<10} {:>8} {:>17} {:>5.1}% {:>13} {:>5.1}% {:>10.1}",
            full / COUNT,
            binary / COUNT,
            saved(binary),
            text / COUNT,
            saved(text),
            fastest.as_secs_f64() * 1e6 / COUNT as f64
        );
    }
}
