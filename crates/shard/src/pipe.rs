//! A connection without a socket: one stream of an HTTP/2 connection, which a task of the HTTP server carries.
//!
//! The session of such a stream lives in a shard like any other. The shard writes into a small buffer instead of a
//! socket; the task takes the bytes as the flow control of the stream permits. So queues, bounds, slow-consumer policies
//! and the end of a connection are those of every connection, and a stream that its client does not read delays no other.
//!
//! Invariants:
//! - Each direction holds at most [`CAPACITY`] bytes. A full buffer is a socket that would block.
//! - The shard gets at most one unhandled message about readiness ([`ReadinessReceiver`]) per stream. It is posted when room has become free for
//!   which the shard waits, when input has arrived, and at the end of the stream.
//! - Bytes that the shard has accepted are sent, unless the stream breaks.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes};
use tidings_hub::SessionId;
use tidings_wire::code::HttpStatus;

use crate::write_layer::WriteLayer;

/// Most bytes in each direction of a stream.
pub(crate) const CAPACITY: usize = 16 * 1024;

/// The start of a response whose head another component writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseOutcome {
    /// The stream is open: the response is a 200.
    Open,
    /// The request is refused with this status. The body is an error in JSON.
    Refused(HttpStatus),
    /// A limit of connections is reached: the request is refused with this status for now. The body is text.
    Unavailable(HttpStatus),
}

/// Output of a stream for its peer.
#[derive(Debug, PartialEq, Eq)]
pub enum PipeOutput {
    /// Bytes, at least one.
    Bytes(Bytes),
    /// The stream ends here.
    End,
    /// The shard has ended the stream before all bytes were taken.
    Aborted,
}

/// Receives messages about the readiness of streams, as events of a socket.
pub(crate) trait ReadinessReceiver: Send + Sync {
    /// Posts that the stream of a session has room or input, or has ended.
    fn post_readiness(&self, session: SessionId);
}

/// Called when the shard drops its side, with whether it has ended the stream before.
pub(crate) type OnEnd = Box<dyn FnOnce(bool) + Send>;

#[derive(Default)]
struct State {
    output: Vec<u8>,
    /// No output follows.
    finished: bool,
    /// The shard waits until output is taken.
    wants_room: bool,
    outcome: Option<ResponseOutcome>,
    input: Bytes,
    /// No input follows.
    input_finished: bool,
    /// The task has dropped its side before it has taken all output.
    broken: bool,
    /// The shard has dropped its side.
    abandoned: bool,
    /// The task that waits for output.
    reader: Option<Waker>,
    /// The task that waits for input to be read.
    writer: Option<Waker>,
    /// The session of the stream, and the receiver of its readiness.
    session: Option<(Arc<dyn ReadinessReceiver>, SessionId)>,
    /// A message about readiness is on its way to the shard.
    is_posted: bool,
    on_end: Option<OnEnd>,
}

#[derive(Default)]
struct Shared {
    peer: Option<IpAddr>,
    state: Mutex<State>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Pipe")
            .field("output", &state.output.len())
            .field("input", &state.input.len())
            .field("finished", &state.finished)
            .field("broken", &state.broken)
            .finish_non_exhaustive()
    }
}

/// Creates both ends of a stream, see [`Socket::pipe`](crate::Socket::pipe).
pub(crate) fn pipe(peer: Option<IpAddr>, on_end: OnEnd) -> (Pipe, PipeEnd) {
    let shared = Arc::new(Shared { peer, ..Shared::default() });
    shared.lock().on_end = Some(on_end);
    (Pipe(Arc::clone(&shared)), PipeEnd(shared))
}

/// The shard's side.
#[derive(Debug)]
pub struct Pipe(Arc<Shared>);

/// The changes of a stream since the last time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readiness {
    /// The stream has broken.
    pub(crate) broken: bool,
    /// No more input follows.
    pub(crate) input_finished: bool,
}

impl Pipe {
    pub(crate) fn peer(&self) -> Option<IpAddr> {
        self.0.peer
    }

    /// Sets the receiver of readiness.
    pub(crate) fn attach(&self, receiver: Arc<dyn ReadinessReceiver>, session: SessionId) {
        self.0.lock().session = Some((receiver, session));
    }

    /// Handles the message about readiness; a later change posts another one.
    pub(crate) fn take_readiness(&self) -> Readiness {
        let mut state = self.0.lock();
        state.is_posted = false;
        Readiness { broken: state.broken, input_finished: state.input_finished }
    }

    /// Starts the response, unless it has started.
    pub(crate) fn start_response(&self, outcome: ResponseOutcome) {
        let mut state = self.0.lock();
        state.outcome.get_or_insert(outcome);
        wake(state.reader.take(), state);
    }

    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        if state.broken {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if state.input.is_empty() {
            return if state.input_finished { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let n = state.input.len().min(buffer.len());
        state.input.copy_to_slice(&mut buffer[..n]);
        if state.input.is_empty() {
            state.input = Bytes::new();
            wake(state.writer.take(), state);
        }
        Ok(n)
    }

    /// Whether accepted bytes are not taken yet. A message follows when they are.
    pub(crate) fn is_behind(&self) -> bool {
        let mut state = self.0.lock();
        let is_behind = !state.output.is_empty() && !state.broken;
        state.wants_room |= is_behind;
        is_behind
    }

    /// Ends the output.
    pub(crate) fn finish(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.finished = true;
        wake(state.reader.take(), state);
        Ok(())
    }
}

impl WriteLayer for Pipe {
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.0.lock();
        if state.broken || state.finished {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let all: usize = slices.iter().map(|slice| slice.len()).sum();
        let taken = all.min(CAPACITY - state.output.len());
        state.wants_room |= taken < all;
        let mut left = taken;
        if state.output.is_empty() {
            state.output.reserve_exact(taken);
        }
        for slice in slices {
            let part = &slice[..slice.len().min(left)];
            state.output.extend_from_slice(part);
            left -= part.len();
        }
        if taken > 0 {
            wake(state.reader.take(), state);
        }
        Ok(taken)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.abandoned = true;
        state.session = None;
        state.input = Bytes::new();
        let (reader, writer, on_end) = (state.reader.take(), state.writer.take(), state.on_end.take());
        let finished = state.finished;
        drop(state);
        [reader, writer].into_iter().flatten().for_each(Waker::wake);
        if let Some(on_end) = on_end {
            on_end(finished);
        }
    }
}

/// Wakes a task after the lock is released.
fn wake(waker: Option<Waker>, state: MutexGuard<'_, State>) {
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Posts readiness to the shard after the lock is released, unless a message is on its way.
fn post(mut state: MutexGuard<'_, State>) {
    let Some((receiver, session)) = &state.session else { return };
    if state.is_posted {
        return;
    }
    let (receiver, session) = (Arc::clone(receiver), *session);
    state.is_posted = true;
    drop(state);
    receiver.post_readiness(session);
}

/// Stores the waker of a task that waits.
fn wait(waker: &mut Option<Waker>, cx: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(cx.waker()),
        none => *none = Some(cx.waker().clone()),
    }
}

/// The side of the task that carries the stream. Dropping it ends the stream.
#[derive(Debug)]
pub struct PipeEnd(Arc<Shared>);

impl PipeEnd {
    /// Waits for the start of the response; `None` if the shard has ended the stream without one.
    pub fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<Option<ResponseOutcome>> {
        let mut state = self.0.lock();
        if state.outcome.is_some() || state.abandoned {
            return Poll::Ready(state.outcome);
        }
        wait(&mut state.reader, cx);
        Poll::Pending
    }

    /// Waits for output.
    pub fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<PipeOutput> {
        let mut state = self.0.lock();
        if !state.output.is_empty() {
            let output = std::mem::take(&mut state.output);
            if std::mem::take(&mut state.wants_room) {
                post(state);
            }
            return Poll::Ready(PipeOutput::Bytes(output.into()));
        }
        if state.finished {
            return Poll::Ready(PipeOutput::End);
        }
        if state.abandoned {
            return Poll::Ready(PipeOutput::Aborted);
        }
        wait(&mut state.reader, cx);
        Poll::Pending
    }

    /// Waits until the shard has read all input; `false` if it reads no more.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.0.lock();
        if state.abandoned {
            return Poll::Ready(false);
        }
        if state.input.is_empty() {
            return Poll::Ready(true);
        }
        wait(&mut state.writer, cx);
        Poll::Pending
    }

    /// Passes input to the shard: at most [`CAPACITY`] bytes, after [`Self::poll_room`].
    pub fn push_input(&mut self, bytes: Bytes) {
        debug_assert!(bytes.len() <= CAPACITY);
        let mut state = self.0.lock();
        if !state.abandoned {
            state.input = bytes;
            post(state);
        }
    }

    /// Ends the input.
    pub fn finish_input(&mut self) {
        let mut state = self.0.lock();
        state.input_finished = true;
        post(state);
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.broken = !state.finished || !state.output.is_empty();
        state.input_finished = true;
        state.output = Vec::new();
        (state.reader, state.writer) = (None, None);
        post(state);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use tidings_wire::code;

    use super::*;

    /// Counts wake-ups.
    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Both ends, and whether the shard's end was dropped after it has finished.
    fn ends() -> (Pipe, PipeEnd, Arc<Mutex<Option<bool>>>) {
        let ended = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&ended);
        let on_end = move |has_finished| *seen.lock().unwrap() = Some(has_finished);
        let (pipe, end) = pipe(None, Box::new(on_end));
        (pipe, end, ended)
    }

    fn output(end: &mut PipeEnd) -> Poll<PipeOutput> {
        end.poll_output(&mut Context::from_waker(Waker::noop()))
    }

    fn bytes(text: &'static [u8]) -> Poll<PipeOutput> {
        Poll::Ready(PipeOutput::Bytes(Bytes::from_static(text)))
    }

    #[test]
    fn accepted_bytes_are_bounded_and_arrive_in_order_before_the_end() {
        let (mut pipe, mut end, _) = ends();
        assert!(output(&mut end).is_pending());
        let slices = [IoSlice::new(b"one "), IoSlice::new(b""), IoSlice::new(b"two")];
        assert_eq!(pipe.write_vectored(&slices).unwrap(), 7);
        assert!(pipe.is_behind());
        assert_eq!(output(&mut end), bytes(b"one two"));
        assert!(!pipe.is_behind());
        let many = vec![b'x'; CAPACITY + 1];
        assert_eq!(pipe.write_some(&many).unwrap(), CAPACITY);
        let blocked = pipe.write_vectored(&[IoSlice::new(b"x")]).unwrap_err();
        assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
        pipe.finish().unwrap();
        assert!(matches!(output(&mut end), Poll::Ready(PipeOutput::Bytes(all)) if all.len() == CAPACITY));
        assert_eq!(output(&mut end), Poll::Ready(PipeOutput::End));
        assert_eq!(pipe.write_some(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_task_that_waits_is_woken_once_for_several_writes() {
        let (mut pipe, mut end, _) = ends();
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        assert!(end.poll_output(&mut Context::from_waker(&waker)).is_pending());
        for _ in 0..3 {
            assert_eq!(pipe.write_some(b"x").unwrap(), 1);
        }
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert_eq!(output(&mut end), bytes(b"xxx"));
    }

    #[test]
    fn input_is_passed_one_chunk_at_a_time() {
        let (pipe, mut end, _) = ends();
        let room = |end: &mut PipeEnd| end.poll_room(&mut Context::from_waker(Waker::noop()));
        let mut buffer = [0; 4];
        assert_eq!(pipe.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(room(&mut end), Poll::Ready(true));
        end.push_input(Bytes::from_static(b"hello"));
        assert!(room(&mut end).is_pending());
        assert_eq!(pipe.read(&mut buffer).unwrap(), 4);
        assert!(room(&mut end).is_pending());
        assert_eq!(pipe.read(&mut buffer).unwrap(), 1);
        assert_eq!(room(&mut end), Poll::Ready(true));
        end.finish_input();
        assert_eq!(pipe.read(&mut buffer).unwrap(), 0);
        drop(pipe);
        assert_eq!(room(&mut end), Poll::Ready(false));
    }

    #[test]
    fn each_side_notices_the_end_of_the_other() {
        for finishes in [false, true] {
            let (pipe, mut end, ended) = ends();
            if finishes {
                pipe.finish().unwrap();
            }
            drop(pipe);
            assert_eq!(*ended.lock().unwrap(), Some(finishes));
            let last = if finishes { PipeOutput::End } else { PipeOutput::Aborted };
            assert_eq!(output(&mut end), Poll::Ready(last));
        }
        let (mut pipe, end, _) = ends();
        assert_eq!(pipe.write_some(b"unread").unwrap(), 6);
        drop(end);
        assert!(pipe.take_readiness().broken && !pipe.is_behind());
        assert_eq!(pipe.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert!(pipe.write_some(b"x").is_err());
        let (pipe, end, _) = ends();
        pipe.finish().unwrap();
        drop(end);
        assert!(!pipe.take_readiness().broken, "everything was taken");
        assert_eq!(pipe.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn the_outcome_of_a_response_is_reported_once() {
        const UNAVAILABLE: ResponseOutcome = ResponseOutcome::Unavailable(code::http_status(3013));
        let (pipe, mut end, _) = ends();
        let outcome = |end: &mut PipeEnd| end.poll_outcome(&mut Context::from_waker(Waker::noop()));
        assert!(outcome(&mut end).is_pending());
        pipe.start_response(UNAVAILABLE);
        pipe.start_response(ResponseOutcome::Open);
        assert_eq!(outcome(&mut end), Poll::Ready(Some(UNAVAILABLE)));
        let (pipe, mut end, _) = ends();
        drop(pipe);
        assert_eq!(outcome(&mut end), Poll::Ready(None));
    }
}
