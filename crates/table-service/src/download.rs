//! Downloads, in pieces: a client that does not read holds at most [`PIECES`] of them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::Frame;
use tidings_table::{Control, Error, Export, ORIGINAL};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};

use super::Service;
use super::failure::Failure;
use super::rate::{self, RateMeter};
use super::room::Snapshot;
use super::session::blocking;

/// How much is read or written at once, and how many such pieces may wait for a peer.
const PIECE: usize = 64 << 10;
const PIECES: usize = 4;
/// How many views may be downloaded at once.
const EXPORTS: usize = 32;

/// A body whose pieces arrive through a channel. It ends early, visibly to the client, when the pieces end with an error or
/// their writer has failed.
struct Pieces {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    failed: Arc<AtomicBool>,
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.pieces.poll_recv(cx).map(|piece| match piece {
            Some(piece) => Some(piece.map(Frame::data)),
            None => {
                self.failed.swap(false, Ordering::Acquire).then(|| Err(io::ErrorKind::Interrupted.into()))
            }
        })
    }
}

/// The file as it was uploaded, with its length in bytes. Rows that are appended from now on are not included.
///
/// # Errors
/// The disk's.
pub(super) async fn original(snapshot: &Snapshot) -> Result<(u64, Body), Failure> {
    let path = snapshot.folder.join(ORIGINAL);
    let file = blocking(move || File::open(path)).await??;
    let length = snapshot.view.reading().summary().received;
    let (pieces, body) = mpsc::channel(PIECES);
    // Until the file is sent, its bytes count and the table is in use.
    let (view, place) = (Arc::clone(&snapshot.view), Arc::clone(&snapshot.place));
    // No thread waits for the peer: each piece is read when there is room for it.
    tokio::spawn(async move {
        let _held = (view, place);
        let (file, mut at) = (Arc::new(file), 0);
        while at < length {
            let Ok(room) = pieces.reserve().await else { return };
            let (file, size) = (Arc::clone(&file), (length - at).min(PIECE as u64) as usize);
            let read = blocking(move || {
                let mut piece = vec![0; size];
                file.read_exact_at(&mut piece, at).map(|()| Bytes::from(piece))
            });
            let read = read.await.unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
            at += size as u64;
            let failed = read.is_err();
            room.send(read);
            if failed {
                return;
            }
        }
    });
    Ok((length, Body::new(Pieces { pieces: body, failed: Arc::default() })))
}

/// Downloads of views that are under way.
///
/// Invariants: there are at most [`EXPORTS`], each of which has a thread; when there are as many, the slowest one ends for a
/// new one, if its peer reads more slowly than `tables.min_data_rate`.
#[derive(Debug)]
pub(super) struct Downloads {
    all: Mutex<Vec<Weak<Download>>>,
    least: u64,
    /// Downloads that were ended in favour of other downloads.
    pub(super) gave_way: AtomicU64,
    /// Downloads that were refused because there were too many.
    pub(super) refused: AtomicU64,
}

/// One of them.
#[derive(Debug)]
struct Download {
    meter: RateMeter,
    gives_way: AtomicBool,
    told: Notify,
}

impl Download {
    fn give_way(&self) {
        self.gives_way.store(true, Ordering::Relaxed);
        self.told.notify_one();
    }
}

impl Downloads {
    pub(super) fn new(least: u64) -> Self {
        Self { all: Mutex::default(), least, gave_way: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }

    /// Admits a download, which counts until the returned value is dropped.
    fn enter(&self) -> Result<Arc<Download>, Failure> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|download| download.strong_count() > 0);
        let under_way: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
        let staying: Vec<_> =
            under_way.iter().filter(|download| !download.gives_way.load(Ordering::Relaxed)).collect();
        if staying.len() >= EXPORTS {
            let meters = staying.iter().map(|download| (&download.meter, *download));
            let Some((rate, slow)) = rate::slowest(meters, self.least, Instant::now()) else {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Err(Failure::new(503, "too many downloads are under way; try again"));
            };
            tracing::debug!(rate, "a download that is read too slowly ends for another one");
            self.gave_way.fetch_add(1, Ordering::Relaxed);
            slow.give_way();
        }
        let download = Arc::new(Download {
            meter: RateMeter::new(PIECE as u64, Instant::now()),
            gives_way: AtomicBool::new(false),
            told: Notify::new(),
        });
        all.push(Arc::downgrade(&download));
        Ok(download)
    }
}

/// All rows of the current view. Call within a runtime.
///
/// # Errors
/// 503 when too many are under way that are read fast enough.
pub(super) fn view(service: &Arc<Service>, snapshot: Snapshot, export: Export) -> Result<Body, Failure> {
    let download = service.downloads.enter()?;
    let (pieces, body) = mpsc::channel(PIECES);
    let failed = Arc::new(AtomicBool::new(false));
    let body = Pieces { pieces: body, failed: Arc::clone(&failed) };
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let out = Out { pieces: &pieces, download: &download, runtime: &runtime };
        let mut out = BufWriter::with_capacity(PIECE, out);
        let written = snapshot.view.write(export, &mut out, Control::default());
        let flushed = written.and_then(|()| out.flush().map_err(Error::Io));
        if let Err(error) = flushed {
            // The client has disconnected or is too slow, or the disk has failed. The body ends early, visibly to the client.
            tracing::debug!(%error, "a download has ended early");
            failed.store(true, Ordering::Release);
        }
    });
    Ok(Body::new(body))
}

/// Sends the written bytes.
struct Out<'a> {
    pieces: &'a mpsc::Sender<io::Result<Bytes>>,
    download: &'a Download,
    runtime: &'a Handle,
}

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self { pieces, download, runtime } = self;
        if download.gives_way.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let piece = Bytes::copy_from_slice(bytes);
        download.meter.wait(Instant::now());
        let sent = runtime.block_on(async {
            tokio::select! {
                sent = pieces.send(Ok(piece)) => sent.map_err(|_| io::ErrorKind::BrokenPipe),
                () = download.told.notified() => Err(io::ErrorKind::TimedOut),
            }
        });
        sent?;
        download.meter.advance(bytes.len() as u64, Instant::now());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn readers_that_crawl_keep_nobody_from_downloading() {
        let downloads = Downloads::new(1_000);
        let mut held: Vec<_> = (0..EXPORTS).map(|_| downloads.enter().expect("a place")).collect();
        assert_eq!(downloads.enter().map(|_| ()).expect_err("no place").code, 503);
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).expect("a time");
        for (slow, bytes) in [(3, 4_000), (5, 100)] {
            held[slow].meter.restart(ago(10));
            held[slow].meter.advance(bytes, ago(1));
        }
        held.push(downloads.enter().expect("a place"));
        assert!(held[5].gives_way.load(Ordering::Relaxed) && !held[3].gives_way.load(Ordering::Relaxed));
        held.push(downloads.enter().expect("a place"));
        assert!(held[3].gives_way.load(Ordering::Relaxed));
        assert_eq!(downloads.enter().map(|_| ()).expect_err("no place").code, 503);
        assert_eq!(downloads.gave_way.load(Ordering::Relaxed), 2);
    }
}
