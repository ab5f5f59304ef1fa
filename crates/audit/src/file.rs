//! The file of the audit log, and the thread that writes it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use tidings_log_throttle::LogThrottle;

use crate::{AuditCounters, LeftOut};

/// Most events that wait for the file.
const QUEUE: usize = 1_024;
/// Most bytes of an event: seven texts, each byte of which may become an escape of six.
#[cfg(test)]
pub(crate) const MAX_LINE: usize = 12 << 10;
/// The mode of a new file.
const MODE: u32 = 0o600;

/// A message to the writer.
enum Message {
    Event(Vec<u8>),
    Reopen,
    /// Responds when all earlier messages are processed.
    Flush(Sender<()>),
}

/// The file, written by a thread that ends with this value.
#[derive(Debug)]
pub(crate) struct AuditFile {
    path: PathBuf,
    writer: SyncSender<Message>,
}

impl AuditFile {
    /// Opens the file, and starts its writer.
    pub(crate) fn open(path: &Path, counters: &Arc<AuditCounters>) -> io::Result<Self> {
        let mut writer = Writer {
            file: open(path)?,
            path: path.to_owned(),
            has_torn_line: false,
            counters: Arc::clone(counters),
            failures: LogThrottle::new(),
        };
        let (sender, messages) = sync_channel(QUEUE);
        thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run(&messages))?;
        Ok(Self { path: path.to_owned(), writer: sender })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Queues a line. Returns `false` if the queue is full.
    pub(crate) fn write(&self, line: Vec<u8>) -> bool {
        self.writer.try_send(Message::Event(line)).is_ok()
    }

    /// Requests that the file be opened again.
    pub(crate) fn reopen(&self) {
        if self.writer.try_send(Message::Reopen).is_err() {
            tracing::warn!(path = %self.path.display(), "the audit log is behind and cannot be opened again; send SIGHUP again");
        }
    }

    /// Waits until the queue is written, for at most `timeout`.
    pub(crate) fn flush(&self, timeout: Duration) {
        let (done, flushed) = channel();
        if self.writer.try_send(Message::Flush(done)).is_ok() {
            let _ = flushed.recv_timeout(timeout);
        }
    }
}

struct Writer {
    file: File,
    path: PathBuf,
    /// The last line was written in part, so the next one begins with a line end.
    has_torn_line: bool,
    counters: Arc<AuditCounters>,
    failures: LogThrottle,
}

impl Writer {
    fn run(&mut self, messages: &Receiver<Message>) {
        for message in messages {
            match message {
                Message::Event(line) => self.write(line),
                Message::Reopen => match open(&self.path) {
                    Ok(file) => (self.file, self.has_torn_line) = (file, false),
                    Err(error) => {
                        let path = self.path.display();
                        tracing::error!(%path, %error, "the audit log cannot be opened again; the file that is open stays in use");
                    }
                },
                Message::Flush(done) => {
                    let _ = done.send(());
                }
            }
        }
    }

    fn write(&mut self, mut line: Vec<u8>) {
        if self.has_torn_line {
            line.insert(0, b'\n');
        }
        let written = self.file.write_all(&line);
        self.has_torn_line = written.is_err();
        if let Err(error) = written {
            self.counters.left_out.add(LeftOut::Write);
            if let Some(count) = self.failures.count() {
                let path = self.path.display();
                tracing::error!(%path, %error, count, "the audit log cannot be written; events are missing in it");
            }
        }
    }
}

/// Opens a file for appending; a new one is readable by this user only.
fn open(path: &Path) -> io::Result<File> {
    // A pipe without a reader would block.
    if path.metadata().is_ok_and(|meta| meta.file_type().is_fifo() || meta.is_dir()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}
