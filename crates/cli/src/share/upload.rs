//! Uploads a file, or the present part of one, and prints the links.

use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use tidings_client::Error;
use tidings_client::table::{MAX_CHUNK, OwnedTable, Upload, UploadEvent, View};
use tokio::sync::oneshot;

use super::Share;
use super::meter::{Meter, bytes};
use crate::failure::{Failure, say};
use crate::text::{grouped, print};

/// How much waits to be written before more is read, in bytes.
const UNSENT: usize = 2 * MAX_CHUNK;

/// How long the server may be silent before the upload is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The close code of a server that is being restarted (RFC 6455's registry: Service Restart).
const RESTARTING: u16 = 1012;
/// How long a file is sent again after that, and about how long each attempt waits.
const RESTART: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(1);

fn interrupted() -> Failure {
    Failure::Failed("interrupted: nothing is shared".to_owned())
}

/// The result of an upload.
#[derive(Default)]
struct Made {
    secret: Option<String>,
    view: Option<View>,
    /// Whether the links have been printed.
    shown: bool,
}

/// A table that was made.
pub(super) struct Sent {
    pub(super) table: OwnedTable,
    /// As it was shown when the file was whole.
    pub(super) view: View,
}

/// Why a file was not sent.
pub(super) enum NotSent {
    /// The connection or the server.
    Server(Error),
    /// Anything else, which another attempt does not change.
    Other(Failure),
}

impl From<Error> for NotSent {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

impl From<Failure> for NotSent {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl From<NotSent> for Failure {
    fn from(why: NotSent) -> Self {
        match why {
            NotSent::Server(error) => Self::new(error),
            NotSent::Other(failure) => failure,
        }
    }
}

impl Share {
    /// Sends a whole file; again when the server was restarted meanwhile, for [`RESTART`] at most.
    pub(super) async fn share_file(&self, stop: &mut oneshot::Receiver<()>) -> Result<(), Failure> {
        let mut until = None;
        loop {
            let mut file = File::open(&self.file).map_err(|e| self.unreadable(&e))?;
            let about = file.metadata().map_err(|e| self.unreadable(&e))?;
            if about.is_dir() {
                return Err(Failure::Usage(format!("{} is a folder", self.file.display())));
            }
            // A pipe has no size; it ends when it ends, and cannot be read again.
            let size = about.is_file().then_some(about.len());
            let error = match self.send(&mut file, size, stop).await {
                Ok(_) => return Ok(()),
                Err(NotSent::Server(error)) if size.is_some() => error,
                Err(why) => return Err(why.into()),
            };
            let is_restart = matches!(error, Error::Ended { code: RESTARTING, .. });
            let until = match until {
                Some(until) if is_restart || error.may_pass() => until,
                None if is_restart => *until.insert(Instant::now() + RESTART),
                _ => return Err(Failure::new(error)),
            };
            let delay = AGAIN.mul_f64(1.0 + fastrand::f64());
            if Instant::now() + delay > until {
                return Err(Failure::new(error));
            }
            say(format_args!("{error}; sending the file again in {:.1} s", delay.as_secs_f64()));
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
    ) -> Result<Sent, NotSent> {
        let mut upload = Upload::begin(&self.server, &self.credentials(), &self.title(), size).await?;
        let mut meter = Meter::new(size);
        let mut made = Made::default();
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
                () = tokio::time::sleep(PATIENCE) => {
                    return Err(
                        Failure::Failed(format!("the server was silent for {} s", PATIENCE.as_secs())).into()
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

    /// Prints the links, once, as soon as there are any.
    fn show_links(&self, made: &mut Made) -> Result<(), Failure> {
        let Some(view) = &made.view else { return Ok(()) };
        if std::mem::replace(&mut made.shown, true) {
            return Ok(());
        }
        let link = self.server.url(&format!("/tables/{}", view.uuid));
        let owner = made.secret.as_deref().map(|secret| format!("owner: {link}#owner={secret}\n"));
        print(format!("{link}\n{}", owner.unwrap_or_default()).as_bytes())
    }

    fn made(&self, made: &Made, sent: u64, meter: &Meter) -> Result<Sent, Failure> {
        let (Some(view), Some(secret)) = (&made.view, &made.secret) else {
            return Err(Failure::Failed("the server did not say whose the table is".to_owned()));
        };
        say(format_args!(
            "{} rows of {} columns, {} in {:.1} s",
            grouped(view.rows),
            view.columns,
            bytes(sent),
            meter.elapsed().as_secs_f64()
        ));
        Ok(Sent { table: OwnedTable::new(self.server.clone(), &view.uuid, secret), view: view.clone() })
    }
}

/// Reads until the buffer is full or nothing more comes.
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
