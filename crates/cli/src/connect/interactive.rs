//! `connect` on a terminal: one loop owns the keyboard, the screen, the socket and the signals.
//!
//! Invariants: everything is printed by this loop, in one write each time, with the line being typed wiped before
//! and drawn again after; the terminal is given back as it was found, however the command ends. A connection that is
//! lost is made again, and the line being typed stays; what was not sent whole is not sent again.

use std::future::pending;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::time::Duration;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use super::editor::{Asked, Editor, WIPE};
use super::keys::{Key, Keys};
use super::reconnect::{delay, reconnect};
use super::{MAX_LINE, READ, UNSENT, left_alone, paint};
use crate::failure::Failure;
use crate::input::{Lines, stdin_chunks};
use crate::text::colours;
use tidings_client::Server;
use tidings_client::stream::{Incoming, Outgoing, reason};

/// How long the server may take to close after `EXIT`: somebody is waiting for the prompt of the shell.
const LEAVING_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes of the server's last line that are kept.
const LAST_LINE: usize = 256;

/// Runs until the user leaves, or the server says that it does not want this client back.
///
/// # Errors
/// The server left for good; the terminal failed.
pub(crate) async fn run(address: &Server, incoming: Incoming, outgoing: Outgoing) -> Result<(), Failure> {
    let mut chunks = stdin_chunks().map_err(|e| terminal_failed(&e))?;
    let mut resized = watch(SignalKind::window_change())?;
    let mut ended =
        [watch(SignalKind::terminate())?, watch(SignalKind::hangup())?, watch(SignalKind::interrupt())?];
    let [terminated, hung_up, interrupted] = &mut ended;
    let mut screen = Screen::take(address)?;
    let mut inbox = Vec::with_capacity(READ);
    let mut outbox = Vec::new();
    let (mut incoming, mut outgoing) = (Some(incoming), Some(outgoing));
    let mut reconnecting = None;
    loop {
        let lost = tokio::select! {
            chunk = chunks.recv(), if !screen.is_leaving() && outbox.len() < UNSENT => {
                match chunk {
                    Some(Ok(bytes)) => screen.typed(&bytes, incoming.is_some(), &mut outbox)?,
                    // The terminal is gone, or at its end.
                    Some(Err(_)) | None => screen.leave(&mut outbox)?,
                }
                if incoming.is_none() && screen.is_leaving() {
                    return Ok(());
                }
                None
            }
            read = read(&mut incoming, &mut inbox) => match read {
                Ok(0) => Some("the server closed it".to_owned()),
                Ok(_) => {
                    screen.arrived(&inbox)?;
                    inbox.clear();
                    None
                }
                Err(e) => Some(reason(&e)),
            },
            // A failed write leaves it to the read to say what the server said last, and how it left.
            written = write(&mut outgoing, &outbox), if !outbox.is_empty() => {
                outbox.drain(..written.unwrap_or(outbox.len()));
                None
            }
            (new_incoming, new_outgoing) = reached(&mut reconnecting) => {
                (incoming, outgoing) = (Some(new_incoming), Some(new_outgoing));
                reconnecting = None;
                screen.remark(&format!("reconnected to {address}; subscriptions have to be made again"))?;
                None
            }
            _ = resized.recv() => {
                screen.redraw()?;
                None
            }
            _ = terminated.recv() => return Ok(()),
            _ = hung_up.recv() => return Ok(()),
            _ = interrupted.recv() => return Ok(()),
            () = screen.left() => return Ok(()),
        };
        let Some(why) = lost else { continue };
        if screen.is_leaving() {
            return Ok(());
        }
        let Some(delay) = delay(&screen.last_line) else { return Err(left_alone(&why)) };
        (incoming, outgoing) = (None, None);
        outbox.clear();
        screen.remark(&format!("connection lost: {why}; reconnecting in {:.1} s", delay.as_secs_f64()))?;
        reconnecting = Some(Box::pin(reconnect(address.clone(), delay)));
    }
}

/// Reads from the connection, while there is one.
async fn read(incoming: &mut Option<Incoming>, inbox: &mut Vec<u8>) -> io::Result<usize> {
    match incoming {
        Some(incoming) => incoming.read_buf(inbox).await,
        None => pending().await,
    }
}

/// Writes to the connection, while there is one.
async fn write(outgoing: &mut Option<Outgoing>, bytes: &[u8]) -> io::Result<usize> {
    match outgoing {
        Some(outgoing) => outgoing.write(bytes).await,
        None => pending().await,
    }
}

/// Completes when the connection is made again, if that is under way.
async fn reached<T>(reconnecting: &mut Option<Pin<Box<impl Future<Output = T>>>>) -> T {
    match reconnecting {
        Some(reconnecting) => reconnecting.await,
        None => pending().await,
    }
}

fn watch(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|e| Failure::Failed(format!("cannot watch for signals: {e}")))
}

fn terminal_failed(error: &io::Error) -> Failure {
    Failure::Failed(format!("the terminal failed: {}", reason(error)))
}

fn too_long() -> Failure {
    Failure::Failed(format!("the server sent a line of more than {MAX_LINE} bytes"))
}

/// The terminal, with the line being typed on its last row.
struct Screen {
    found: Termios,
    coloured: bool,
    keys: Keys,
    editor: Editor,
    arriving: Lines,
    /// The last line that has come: it may say why the server closes the connection.
    last_line: Vec<u8>,
    /// Set once the user leaves: how long the server has to close, and no line is drawn any more.
    leaving: Option<Instant>,
}

impl Screen {
    /// Takes the terminal over: no echo, no line discipline, every key at once.
    fn take(address: &Server) -> Result<Self, Failure> {
        let found = tcgetattr(io::stdin()).map_err(|e| terminal_failed(&e.into()))?;
        let screen = Self {
            found,
            coloured: colours(&io::stdout()),
            keys: Keys::default(),
            editor: Editor::default(),
            arriving: Lines::new(MAX_LINE),
            last_line: Vec::new(),
            leaving: None,
        };
        let mut raw = screen.found.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw).map_err(|e| terminal_failed(&e.into()))?;
        screen.remark(&format!("connected to {address}; EXIT or Ctrl-D leaves"))?;
        Ok(screen)
    }

    /// Prints a line of this command's own above the line being typed.
    fn remark(&self, words: &str) -> Result<(), Failure> {
        let mut text = String::new();
        paint::remark(words, self.coloured, &mut text);
        self.above(&text)
    }

    fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Completes when the server has had its time to close after the user left.
    async fn left(&self) {
        match self.leaving {
            Some(deadline) => sleep_until(deadline).await,
            None => pending().await,
        }
    }

    /// Takes what the keyboard sent; finished lines go to `outbox`. Without a connection no line is finished.
    fn typed(&mut self, bytes: &[u8], is_connected: bool, outbox: &mut Vec<u8>) -> Result<(), Failure> {
        let mut out = String::new();
        for byte in bytes {
            let Some(key) = self.keys.feed(*byte) else { continue };
            if key == Key::Enter && !is_connected {
                out.push('\x07');
                continue;
            }
            match self.editor.press(key) {
                Asked::Redraw => {}
                Asked::Bell => out.push('\x07'),
                Asked::Clear => out.push_str("\x1b[H\x1b[2J"),
                Asked::Leave => {
                    show(&out)?;
                    return self.leave(outbox);
                }
                Asked::Line(line) => {
                    out.push_str(&Editor::finished(&line));
                    outbox.extend_from_slice(line.as_bytes());
                    outbox.extend_from_slice(b"\r\n");
                    if line == "EXIT" {
                        self.leaving = Some(Instant::now() + LEAVING_TIMEOUT);
                        return show(&out);
                    }
                }
            }
        }
        out.push_str(&self.row());
        show(&out)
    }

    /// Says goodbye for a user who leaves without typing `EXIT`.
    fn leave(&mut self, outbox: &mut Vec<u8>) -> Result<(), Failure> {
        outbox.extend_from_slice(b"EXIT\r\n");
        self.leaving = Some(Instant::now() + LEAVING_TIMEOUT);
        show(&Editor::finished(""))
    }

    /// Prints what came from the server, as far as its lines are whole.
    fn arrived(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.arriving.push(bytes);
        let mut rows = Vec::new();
        while let Some(line) = self.arriving.next().map_err(|_| too_long())? {
            let mut row = String::new();
            paint::line(line, self.coloured, &mut row);
            rows.push(row);
            self.last_line.clear();
            self.last_line.extend_from_slice(&line[..line.len().min(LAST_LINE)]);
        }
        if rows.is_empty() { Ok(()) } else { self.above(&rows.join("\r\n")) }
    }

    /// Prints rows above the line being typed.
    fn above(&self, text: &str) -> Result<(), Failure> {
        show(&format!("{WIPE}{text}\r\n{}", self.row()))
    }

    fn redraw(&self) -> Result<(), Failure> {
        show(&self.row())
    }

    fn row(&self) -> String {
        if self.is_leaving() {
            return String::new();
        }
        let columns = tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col));
        self.editor.draw(if columns == 0 { 80 } else { columns })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A line that was being typed stays readable above whatever comes next.
        if !self.is_leaving() {
            let _ = show("\r\n");
        }
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.found);
    }
}

fn show(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| terminal_failed(&e))
}
