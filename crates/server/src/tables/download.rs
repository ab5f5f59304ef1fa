//! Files on their way out, piece by piece: a peer that does not read holds no more than some pieces.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::Frame;
use tidings_table::{Control, Error, Format, ORIGINAL};
use tokio::sync::mpsc;

use super::Service;
use super::failure::Failure;
use super::room::Look;
use super::session::blocking;

/// How much is read or written at once, and how many such pieces may wait for a peer.
const PIECE: usize = 64 << 10;
const PIECES: usize = 4;

/// A body whose pieces come through a channel. It ends early, as a peer sees, when they end with an error.
struct Pieces(mpsc::Receiver<io::Result<Bytes>>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// The file as it was uploaded, with its length in bytes. What is appended from now on is not in it.
///
/// # Errors
/// The disk's.
pub(super) async fn original(look: &Look) -> Result<(u64, Body), Failure> {
    let path = look.folder.join(ORIGINAL);
    let file = blocking(move || File::open(path)).await??;
    let length = look.view.reading().summary().received;
    let (pieces, body) = mpsc::channel(PIECES);
    // No thread waits for the peer: each piece is read when there is room for it.
    tokio::spawn(async move {
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
    Ok((length, Body::new(Pieces(body))))
}

/// What the view shows now, all of it.
///
/// # Errors
/// 503 when too many are under way: each has a thread.
pub(super) fn view(service: &Arc<Service>, look: Look, format: Format) -> Result<Body, Failure> {
    let Ok(permit) = Arc::clone(&service.exporting).try_acquire_owned() else {
        return Err(Failure::new(503, "too many downloads are under way; try again"));
    };
    let (pieces, body) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let mut out = BufWriter::with_capacity(PIECE, Out(&pieces));
        let written = look.view.write(format, &mut out, Control::default());
        let flushed = written.and_then(|()| out.flush().map_err(Error::Io));
        if let Err(error) = flushed {
            // The peer has gone, or the disk fails; then it sees that something is missing.
            let _ = pieces.blocking_send(Err(io::Error::other(error)));
        }
    });
    Ok(Body::new(Pieces(body)))
}

/// Sends what is written.
struct Out<'a>(&'a mpsc::Sender<io::Result<Bytes>>);

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        self.0.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
