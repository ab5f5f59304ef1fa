//! Measures shared tables under realistic load: the program on one core, all its users on another. `make bench-tables`
//! runs it beside the engine's own benchmark. Manually:
//!
//! `taskset -c 1 cargo bench -p tidings-client --bench tables -- PROGRAM FILE`, with the program to measure, and a file
//! that the engine's benchmark has created. It prints one line per result: name, value, unit, separated by tabs. Without
//! arguments, as in a test run, it does nothing.
//!
//! The server starts on the caller's cores, so that it detects their number, and moves to core 0.

mod support;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use memchr::memmem;
use mio::{Events, Interest, Poll, Token};
use tidings_client::table::{Credentials, MAX_CHUNK, Upload, UploadEvent};
use tidings_client::{Server, Web};
use tidings_testkit::Tidings;

use support::{Outcome, PATIENCE, Viewer, memory, milliseconds, print, spread, start};

/// The most unsent bytes during an upload.
const AHEAD: usize = 4 * MAX_CHUNK;
const PAGE: u64 = 100;
/// The number of windows that one viewer requests, one after the other.
const WINDOWS: usize = 3_000;
/// The number of viewers during page turns, and of page turns.
const VIEWERS: usize = 1_000;
const TURNS: u64 = 200;
/// The number of these viewers that then have a private view.
const PRIVATE: usize = 100;
/// The interval of changes of the view: that of fast clicks.
const PAUSE: Duration = Duration::from_millis(50);

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let (Some(program), Some(file)) = (arguments.next(), arguments.next()) else {
        println!("usage: cargo bench -p tidings-client --bench tables -- PROGRAM FILE");
        return Ok(());
    };
    let folder = tempfile::tempdir_in(std::path::Path::new(&file).parent().unwrap_or(".".as_ref()))?;
    let data = folder.path().to_str().ok_or("a folder's name is no text")?;
    let server = start(&program, data)?;

    let (uuid, rows) = upload(&server, &file)?;
    let mut asker = Viewer::open(server.http(), &uuid)?;
    asker.until(|message| message.starts_with(b"{\"uuid\""))?;
    windows(&mut asker, rows, "page of 100, as it comes")?;
    turns(&server, &mut asker, &uuid, rows)?;
    // The one before has not answered pings meanwhile.
    asker = Viewer::open(server.http(), &uuid)?;
    asker.until(|message| message.starts_with(b"{\"uuid\""))?;
    question(&mut asker, "sort by number, seen", r#"{"sort":[{"column":3,"desc":false}]}"#)?;
    windows(&mut asker, rows, "page of 100, sorted by number")?;
    question(&mut asker, "unsorted again, seen", r#"{"sort":[]}"#)?;
    question(
        &mut asker,
        "filter by number, 1 %, seen",
        r#"{"filter":[{"column":3,"op":"<","value":"1000"}]}"#,
    )?;
    question(&mut asker, "unfiltered again, seen", r#"{"filter":[]}"#)?;
    question(&mut asker, "search, seen", r#"{"search":"c0ffee"}"#)?;
    Ok(())
}

/// Uploads the file over a WebSocket. Returns the table's id and its number of rows.
fn upload(server: &Tidings, file: &str) -> Outcome<(String, u64)> {
    let mut source = std::fs::File::open(file)?;
    let size = source.metadata()?.len();
    let (own, all) = memory(server.pid());
    let ends = Arc::new(AtomicBool::new(false));
    let watch = {
        let (ends, pid) = (Arc::clone(&ends), server.pid());
        thread::spawn(move || {
            let mut most = (0, 0);
            while !ends.load(Ordering::Relaxed) {
                let (own, all) = memory(pid);
                most = (most.0.max(own), most.1.max(all));
                thread::sleep(Duration::from_millis(20));
            }
            most
        })
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let Server::Web(web) = server.http_url().parse::<Server>()? else { return Err("no web address".into()) };
    let (first, whole, uuid, rows) = runtime.block_on(send(&web, &mut source, size))?;
    ends.store(true, Ordering::Relaxed);
    let most = watch.join().map_err(|_| "the watch has failed")?;
    print("upload: first page after", milliseconds(first), "ms");
    print("upload", size as f64 / 1e6 / whole.as_secs_f64(), "MB/s");
    print("upload: memory above start", most.0.saturating_sub(own) as f64 / 1e6, "MB");
    print(
        "upload: memory above start, the file's pages that it reads included",
        most.1.saturating_sub(all) as f64 / 1e6,
        "MB",
    );
    Ok((uuid, rows))
}

/// Returns the times of the first page and of the complete table, relative to the first byte, and the table's id and
/// its number of rows.
async fn send(
    web: &Web,
    source: &mut std::fs::File,
    size: u64,
) -> Outcome<(Duration, Duration, String, u64)> {
    let mut socket = Upload::begin(web, &Credentials::default(), "big.tsv", Some(size), &[]).await?;
    let mut chunk = vec![0; MAX_CHUNK];
    let (begun, mut first, mut ended) = (Instant::now(), None, false);
    loop {
        while !ended && socket.unsent() < AHEAD {
            let length = source.read(&mut chunk)?;
            ended = length == 0;
            if ended { socket.end()? } else { socket.chunk(&chunk[..length])? }
        }
        socket.exchange().await?;
        while let Some(told) = socket.take()? {
            match told {
                UploadEvent::View(view) if view.loading && view.rows >= PAGE => {
                    first.get_or_insert_with(|| begun.elapsed());
                }
                UploadEvent::View(view) if !view.loading && view.size == size => {
                    let whole = begun.elapsed();
                    return Ok((first.unwrap_or(whole), whole, view.uuid, view.rows));
                }
                UploadEvent::Refused(code, words) => return Err(format!("{code} {words}").into()),
                _ => {}
            }
        }
    }
}

/// One viewer requests private windows at random positions.
fn windows(viewer: &mut Viewer, rows: u64, name: &str) -> Outcome<()> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut times = Vec::with_capacity(WINDOWS);
    for _ in 0..WINDOWS {
        let from = random.u64(0..rows / PAGE) * PAGE;
        let begun = Instant::now();
        viewer.say(&format!(r#"{{"rows":{{"from":{from},"count":{PAGE}}}}}"#))?;
        viewer.until(|message| message.starts_with(b"{\"rows\""))?;
        times.push(begun.elapsed());
    }
    spread(name, times);
    Ok(())
}

/// Changes the view. Reports the time until the change is visible, and whether progress was received before.
fn question(viewer: &mut Viewer, name: &str, words: &str) -> Outcome<()> {
    let (begun, mut progress) = (Instant::now(), 0.0);
    viewer.say(words)?;
    viewer.until(|message| {
        progress += f64::from(u8::from(message.starts_with(b"{\"progress\"")));
        message.starts_with(b"{\"uuid\"")
    })?;
    print(name, milliseconds(begun.elapsed()), "ms");
    print(&format!("{name}: progress"), progress, "messages");
    Ok(())
}

/// One viewer turns pages, a thousand others watch: the time from the request until each of them has received the whole
/// page.
fn turns(server: &Tidings, asker: &mut Viewer, uuid: &str, rows: u64) -> Outcome<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(VIEWERS);
    let mut viewers: Vec<(Viewer, mio::net::TcpStream)> = Vec::with_capacity(VIEWERS);
    for number in 0..VIEWERS {
        let mut viewer = Viewer::open(server.http(), uuid)?;
        viewer.until(|message| message.starts_with(b"{\"uuid\""))?;
        viewer.stream.set_nonblocking(true)?;
        let mut source = mio::net::TcpStream::from_std(viewer.stream.try_clone()?);
        poll.registry().register(&mut source, Token(number), Interest::READABLE)?;
        viewers.push((viewer, source));
        // Connected viewers receive the number of viewers, and must continue to read.
        poll.poll(&mut events, Some(Duration::ZERO))?;
        for event in &events {
            viewers[event.token().0].0.read_all()?;
        }
    }
    let mut times = Vec::with_capacity(VIEWERS * TURNS as usize);
    for turn in 1..=TURNS {
        thread::sleep(PAUSE);
        let number = 1 + (turn * 7_919) % (rows / PAGE);
        let wanted = format!("\"page_no\":{number},");
        let begun = Instant::now();
        asker.say(&format!(r#"{{"page":{number}}}"#))?;
        let mut missing = VIEWERS;
        while missing > 0 {
            poll.poll(&mut events, Some(PATIENCE))?;
            if begun.elapsed() > PATIENCE {
                return Err(format!("{missing} viewers never saw page {number}").into());
            }
            for event in &events {
                let (viewer, _) = &mut viewers[event.token().0];
                viewer.read_all()?;
                while let Some(length) = viewer.whole() {
                    let message = &viewer.inbox[viewer.head()..length];
                    // The first fields of a view are at its beginning.
                    let head = &message[..message.len().min(200)];
                    if memmem::find(head, wanted.as_bytes()).is_some() {
                        times.push(begun.elapsed());
                        missing -= 1;
                    }
                    viewer.remove(length)?;
                }
            }
        }
        asker
            .until(|message| memmem::find(&message[..message.len().min(200)], wanted.as_bytes()).is_some())?;
    }
    spread("a page turn, seen by 1,000", times);
    private_views(server, &mut poll, &mut viewers)
}

/// Some of the viewers have private views, every second one sorted: the time of all their first pages, and the memory of the
/// server with all viewers.
fn private_views(
    server: &Tidings,
    poll: &mut Poll,
    viewers: &mut [(Viewer, mio::net::TcpStream)],
) -> Outcome<()> {
    let (own, all) = memory(server.pid());
    let begun = Instant::now();
    for (number, (viewer, _)) in viewers.iter_mut().take(PRIVATE).enumerate() {
        viewer.say(&match number % 2 {
            0 => {
                let (column, desc) = (number / 2 % 10, number / 20 % 2 == 1);
                format!(r#"{{"private":{{"sort":[{{"column":{column},"desc":{desc}}}]}}}}"#)
            }
            _ => format!(r#"{{"private":{{"search":"c0ffe{number}"}}}}"#),
        })?;
    }
    let (mut have, mut events) = ([false; PRIVATE], Events::with_capacity(VIEWERS));
    // All viewers read meanwhile, and answer pings.
    while have.contains(&false) {
        if begun.elapsed() > 10 * PATIENCE {
            return Err("some viewers have no private view".into());
        }
        poll.poll(&mut events, Some(PATIENCE))?;
        for event in &events {
            let number = event.token().0;
            let (viewer, _) = &mut viewers[number];
            viewer.read_all()?;
            while let Some(length) = viewer.whole() {
                if viewer.inbox[viewer.head()..length].starts_with(b"{\"private\":{")
                    && let Some(have) = have.get_mut(number)
                {
                    *have = true;
                }
                viewer.remove(length)?;
            }
        }
    }
    print("100 private views, first pages of all", milliseconds(begun.elapsed()), "ms");
    let (now_own, now_all) = memory(server.pid());
    print("1,000 viewers: memory", own as f64 / 1e6, "MB");
    print("1,000 viewers, 100 with private views: memory", now_own as f64 / 1e6, "MB");
    print(
        "100 private views: memory above that, the file's pages that it reads included",
        now_all.saturating_sub(all) as f64 / 1e6,
        "MB",
    );
    Ok(())
}
