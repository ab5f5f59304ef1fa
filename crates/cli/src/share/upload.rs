//! Sending a file, or what there is of one, and printing the links.

use std::fs::File;
use std::io::Read;

use tidings_client::table::{MAX_CHUNK, Owned, Told, Upload, View};
use tokio::sync::oneshot;

use super::Share;
use super::meter::{Meter, bytes};
use crate::failure::{Failure, say};
use crate::text::{grouped, print};

/// How much waits to be written before more is read, in bytes.
const UNSENT: usize = 2 * MAX_CHUNK;

/// How long the server may be silent before the upload is given up.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// What an upload has come to.
#[derive(Default)]
struct Made {
    secret: Option<String>,
    view: Option<View>,
    /// Whether the links have been printed.
    shown: bool,
}

impl Share {
    /// Sends a whole file.
    pub(super) async fn share_file(&self, stop: &mut oneshot::Receiver<()>) -> Result<(), Failure> {
        let mut file = File::open(&self.file).map_err(|e| self.unreadable(&e))?;
        let about = file.metadata().map_err(|e| self.unreadable(&e))?;
        if about.is_dir() {
            return Err(Failure::Usage(format!("{} is a folder", self.file.display())));
        }
        // A pipe has no size; it ends when it ends.
        let size = about.is_file().then_some(about.len());
        self.send(&mut file, size, stop).await.map(|_| ())
    }

    /// Sends what `from` gives, `size` bytes of it where that is known, prints the links, and waits until the table is
    /// whole. Gives the table and how many bytes its file has.
    pub(super) async fn send(
        &self,
        from: &mut impl Read,
        size: Option<u64>,
        stop: &mut oneshot::Receiver<()>,
    ) -> Result<(Owned, u64), Failure> {
        let mut upload = Upload::begin(&self.server, &self.title(), size).await.map_err(Failure::of)?;
        let mut meter = Meter::new(size);
        let mut made = Made::default();
        let mut left = size.unwrap_or(u64::MAX);
        let (mut sent, mut ended) = (0, false);
        let mut chunk = vec![0; MAX_CHUNK];
        loop {
            while !ended && upload.unsent() < UNSENT {
                let most = usize::try_from(left).map_or(MAX_CHUNK, |left| left.min(MAX_CHUNK));
                let read = fill(from, &mut chunk[..most]).map_err(|e| self.unreadable(&e))?;
                upload.chunk(&chunk[..read]).map_err(Failure::of)?;
                sent += read as u64;
                left -= read as u64;
                if read == 0 || left == 0 {
                    upload.end().map_err(Failure::of)?;
                    ended = true;
                }
            }
            tokio::select! {
                done = upload.exchange() => done.map_err(Failure::of)?,
                _ = &mut *stop => {
                    upload.abort().map_err(Failure::of)?;
                    upload.close().await;
                    return Err(Failure::Failed("interrupted: nothing is shared".to_owned()));
                }
                () = tokio::time::sleep(PATIENCE) => {
                    return Err(Failure::Failed(format!("the server was silent for {} s", PATIENCE.as_secs())));
                }
            }
            while let Some(told) = upload.take().map_err(Failure::of)? {
                match told {
                    Told::Owner(secret) => made.secret = Some(secret),
                    Told::Progress { received, rows } => meter.show(received, rows),
                    Told::Refused(code, words) => {
                        return Err(Failure::Failed(format!(
                            "the server refused the file: {words} ({code})"
                        )));
                    }
                    Told::View(view) => {
                        let whole = !view.loading;
                        made.view = Some(view);
                        meter.clear();
                        self.show_links(&mut made)?;
                        if whole && ended && upload.unsent() == 0 {
                            upload.close().await;
                            return self.made(&made, sent, &meter);
                        }
                    }
                    Told::Other => {}
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

    fn made(&self, made: &Made, sent: u64, meter: &Meter) -> Result<(Owned, u64), Failure> {
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
        Ok((Owned::new(self.server.clone(), &view.uuid, secret), view.size))
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
