//! Measures a feed of changes onto a large table with a key, as its viewers see it: the program on one core, its users on
//! another. `make bench-tables` runs it.
//!
//! `taskset -c 1 cargo bench -p tidings-client --bench feed -- PROGRAM [ROWS] [SECONDS] [PRIVATE VIEWS] [VIEWERS OF THE SHARED VIEW] [PAGE]`. It
//! prints one line per result: name, value, unit, separated by tabs. Without arguments, as in a test run, it does nothing.
//!
//! With a page, the private views show that page, and the changes are new rows before it: other rows move into the page. The time
//! until a viewer has a message with their number is the time from a change to this viewer.
//!
//! Otherwise the changes replace rows. Each request has a row with a price above all others. The views are sorted by the price, so the time until a viewer has a
//! message with that price is the time from a change to its viewers.

mod support;

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use memchr::memmem;
use mio::{Events, Interest, Poll, Token};
use tidings_client::table::{Credentials, MAX_CHUNK, Upload, UploadEvent};
use tidings_client::{Server, Web};

use support::{Outcome, PATIENCE, Viewer, memory, print, spread, start};

/// The changes of a request, and the interval of requests: 10,000 changes a second.
const CHANGES: usize = 1_000;
const INTERVAL: Duration = Duration::from_millis(100);
/// The first of the prices that are above all others.
const FIRST_PRICE: u64 = 900_000_000;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let Some(program) = arguments.next() else {
        println!(
            "usage: cargo bench -p tidings-client --bench feed -- PROGRAM [ROWS] [SECONDS] [PRIVATE VIEWS] [VIEWERS] [PAGE]"
        );
        return Ok(());
    };
    let mut number = |default| arguments.next().map_or(Ok(default), |argument| argument.parse::<usize>());
    let (rows, seconds, private, viewers) =
        (number(1_000_000)?, number(10)?, number(3)?, number(100)?.max(1));
    let page = number(0)?;
    let folder = tempfile::tempdir()?;
    let server = start(&program, folder.path().to_str().ok_or("a folder's name is no text")?)?;
    let Server::Web(web) = server.http_url().parse::<Server>()? else { return Err("no web address".into()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (uuid, owner) = runtime.block_on(upload(&web, rows))?;
    let mut users = Users::join(server.http(), &uuid, viewers, private, page)?;
    users.wait_for_views()?;

    let processor = processor_time(server.pid());
    let began = Instant::now();
    let sent = Arc::<Mutex<Vec<Instant>>>::default();
    let feed = {
        let (sent, http) = (Arc::clone(&sent), server.http());
        let requests = seconds * 1_000 / INTERVAL.as_millis() as usize;
        thread::spawn(move || {
            feed(http, &uuid, &owner, (rows, page > 0), requests, &sent).map_err(|error| error.to_string())
        })
    };
    while !feed.is_finished() || !users.have_all(&sent) {
        users.read(&sent)?;
        if began.elapsed() > Duration::from_secs(seconds as u64) + PATIENCE {
            println!("some viewers have not received the last price");
            break;
        }
    }
    let responses = feed.join().map_err(|_| "the feed has failed")??;
    let busy =
        processor_time(server.pid()).saturating_sub(processor).as_secs_f64() / began.elapsed().as_secs_f64();
    spread(&format!("a change, seen by {viewers} on the shared sorted view"), users.shared);
    if private > 0 {
        let what = if page > 0 { format!("new rows before page {page}") } else { "a change".to_owned() };
        spread(&format!("{what}, seen on {private} private sorted views"), users.private);
    }
    spread("the response to a request of 1,000 changes", responses);
    print("the processor's time", busy * 100.0, "% of a core");
    print("memory", memory(server.pid()).0 as f64 / 1e6, "MB");
    Ok(())
}

/// Uploads a table with a key. Returns its id and the owner's secret.
async fn upload(web: &Web, rows: usize) -> Outcome<(String, String)> {
    let mut text = "id,price,name\n".to_owned();
    for row in 0..rows {
        writeln!(text, "{row},{},the name of {}", row * 7_919 % 1_000_003, row % 1_000)?;
    }
    let key = ["id".to_owned()];
    let size = Some(text.len() as u64);
    let mut socket = Upload::begin(web, &Credentials::default(), "prices.csv", size, &key).await?;
    let (mut chunks, mut ended, mut owner) = (text.as_bytes().chunks(MAX_CHUNK), false, String::new());
    loop {
        while !ended && socket.unsent() < 4 * MAX_CHUNK {
            match chunks.next() {
                Some(chunk) => socket.chunk(chunk)?,
                None => {
                    ended = true;
                    socket.end()?;
                }
            }
        }
        socket.exchange().await?;
        while let Some(event) = socket.take()? {
            match event {
                UploadEvent::Owner(secret) => owner = secret,
                UploadEvent::View(view) if ended && !view.loading && view.rows > 0 => {
                    return Ok((view.uuid, owner));
                }
                UploadEvent::Refused(code, words) => return Err(format!("{code} {words}").into()),
                _ => {}
            }
        }
    }
}

/// Sends requests with changes of random rows, or with new rows above them. Returns the times of the responses.
fn feed(
    http: SocketAddr,
    uuid: &str,
    owner: &str,
    (rows, are_new): (usize, bool),
    requests: usize,
    sent: &Mutex<Vec<Instant>>,
) -> Outcome<Vec<Duration>> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut stream = TcpStream::connect(http)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut times = Vec::with_capacity(requests);
    let mut next = Instant::now();
    for request in 0..requests {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        next += INTERVAL;
        let mut body = "[".to_owned();
        for change in 0..CHANGES {
            let price = match change {
                0 => FIRST_PRICE + request as u64,
                _ if are_new => random.u64(FIRST_PRICE / 2..FIRST_PRICE),
                _ => random.u64(0..1_000_003),
            };
            let row = if are_new { rows + request * CHANGES + change } else { random.usize(0..rows) };
            let comma = if change == 0 { "" } else { "," };
            write!(body, "{comma}[{row},{price},\"changed\"]")?;
        }
        body.push(']');
        let head = format!(
            "POST /tables/{uuid}/rows?mode=upsert HTTP/1.1\r\nHost: {http}\r\nAuthorization: Bearer {owner}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let begun = Instant::now();
        sent.lock().unwrap_or_else(PoisonError::into_inner).push(begun);
        stream.write_all((head + &body).as_bytes())?;
        let (mut response, mut bytes) = (Vec::new(), [0; 4096]);
        // The response is a line of JSON after its head.
        while !response.ends_with(b"}\n") {
            match stream.read(&mut bytes)? {
                0 => return Err("the server has closed the connection".into()),
                length => response.extend_from_slice(&bytes[..length]),
            }
        }
        if !response.starts_with(b"HTTP/1.1 200") {
            return Err(String::from_utf8_lossy(&response).into());
        }
        times.push(begun.elapsed());
    }
    Ok(times)
}

/// The viewers, and the times until they had the changes.
struct Users {
    poll: Poll,
    events: Events,
    /// Each with whether it has a private view, and the number of prices that it has.
    all: Vec<(Viewer, mio::net::TcpStream, bool, usize)>,
    /// The page of private views, and the number of rows of each before the changes; 0: the first page, where the prices are.
    page: usize,
    rows: Vec<u64>,
    shared: Vec<Duration>,
    private: Vec<Duration>,
}

impl Users {
    /// The viewers of the shared view, which is sorted, and those with sorted private views, each with another query.
    fn join(http: SocketAddr, uuid: &str, viewers: usize, private: usize, page: usize) -> Outcome<Self> {
        let (poll, events) = (Poll::new()?, Events::with_capacity(256));
        let mut all = Vec::new();
        for number in 0..viewers + private {
            let mut viewer = Viewer::open(http, uuid)?;
            viewer.until(|message| message.starts_with(b"{\"uuid\""))?;
            match number {
                0 => viewer.say(r#"{"sort":[{"column":1,"desc":true}]}"#)?,
                _ if number < viewers => {}
                _ => {
                    let (column, desc) = (number % 2 * 2, number / 2 % 2 == 0);
                    let (natural, least) = (number / 4 % 2 == 0, (number - viewers) / 8 * 1_000);
                    viewer.say(&format!(
                        r#"{{"private":{{"sort":[{{"column":1,"desc":true}},{{"column":{column},"desc":{desc},"natural":{natural}}}],"filter":[{{"column":1,"op":">=","value":"{least}"}}],"page":{}}}}}"#,
                        page.max(1)
                    ))?;
                }
            }
            let mut source = mio::net::TcpStream::from_std(viewer.stream.try_clone()?);
            poll.registry().register(&mut source, Token(number), Interest::READABLE)?;
            all.push((viewer, source, number >= viewers, 0));
        }
        let rows = vec![0; all.len()];
        Ok(Self { poll, events, all, page, rows, shared: Vec::new(), private: Vec::new() })
    }

    /// Waits until all views are sorted. All viewers read meanwhile, and answer pings.
    fn wait_for_views(&mut self) -> Outcome<()> {
        let (began, mut have) = (Instant::now(), vec![false; self.all.len()]);
        for (viewer, ..) in &self.all {
            viewer.stream.set_nonblocking(true)?;
        }
        while have.contains(&false) {
            if began.elapsed() > 10 * PATIENCE {
                return Err("some views are not sorted".into());
            }
            let users = self.all.iter_mut().zip(&mut have).zip(&mut self.rows);
            for (((viewer, _, is_private, _), has_view), rows) in users {
                viewer.read_all()?;
                while let Some(length) = viewer.whole() {
                    let message = &viewer.inbox[viewer.head()..length];
                    let head = &message[..message.len().min(40)];
                    *has_view |= memmem::find(head, b"\"private\":{").is_some() == *is_private
                        && memmem::find(message, b"\"sort\":[{").is_some();
                    *rows = total(message).unwrap_or(*rows);
                    viewer.remove(length)?;
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Whether all viewers have the last price that was sent.
    fn have_all(&self, sent: &Mutex<Vec<Instant>>) -> bool {
        let sent = sent.lock().unwrap_or_else(PoisonError::into_inner).len();
        self.all.iter().all(|(.., prices)| *prices == sent)
    }

    /// Reads the messages that have arrived.
    fn read(&mut self, sent: &Mutex<Vec<Instant>>) -> Outcome<()> {
        self.poll.poll(&mut self.events, Some(Duration::from_millis(50)))?;
        let sent = sent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for event in &self.events {
            let (viewer, _, is_private, prices) = &mut self.all[event.token().0];
            viewer.read_all()?;
            while let Some(length) = viewer.whole() {
                let message = &viewer.inbox[viewer.head()..length];
                // A viewer with a private view receives the shared one, too.
                let is_of_view = !*is_private || message.starts_with(b"{\"private\":{");
                let newest = (*prices..sent.len()).rev().find(|number| {
                    if *is_private && self.page > 0 {
                        let wanted = self.rows[event.token().0] + (CHANGES * (number + 1)) as u64;
                        return total(message).is_some_and(|total| total >= wanted);
                    }
                    memmem::find(message, (FIRST_PRICE + *number as u64).to_string().as_bytes()).is_some()
                });
                if let Some(newest) = newest.filter(|_| is_of_view) {
                    let times = if *is_private { &mut self.private } else { &mut self.shared };
                    times.extend(sent[*prices..=newest].iter().map(Instant::elapsed));
                    *prices = newest + 1;
                }
                viewer.remove(length)?;
            }
        }
        Ok(())
    }
}

/// The number of rows of a view.
fn total(message: &[u8]) -> Option<u64> {
    let field = b"\"total_number\":";
    let digits = &message[memmem::find(message, field)? + field.len()..];
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// The time that a process has used of all cores.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The fields after the name, which may contain spaces (proc(5)): utime and stime are the 12th and 13th, in ticks of 10 ms.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    Duration::from_millis(
        fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10,
    )
}
