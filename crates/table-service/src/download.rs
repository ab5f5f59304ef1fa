//! Downloads, in pieces. For each client at most [`PIECES`] of them are in memory.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
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

/// The size of one piece, and the most pieces that are queued for a peer.
const PIECE_SIZE: usize = 64 << 10;
const PIECES: usize = 4;
/// The most concurrent downloads of views.
pub const MAX_EXPORTS: usize = 32;

/// A response body that receives its pieces through a channel. It fails visibly for the client when a piece is an error
/// or the writer has failed.
struct ChunkedBody {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    failed: Arc<AtomicBool>,
}

impl hyper::body::Body for ChunkedBody {
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

/// The uploaded file and its length in bytes. Rows that are appended later are not included.
///
/// # Errors
/// Errors of the disk.
pub(super) async fn original(snapshot: &Snapshot) -> Result<(u64, Body), Failure> {
    let path = snapshot.folder.join(ORIGINAL);
    let file = blocking(move || File::open(path)).await??;
    let length = snapshot.view.reading().summary().received;
    let (pieces, body) = mpsc::channel(PIECES);
    // The bytes of the file count and the table is in use until the file is sent.
    let (view, table_folder) = (snapshot.view.clone(), Arc::clone(&snapshot.table_folder));
    // No thread is blocked by the peer: each piece is read when the channel has room.
    tokio::spawn(async move {
        let _held = (view, table_folder);
        let (file, mut at) = (Arc::new(file), 0);
        while at < length {
            let Ok(room) = pieces.reserve().await else { return };
            let (file, size) = (Arc::clone(&file), (length - at).min(PIECE_SIZE as u64) as usize);
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
    Ok((length, Body::new(ChunkedBody { pieces: body, failed: Arc::default() })))
}

/// The running downloads of views.
///
/// Invariants:
/// - There are at most [`MAX_EXPORTS`], each with a thread. At the limit the slowest one is ended for a new one, if its
///   peer reads more slowly than `tables.min_data_rate`.
/// - An address has at most its limit, so that one client does not occupy all of them.
#[derive(Debug)]
pub(super) struct ActiveDownloads {
    all: Mutex<Vec<Weak<Download>>>,
    least: u64,
    /// Downloads that were ended in favour of other downloads.
    pub(super) gave_way: AtomicU64,
    /// Downloads that were refused because there were too many.
    pub(super) refused: AtomicU64,
}

/// A running download.
#[derive(Debug)]
struct Download {
    /// The address that it is counted for.
    address: Option<IpAddr>,
    meter: RateMeter,
    gives_way: AtomicBool,
    gives_way_signal: Notify,
}

impl Download {
    fn give_way(&self) {
        self.gives_way.store(true, Ordering::Relaxed);
        self.gives_way_signal.notify_one();
    }
}

impl ActiveDownloads {
    pub(super) fn new(least: u64) -> Self {
        Self { all: Mutex::default(), least, gave_way: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }

    /// Admits a download of an address with this limit. It counts until the returned value is dropped.
    fn admit(&self, limit: Option<(IpAddr, usize)>) -> Result<Arc<Download>, Failure> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|download| download.strong_count() > 0);
        let active: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
        if let Some((address, most)) = limit
            && active.iter().filter(|download| download.address == Some(address)).count() >= most
        {
            self.refused.fetch_add(1, Ordering::Relaxed);
            let what = format!(
                "an address may run {most} downloads at once (tables.address_download_limit); try again when one has ended"
            );
            return Err(Failure::new(429, what));
        }
        let staying: Vec<_> =
            active.iter().filter(|download| !download.gives_way.load(Ordering::Relaxed)).collect();
        if staying.len() >= MAX_EXPORTS {
            let meters = staying.iter().map(|download| (&download.meter, *download));
            let Some((rate, slow)) = rate::slowest(meters, self.least, Instant::now()) else {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Err(Failure::new(503, "too many downloads are running; try again"));
            };
            tracing::debug!(rate, "a slow download was ended for another one");
            self.gave_way.fetch_add(1, Ordering::Relaxed);
            slow.give_way();
        }
        let download = Arc::new(Download {
            address: limit.map(|(address, _)| address),
            meter: RateMeter::new(PIECE_SIZE as u64, Instant::now()),
            gives_way: AtomicBool::new(false),
            gives_way_signal: Notify::new(),
        });
        all.push(Arc::downgrade(&download));
        Ok(download)
    }
}

/// Streams all rows of the current view. Call within a runtime.
///
/// # Errors
/// 429 when the limit of the address is reached; 503 when all downloads are in use and none is slow.
pub(super) fn view(
    service: &Arc<Service>,
    snapshot: Snapshot,
    export: Export,
    limit: Option<(IpAddr, usize)>,
) -> Result<Body, Failure> {
    let download = service.downloads.admit(limit)?;
    let (pieces, body) = mpsc::channel(PIECES);
    let failed = Arc::new(AtomicBool::new(false));
    let body = ChunkedBody { pieces: body, failed: Arc::clone(&failed) };
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        let out = BodyWriter { pieces: &pieces, download: &download, runtime: &runtime };
        let mut out = BufWriter::with_capacity(PIECE_SIZE, out);
        let written = snapshot.view.write(export, &mut out, Control::default());
        let flushed = written.and_then(|()| out.flush().map_err(Error::Io));
        if let Err(error) = flushed {
            // The client has disconnected or is too slow, or the disk has failed. The body fails visibly for the
            // client.
            tracing::debug!(%error, "a download was not completed");
            failed.store(true, Ordering::Release);
        }
    });
    Ok(Body::new(body))
}

/// Writes into the channel of a response body.
struct BodyWriter<'a> {
    pieces: &'a mpsc::Sender<io::Result<Bytes>>,
    download: &'a Download,
    runtime: &'a Handle,
}

impl Write for BodyWriter<'_> {
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
                () = download.gives_way_signal.notified() => Err(io::ErrorKind::TimedOut),
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
    fn slow_readers_do_not_block_other_downloads() {
        let downloads = ActiveDownloads::new(1_000);
        let mut held: Vec<_> = (0..MAX_EXPORTS).map(|_| downloads.admit(None).expect("a place")).collect();
        assert_eq!(downloads.admit(None).map(|_| ()).expect_err("no place").code, 503);
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).expect("a time");
        for (slow, bytes) in [(3, 4_000), (5, 100)] {
            held[slow].meter.restart(ago(10));
            held[slow].meter.advance(bytes, ago(1));
        }
        held.push(downloads.admit(None).expect("a place"));
        assert!(held[5].gives_way.load(Ordering::Relaxed) && !held[3].gives_way.load(Ordering::Relaxed));
        held.push(downloads.admit(None).expect("a place"));
        assert!(held[3].gives_way.load(Ordering::Relaxed));
        assert_eq!(downloads.admit(None).map(|_| ()).expect_err("no place").code, 503);
        assert_eq!(downloads.gave_way.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn an_address_cannot_occupy_all_downloads() {
        let downloads = ActiveDownloads::new(1_000);
        let address = |last: u8| Some((IpAddr::from([192, 0, 2, last]), 3));
        let held: Vec<_> = (0..3).map(|_| downloads.admit(address(1)).expect("a place")).collect();
        let refused = downloads.admit(address(1)).map(|_| ()).expect_err("too many of an address");
        assert_eq!(refused.code, 429);
        assert!(refused.message.contains("tables.address_download_limit"), "{}", refused.message);
        assert_eq!(downloads.refused.load(Ordering::Relaxed), 1);
        let other = downloads.admit(address(2)).expect("a place for another address");
        drop((held, other));
        assert!(downloads.admit(address(1)).is_ok());
    }
}
