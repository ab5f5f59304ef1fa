//! `tidings connect` on a terminal. One loop handles key presses, output, the socket and signals.
//!
//! Invariants: all output is printed by this loop, in single writes that erase the typed line before and redraw it
//! after; the settings of the terminal are restored however the command ends. A lost connection is reestablished, and
//! the typed line stays; a line that was not sent completely is not sent again.

use std::cell::Cell;
use std::future::pending;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::time::Duration;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use super::echoes::Echoes;
use super::editor::{Editor, EditorAction, WIPE};
use super::history::History;
use super::keys::{Key, KeyDecoder};
use super::reconnect::{delay, reconnect};
use super::{MAX_LINE, READ, UNSENT, connection_lost, paint};
use crate::failure::Failure;
use crate::input::{Lines, stdin_chunks};
use crate::text::colours;
use tidings_client::Server;
use tidings_client::error::reason;
use tidings_client::stream::{Incoming, Outgoing};

/// The time for the server to close after `EXIT`.
const LEAVING_TIMEOUT: Duration = Duration::from_secs(1);

/// Enables marks around pasted text, and disables them (xterm, "Bracketed Paste Mode").
const PASTE_ON: &str = "\x1b[?2004h";
const PASTE_OFF: &str = "\x1b[?2004l";

/// Queries the position of the cursor (ECMA-48 DSR).
const WHERE: &str = "\x1b[6n";

/// The output of `HELP`.
const HELP: [&str; 12] = [
    "SUBSCRIBE [channel]      subscribe to a channel (default: updates)",
    "UNSUBSCRIBE [channel]    end the subscription",
    "PUBLISH channel body     publish a message",
    "AUTH token               authenticate with a connection token or the API key",
    "PING                     test the connection; the reply is PONG",
    "EXIT                     close the connection; also Ctrl-C, and Ctrl-D on an empty line",
    "HELP                     show this list; not sent to the server",
    "The reply to any other line is its echo, or UNKNOWN COMMAND.",
    "Keys: arrows, Home, End, Alt-B, Alt-F; Up and Down for earlier lines;",
    "Ctrl-U, Ctrl-K, Ctrl-W delete; Ctrl-L clears. Pasted lines are sent with Enter.",
    "Colours: green confirmed, yellow unchanged, red error, cyan message,",
    "magenta echo. Lines that may contain a secret are not stored in the history.",
];

/// The most bytes of the server's last line that are kept.
const LAST_LINE: usize = 256;

/// Runs until the user ends it, or the server forbids reconnecting.
///
/// # Errors
/// The server forbids reconnecting; the terminal failed.
pub(crate) async fn run(
    address: &Server,
    keeps_history: bool,
    incoming: Incoming,
    outgoing: Outgoing,
) -> Result<(), Failure> {
    let mut chunks = stdin_chunks().map_err(|e| terminal_failed(&e))?;
    let mut resized = watch(SignalKind::window_change())?;
    let mut ended =
        [watch(SignalKind::terminate())?, watch(SignalKind::hangup())?, watch(SignalKind::interrupt())?];
    let [terminated, hung_up, interrupted] = &mut ended;
    let mut screen = Screen::enter_raw_mode(address, keeps_history)?;
    let mut inbox = Vec::with_capacity(READ);
    let mut outbox = Vec::new();
    let (mut incoming, mut outgoing) = (Some(incoming), Some(outgoing));
    let mut reconnecting = None;
    loop {
        let lost = tokio::select! {
            chunk = chunks.recv(), if !screen.is_leaving() && outbox.len() < UNSENT => {
                match chunk {
                    Some(Ok(bytes)) => screen.typed(&bytes, incoming.is_some(), &mut outbox)?,
                    // The terminal was closed, or its input has ended.
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
            // After a failed write, the next read returns the server's last lines and the kind of close.
            written = write(&mut outgoing, &outbox), if !outbox.is_empty() => {
                outbox.drain(..written.unwrap_or(outbox.len()));
                None
            }
            (new_incoming, new_outgoing) = reached(&mut reconnecting) => {
                (incoming, outgoing) = (Some(new_incoming), Some(new_outgoing));
                reconnecting = None;
                screen.remark(&format!("reconnected to {address}; subscriptions must be renewed"))?;
                None
            }
            _ = resized.recv() => {
                screen.resized()?;
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
        let Some(delay) = delay(&screen.last_line) else { return Err(connection_lost(&why)) };
        (incoming, outgoing) = (None, None);
        outbox.clear();
        screen.echoes.clear();
        screen.remark(&format!("connection lost: {why}; reconnecting in {:.1} s", delay.as_secs_f64()))?;
        reconnecting = Some(Box::pin(reconnect(address.clone(), delay)));
    }
}

/// Reads from the connection, if there is one.
async fn read(incoming: &mut Option<Incoming>, inbox: &mut Vec<u8>) -> io::Result<usize> {
    match incoming {
        Some(incoming) => incoming.read_buf(inbox).await,
        None => pending().await,
    }
}

/// Writes to the connection, if there is one.
async fn write(outgoing: &mut Option<Outgoing>, bytes: &[u8]) -> io::Result<usize> {
    match outgoing {
        Some(outgoing) => outgoing.write(bytes).await,
        None => pending().await,
    }
}

/// Completes when a pending reconnect succeeds.
async fn reached<T>(reconnecting: &mut Option<Pin<Box<impl Future<Output = T>>>>) -> T {
    match reconnecting {
        Some(reconnecting) => reconnecting.await,
        None => pending().await,
    }
}

fn watch(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|e| Failure::Failed(format!("cannot handle signals: {e}")))
}

fn terminal_failed(error: &io::Error) -> Failure {
    Failure::Failed(format!("the terminal failed: {}", reason(error)))
}

fn too_long() -> Failure {
    Failure::Failed(format!("the server sent a line of more than {MAX_LINE} bytes"))
}

/// The terminal, with the typed line on its last row.
struct Screen {
    found: Termios,
    coloured: bool,
    keys: KeyDecoder,
    editor: Editor,
    history: Option<History>,
    echoes: Echoes,
    /// The column of the cursor in the last drawn row, from 0.
    column: Cell<usize>,
    /// The column of the cursor when the terminal was resized and its position was queried. Printing above the row
    /// resets it.
    asked: Cell<Option<usize>>,
    arriving: Lines,
    /// The last received line: it may contain the reason of a close.
    last_line: Vec<u8>,
    /// Set after the user has left: the deadline for the server to close. No line is drawn any more.
    leaving: Option<Instant>,
}

impl Screen {
    /// Switches the terminal to raw mode: no echo, no line discipline, every key at once.
    fn enter_raw_mode(address: &Server, keeps_history: bool) -> Result<Self, Failure> {
        let found = tcgetattr(io::stdin()).map_err(|e| terminal_failed(&e.into()))?;
        let (history, lines, trouble) = match keeps_history.then(History::open) {
            Some(Ok((history, lines))) => (Some(history), lines, None),
            Some(Err(e)) => (None, Vec::new(), Some(e)),
            None => (None, Vec::new(), None),
        };
        let screen = Self {
            found,
            coloured: colours(&io::stdout()),
            keys: KeyDecoder::default(),
            editor: Editor::with_history(lines),
            history,
            echoes: Echoes::default(),
            column: Cell::new(0),
            asked: Cell::new(None),
            arriving: Lines::new(MAX_LINE),
            last_line: Vec::new(),
            leaving: None,
        };
        let mut raw = screen.found.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw).map_err(|e| terminal_failed(&e.into()))?;
        show(PASTE_ON)?;
        screen.remark(&format!("connected to {address}; HELP lists the commands, EXIT or Ctrl-D leaves"))?;
        if let Some(error) = trouble {
            screen.remark(&format!("the history is not saved: {}", reason(&error)))?;
        }
        Ok(screen)
    }

    /// Prints a remark above the typed line.
    fn remark(&self, words: &str) -> Result<(), Failure> {
        let mut text = String::new();
        paint::remark(words, self.coloured, &mut text);
        self.above(&text)
    }

    fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Completes at the deadline for the server to close after the user left.
    async fn left(&self) {
        match self.leaving {
            Some(deadline) => sleep_until(deadline).await,
            None => pending().await,
        }
    }

    /// Handles input of the keyboard; completed lines go to `outbox`. Without a connection no line is completed.
    fn typed(&mut self, bytes: &[u8], is_connected: bool, outbox: &mut Vec<u8>) -> Result<(), Failure> {
        let mut out = String::new();
        for byte in bytes {
            let Some(key) = self.keys.feed(*byte) else { continue };
            if key == Key::Enter && !is_connected {
                out.push('\x07');
                continue;
            }
            if let Key::Column(column) = key {
                out.push_str(&self.unwrapped(column));
                continue;
            }
            match self.editor.press(key) {
                EditorAction::Redraw => {}
                EditorAction::Bell => out.push('\x07'),
                EditorAction::Clear => out.push_str("\x1b[H\x1b[2J"),
                EditorAction::Leave => {
                    show(&out)?;
                    return self.leave(outbox);
                }
                EditorAction::Line(lines) => {
                    // The trailing line break of pasted text is the one that Enter sends.
                    let lines = lines.strip_suffix('\n').unwrap_or(&lines);
                    for line in lines.split('\n') {
                        if self.finish(line, outbox, &mut out) {
                            return show(&out);
                        }
                    }
                }
            }
        }
        out.push_str(&self.row());
        show(&out)
    }

    /// Sends a line or executes it locally. Returns whether it was the last one.
    fn finish(&mut self, line: &str, outbox: &mut Vec<u8>, out: &mut String) -> bool {
        self.asked.set(None);
        out.push_str(&Editor::finished(line));
        if let Some(history) = &mut self.history
            && let Err(error) = history.add(line)
        {
            paint::remark(&format!("the history is not saved: {}", reason(&error)), self.coloured, out);
            out.push_str("\r\n");
            self.history = None;
        }
        if line == "HELP" {
            for row in HELP {
                paint::remark(row, self.coloured, out);
                out.push_str("\r\n");
            }
            return false;
        }
        self.echoes.sent(line);
        outbox.extend_from_slice(line.as_bytes());
        outbox.extend_from_slice(b"\r\n");
        let is_last = line == "EXIT";
        if is_last {
            self.leaving = Some(Instant::now() + LEAVING_TIMEOUT);
        }
        is_last
    }

    /// Sends `EXIT` when the user ends the command without typing it.
    fn leave(&mut self, outbox: &mut Vec<u8>) -> Result<(), Failure> {
        outbox.extend_from_slice(b"EXIT\r\n");
        self.leaving = Some(Instant::now() + LEAVING_TIMEOUT);
        show(&Editor::finished(""))
    }

    /// Prints complete lines of the server.
    fn arrived(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.arriving.push(bytes);
        let mut rows = Vec::new();
        while let Some(line) = self.arriving.next().map_err(|_| too_long())? {
            let mut row = String::new();
            if self.echoes.is_echo(line) {
                paint::echo(line, self.coloured, &mut row);
            } else {
                paint::line(line, self.coloured, &mut row);
            }
            rows.push(row);
            self.last_line.clear();
            self.last_line.extend_from_slice(&line[..line.len().min(LAST_LINE)]);
        }
        if rows.is_empty() { Ok(()) } else { self.above(&rows.join("\r\n")) }
    }

    /// Prints rows above the typed line.
    fn above(&self, text: &str) -> Result<(), Failure> {
        self.asked.set(None);
        show(&format!("{WIPE}{text}\r\n{}", self.row()))
    }

    /// Redraws after the terminal was resized. Most terminals wrap a row that is too long into several rows, with the
    /// cursor in one of them; others truncate it. The position of the cursor distinguishes the cases, so it is queried.
    fn resized(&self) -> Result<(), Failure> {
        let column = self.column.get();
        let is_broken = column >= columns();
        self.asked.set(is_broken.then_some(column));
        let question = if is_broken { WHERE } else { "" };
        show(&format!("{question}\r\x1b[J{}", self.row()))
    }

    /// Erases the wrapped rows above the cursor, if the reported column (from 1) indicates wrapping.
    fn unwrapped(&self, column: usize) -> String {
        let Some(before) = self.asked.take() else { return String::new() };
        let (above, left) = (before / columns(), before % columns());
        if above == 0 || column != left + 1 || column == columns() {
            return String::new();
        }
        format!("\x1b[{above}A\r\x1b[J")
    }

    fn row(&self) -> String {
        if self.is_leaving() {
            return String::new();
        }
        let (row, column) = self.editor.draw(columns());
        self.column.set(column);
        row
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // An unfinished line stays readable above later output.
        let _ = show(if self.is_leaving() { "" } else { "\r\n" });
        let _ = show(PASTE_OFF);
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.found);
    }
}

/// The width of the terminal, at least one column.
fn columns() -> usize {
    match tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_col)) {
        0 => 80,
        columns => columns,
    }
}

fn show(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| terminal_failed(&e))
}
