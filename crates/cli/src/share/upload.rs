//! Uploads a file, or its current part, and prints the links.

use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use tidings_client::Error;
use tidings_client::table::{MAX_CHUNK, OwnedTable, Upload, UploadEvent, View};
use tokio::sync::oneshot;

use super::Share;
use super::meter::{Meter, bytes};
use crate::failure::{Failure, print_notice};
use crate::stdout::print;
use crate::text::grouped;

/// The most unsent bytes before reading pauses.
const UNSENT: usize = 2 * MAX_CHUNK;

/// The longest pause of the server before the upload is aborted.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The close code of a server that restarts (RFC 6455's registry: Service Restart).
const RESTARTING: u16 = 1012;
/// The time for which a file is sent again after a restart, and the approximate delay of each attempt.
const RESTART: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(1);

fn interrupted() -> Failure {
    Failure::Failed("interrupted: nothing is shared".to_owned())
}

/// The links of an upload.
#[derive(Default)]
struct UploadLinks {
    secret: Option<String>,
    view: Option<View>,
    /// Whether the links were printed.
    shown: bool,
}

/// A created table.
pub(super) struct SharedTable {
    pub(super) table: OwnedTable,
    /// The view when the file was complete.
    pub(super) view: View,
}

/// The reason why a file was not sent.
pub(super) enum UploadError {
    /// The connection or the server.
    Server(Error),
    /// Any other failure, which is permanent.
    Other(Failure),
}

impl From<Error> for UploadError {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

impl From<Failure> for UploadError {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl From<UploadError> for Failure {
    fn from(why: UploadError) -> Self {
        match why {
            UploadError::Server(error) => Self::new(error),
            UploadError::Other(failure) => failure,
        }
    }
}

impl Share {
    /// Sends a complete file; again if the server restarts meanwhile, for at most [`RESTART`].
    pub(super) async fn share_file(&self, stop: &mut oneshot::Receiver<()>) -> Result<(), Failure> {
        let mut until = None;
        loop {
            let mut file = File::open(self.path()).map_err(|e| self.unreadable(&e))?;
            let about = file.metadata().map_err(|e| self.unreadable(&e))?;
            if about.is_dir() {
                return Err(Failure::Usage(format!("{} is a folder", self.path().display())));
            }
            // A pipe has no size and cannot be read again.
            let size = about.is_file().then_some(about.len());
            let error = match self.send(&mut file, size, stop).await {
                Ok(_) => return Ok(()),
                Err(UploadError::Server(error)) if size.is_some() => error,
                Err(why) => return Err(why.into()),
            };
            let is_restart = matches!(error, Error::Closed { code: RESTARTING, .. });
            let until = match until {
                Some(until) if is_restart || error.is_retryable() => until,
                None if is_restart => *until.insert(Instant::now() + RESTART),
                _ => return Err(Failure::new(error)),
            };
            let delay = AGAIN.mul_f64(1.0 + fastrand::f64());
            if Instant::now() + delay > until {
                return Err(Failure::new(error));
            }
            print_notice(format_args!("{error}; sending the file again in {:.1} s", delay.as_secs_f64()));
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _ = &mut *stop => return Err(interrupted()),
            }
        }
    }

    /// Uploads the bytes of `from`, `size` bytes if that is known, prints the links, and waits until the table is
    /// complete.
    pub(super) async fn send(
        &self,
        from: &mut impl Read,
        size: Option<u64>,
        stop: &mut oneshot::Receiver<()>,
    ) -> Result<SharedTable, UploadError> {
        let mut upload =
            Upload::begin(&self.server, &self.credentials(), &self.title(), size, &self.row_key).await?;
        let mut meter = Meter::new(size);
        let mut made = UploadLinks::default();
        let mut left = size.unwrap_or(u64::MAX);
        let (mut sent, mut ended) = (0, false);
        let mut chunk = vec![0; MAX_CHUNK];
        loop {
            while !ended && upload.unsent() < UNSENT {
                let most = usize::try_from(left).map_or(MAX_CHUNK, |left| left.min(MAX_CHUNK));
                let read = fill(from, &mut chunk[..most]).map_err(|e| self.unreadable(&e))?;
                upload.chunk(&chunk[..read])?;
                sent += read as u64;
                left -= read as u64;
                if read == 0 || left == 0 {
                    upload.end()?;
                    ended = true;
                }
            }
            tokio::select! {
                done = upload.exchange() => done?,
                _ = &mut *stop => {
                    upload.abort()?;
                    upload.close().await;
                    return Err(interrupted().into());
                }
                () = tokio::time::sleep(TIMEOUT) => {
                    return Err(
                        Failure::Failed(format!("the server sent nothing for {} s", TIMEOUT.as_secs())).into()
                    );
                }
            }
            while let Some(told) = upload.take()? {
                match told {
                    UploadEvent::Owner(secret) => made.secret = Some(secret),
                    UploadEvent::Progress { received, rows } => meter.show(received, rows),
                    UploadEvent::Refused(code, words) => {
                        return Err(Failure::Failed(format!(
                            "the server refused the file: {words} ({code})"
                        ))
                        .into());
                    }
                    UploadEvent::View(view) => {
                        let whole = !view.loading;
                        made.view = Some(view);
                        meter.clear();
                        self.show_links(&mut made)?;
                        if whole && ended && upload.unsent() == 0 {
                            upload.close().await;
                            return Ok(self.made(&made, sent, &meter)?);
                        }
                    }
                    UploadEvent::Other => {}
                }
            }
        }
    }

    /// Prints the links once, as soon as they are available.
    fn show_links(&self, made: &mut UploadLinks) -> Result<(), Failure> {
        let Some(view) = &made.view else { return Ok(()) };
        if std::mem::replace(&mut made.shown, true) {
            return Ok(());
        }
        let link = self.server.url(&format!("/tables/{}", view.uuid));
        let owner = made.secret.as_deref().map(|secret| format!("owner: {link}#owner={secret}\n"));
        print(format!("{link}\n{}", owner.unwrap_or_default()).as_bytes())
    }

    fn made(&self, made: &UploadLinks, sent: u64, meter: &Meter) -> Result<SharedTable, Failure> {
        let (Some(view), Some(secret)) = (&made.view, &made.secret) else {
            return Err(Failure::Failed(
                "the server did not send the secret of the table's owner".to_owned(),
            ));
        };
        print_notice(format_args!(
            "{} rows of {} columns, {} in {:.1} s",
            grouped(view.rows),
            view.columns,
            bytes(sent),
            meter.elapsed().as_secs_f64()
        ));
        Ok(SharedTable {
            table: OwnedTable::new(self.server.clone(), &view.uuid, secret),
            view: view.clone(),
        })
    }
}

/// Reads until the buffer is full or the input ends.
fn fill(from: &mut impl Read, buf: &mut [u8]) -> std::io::Result<usize> {
    let mut have = 0;
    while have < buf.len() {
        match from.read(&mut buf[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(have)
}
