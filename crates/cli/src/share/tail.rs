//! Growing inputs: standard input and files.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidings_row_splitter::{RowEnds, RowSplitter};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::Share;
use super::append::Appender;
use super::upload::SharedTable;
use crate::failure::{Failure, print_notice};
use crate::text::grouped;

/// The most bytes of an input in the initial table. Later bytes are appended.
const HEAD: usize = 1 << 20;
/// The pause of an input after which the table is created.
const PAUSE: Duration = Duration::from_millis(200);
/// The interval of checks of a file.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The size of one read from a file, in bytes.
const READ: usize = 1 << 20;

impl Share {
    /// Creates a table from the first lines of an input, and appends later ones.
    pub(super) async fn share_input(
        &self,
        mut chunks: mpsc::Receiver<io::Result<Vec<u8>>>,
        stop: &mut oneshot::Receiver<()>,
    ) -> Result<(), Failure> {
        let mut head = Vec::new();
        let (end, ended) = tokio::select! {
            first = self.first_lines(&mut chunks, &mut head) => first?,
            _ = &mut *stop => return Ok(()),
        };
        let rest = head.split_off(end);
        let sent = self.send(&mut &head[..], Some(head.len() as u64), stop).await?;
        let mut appender = appender(sent);
        appender.push(&rest);
        if !ended {
            tokio::select! {
                appended = self.append_input(&mut chunks, &mut appender) => appended?,
                _ = stop => {}
            }
        }
        report(&appender);
        Ok(())
    }

    /// Collects the content of the initial table: all of a short input without a pause, otherwise complete lines.
    /// Returns its length in bytes, and whether the input has ended.
    async fn first_lines(
        &self,
        chunks: &mut mpsc::Receiver<io::Result<Vec<u8>>>,
        head: &mut Vec<u8>,
    ) -> Result<(usize, bool), Failure> {
        let mut ends = RowEnds::default();
        loop {
            let lines = usize::try_from(ends.whole()).ok().filter(|end| *end > 0);
            let chunk = match lines {
                Some(end) if head.len() >= HEAD => return Ok((end, false)),
                Some(end) => match timeout(PAUSE, chunks.recv()).await {
                    Ok(chunk) => chunk,
                    Err(_) => return Ok((end, false)),
                },
                None => chunks.recv().await,
            };
            match chunk {
                Some(chunk) => {
                    let chunk = chunk.map_err(|e| self.unreadable(&e))?;
                    ends.push(&chunk);
                    head.extend(chunk);
                }
                None if head.is_empty() => {
                    return Err(Failure::Failed(
                        "standard input is empty: there is nothing to share".to_owned(),
                    ));
                }
                None => return Ok((head.len(), true)),
            }
        }
    }

    async fn append_input(
        &self,
        chunks: &mut mpsc::Receiver<io::Result<Vec<u8>>>,
        appender: &mut Appender,
    ) -> Result<(), Failure> {
        loop {
            appender.lines().await?;
            let Some(chunk) = chunks.recv().await else { return appender.rest().await };
            appender.push(&chunk.map_err(|e| self.unreadable(&e))?);
            // Available chunks are included.
            while let Ok(chunk) = chunks.try_recv() {
                appender.push(&chunk.map_err(|e| self.unreadable(&e))?);
            }
        }
    }

    /// Creates a table from the lines of a file, and appends later ones.
    pub(super) async fn share_growing(&self, stop: &mut oneshot::Receiver<()>) -> Result<(), Failure> {
        let (mut tail, lines) = tokio::select! {
            found = self.first_file() => found?,
            _ = &mut *stop => return Ok(()),
        };
        let mut from = io::Read::take(&tail.file, lines);
        let sent = self.send(&mut from, Some(lines), stop).await?;
        tail.at = lines;
        let mut appender = appender(sent);
        tokio::select! {
            appended = self.append_growing(&mut tail, &mut appender) => appended?,
            _ = stop => {}
        }
        report(&appender);
        Ok(())
    }

    /// Waits for a file with at least one complete line. Returns the file and the length of its complete lines.
    async fn first_file(&self) -> Result<(Tail, u64), Failure> {
        let mut told = false;
        loop {
            match Tail::open(self.path()) {
                Ok(tail) => {
                    let lines = tail.whole_lines().map_err(|e| self.unreadable(&e))?;
                    if lines > 0 {
                        return Ok((tail, lines));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(self.unreadable(&e)),
            }
            if !std::mem::replace(&mut told, true) {
                print_notice(format_args!("waiting for the first line of {}", self.path().display()));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    async fn append_growing(&self, tail: &mut Tail, appender: &mut Appender) -> Result<(), Failure> {
        let mut piece = Vec::new();
        loop {
            piece.clear();
            match tail.read(&mut piece).map_err(|e| self.unreadable(&e))? {
                FileChange::More => appender.push(&piece),
                FileChange::No => sleep(POLL_INTERVAL).await,
                FileChange::Replaced(why) => {
                    print_notice(format_args!(
                        "{} {why}; going on with its beginning",
                        self.path().display()
                    ));
                    appender.begin_again().await?;
                }
            }
            appender.lines().await?;
        }
    }
}

/// The appender of a created table, in the server's dialect.
fn appender(sent: SharedTable) -> Appender {
    let SharedTable { table, view } = sent;
    let splitter = RowSplitter::new(&view.dialect.unwrap_or_default(), view.header);
    Appender::new((table, view.size), splitter)
}

fn report(appender: &Appender) {
    if appender.rows() > 0 {
        print_notice(format_args!("{} rows appended", grouped(appender.rows())));
    }
    if appender.left_out() > 0 {
        print_notice(format_args!("{} rows skipped", grouped(appender.left_out())));
    }
}

/// A growing file, by its name.
struct Tail {
    path: PathBuf,
    file: File,
    /// The number of bytes read.
    at: u64,
}

/// The change of a file.
#[derive(Debug, PartialEq, Eq)]
enum FileChange {
    No,
    More,
    /// Another file has its name, or it was truncated: it is read from its beginning.
    Replaced(&'static str),
}

impl Tail {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: File::open(path)?, at: 0 })
    }

    /// The length of its complete rows, as far as it can be determined before the dialect is known.
    fn whole_lines(&self) -> io::Result<u64> {
        let (mut ends, mut at) = (RowEnds::default(), 0);
        let mut block = vec![0; 64 << 10];
        loop {
            let read = self.file.read_at(&mut block, at)?;
            if read == 0 {
                return Ok(ends.whole());
            }
            ends.push(&block[..read]);
            at += read as u64;
        }
    }

    /// Appends up to a megabyte of new content to `out`.
    fn read(&mut self, out: &mut Vec<u8>) -> io::Result<FileChange> {
        let start = out.len();
        out.resize(start + READ, 0);
        let read = self.file.read_at(&mut out[start..], self.at);
        out.truncate(start + read.as_ref().map_or(0, |read| *read));
        let read = read?;
        self.at += read as u64;
        if read > 0 {
            return Ok(FileChange::More);
        }
        let own = self.file.metadata()?;
        // Another file is opened only after this one was read to its end.
        match fs::metadata(&self.path) {
            Ok(named) if (named.dev(), named.ino()) != (own.dev(), own.ino()) => {
                *self = Self::open(&self.path)?;
                Ok(FileChange::Replaced("was replaced"))
            }
            Ok(_) if own.len() < self.at => {
                self.at = 0;
                Ok(FileChange::Replaced("was cut"))
            }
            // During a rotation there may be no file.
            _ => Ok(FileChange::No),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_file_is_followed_through_growth_cut_and_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "a\nb\nhalf").unwrap();
        let mut tail = Tail::open(&path).unwrap();
        assert_eq!(tail.whole_lines().unwrap(), 4);
        tail.at = 4;
        let read = |tail: &mut Tail| {
            let mut out = Vec::new();
            let grown = tail.read(&mut out).unwrap();
            (grown, String::from_utf8(out).unwrap())
        };
        assert_eq!(read(&mut tail), (FileChange::More, "half".to_owned()));
        assert_eq!(read(&mut tail), (FileChange::No, String::new()));
        File::options().append(true).open(&path).unwrap().write_all(b" done\n").unwrap();
        assert_eq!(read(&mut tail), (FileChange::More, " done\n".to_owned()));
        fs::write(&path, "cut\n").unwrap();
        assert_eq!(read(&mut tail), (FileChange::Replaced("was cut"), String::new()));
        assert_eq!(read(&mut tail), (FileChange::More, "cut\n".to_owned()));
        fs::rename(&path, dir.path().join("log.1")).unwrap();
        assert_eq!(read(&mut tail), (FileChange::No, String::new()));
        fs::write(&path, "new\n").unwrap();
        assert_eq!(read(&mut tail), (FileChange::Replaced("was replaced"), String::new()));
        assert_eq!(read(&mut tail), (FileChange::More, "new\n".to_owned()));
        fs::write(dir.path().join("log.2"), "last\n").unwrap();
        File::options().append(true).open(&path).unwrap().write_all(b"before\n").unwrap();
        fs::rename(dir.path().join("log.2"), &path).unwrap();
        assert_eq!(read(&mut tail).1, "before\n", "what was written before the rotation comes first");
    }
}
