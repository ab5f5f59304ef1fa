//! `connect` on a terminal: one loop owns the keyboard, the screen, the socket and the signals.
//!
//! Invariants: everything is printed by this loop, in one write each time, with the typed line erased before and drawn
//! again after; the terminal's settings are restored, however the command ends. A lost connection is made again, and
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
use super::editor::{Asked, Editor, WIPE};
use super::history::History;
use super::keys::{Key, Keys};
use super::reconnect::{delay, reconnect};
use super::{MAX_LINE, READ, UNSENT, left_alone, paint};
use crate::failure::Failure;
use crate::input::{Lines, stdin_chunks};
use crate::text::colours;
use tidings_client::Server;
use tidings_client::stream::{Incoming, Outgoing, reason};

/// How long the server may take to close after `EXIT`: the user is waiting for the prompt of the shell.
const LEAVING_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes the terminal mark pasted text, and ends that (xterm, "Bracketed Paste Mode").
const PASTE_ON: &str = "\x1b[?2004h";
const PASTE_OFF: &str = "\x1b[?2004l";

/// Asks the terminal where the cursor is (ECMA-48 DSR).
const WHERE: &str = "\x1b[6n";

/// What `HELP` shows.
const HELP: [&str; 12] = [
    "SUBSCRIBE [channel]      receive what is published (without a name: updates)",
    "UNSUBSCRIBE [channel]    stop that",
    "PUBLISH channel body     publish a message",
    "AUTH token               show a connection token, or the API key",
    "PING                     the server answers PONG",
    "EXIT                     leave; so do Ctrl-C, and Ctrl-D on an empty line",
    "HELP                     this list; it is not sent",
    "Any other line comes back as an echo, or as UNKNOWN COMMAND.",
    "Keys: arrows, Home, End, Alt-B, Alt-F; Up and Down for earlier lines;",
    "Ctrl-U, Ctrl-K, Ctrl-W delete; Ctrl-L clears. Pasted lines wait for Enter.",
    "Green is confirmed, yellow was so already, red an error, cyan a message,",
    "magenta an echo. Lines that may hold a secret are not kept in the history.",
];

/// Bytes of the server's last line that are kept.
const LAST_LINE: usize = 256;

/// Runs until the user ends it, or the server asks the client not to reconnect.
///
/// # Errors
/// The server left for good; the terminal failed.
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
    let mut screen = Screen::take(address, keeps_history)?;
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
        let Some(delay) = delay(&screen.last_line) else { return Err(left_alone(&why)) };
        (incoming, outgoing) = (None, None);
        outbox.clear();
        screen.echoes.clear();
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
    history: Option<History>,
    echoes: Echoes,
    /// The column of the cursor in the row that was drawn last, from 0.
    column: Cell<usize>,
    /// Where the cursor was in the row when the terminal got another size and was asked where it is now. Printing anything
    /// above the row ends that.
    asked: Cell<Option<usize>>,
    arriving: Lines,
    /// The last line that has come: it may say why the server closes the connection.
    last_line: Vec<u8>,
    /// Set once the user leaves: how long the server has to close, and no line is drawn any more.
    leaving: Option<Instant>,
}

impl Screen {
    /// Takes the terminal over: no echo, no line discipline, every key at once.
    fn take(address: &Server, keeps_history: bool) -> Result<Self, Failure> {
        let found = tcgetattr(io::stdin()).map_err(|e| terminal_failed(&e.into()))?;
        let (history, lines, trouble) = match keeps_history.then(History::open) {
            Some(Ok((history, lines))) => (Some(history), lines, None),
            Some(Err(e)) => (None, Vec::new(), Some(e)),
            None => (None, Vec::new(), None),
        };
        let screen = Self {
            found,
            coloured: colours(&io::stdout()),
            keys: Keys::default(),
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
            screen.remark(&format!("the history is not kept: {}", reason(&error)))?;
        }
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
            if let Key::Column(column) = key {
                out.push_str(&self.unwrapped(column));
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
                Asked::Line(lines) => {
                    // The line break at the end of pasted text is the one that Enter makes.
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

    /// Sends a line, or carries it out here; whether it was the last one.
    fn finish(&mut self, line: &str, outbox: &mut Vec<u8>, out: &mut String) -> bool {
        self.asked.set(None);
        out.push_str(&Editor::finished(line));
        if let Some(history) = &mut self.history
            && let Err(error) = history.add(line)
        {
            paint::remark(&format!("the history is not kept: {}", reason(&error)), self.coloured, out);
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

    /// Sends `EXIT` for a user who ends the command without typing it.
    fn leave(&mut self, outbox: &mut Vec<u8>) -> Result<(), Failure> {
        outbox.extend_from_slice(b"EXIT\r\n");
        self.leaving = Some(Instant::now() + LEAVING_TIMEOUT);
        show(&Editor::finished(""))
    }

    /// Prints complete lines from the server.
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

    /// Prints rows above the line being typed.
    fn above(&self, text: &str) -> Result<(), Failure> {
        self.asked.set(None);
        show(&format!("{WIPE}{text}\r\n{}", self.row()))
    }

    /// Draws again after a change of the terminal's size. Most terminals break a row that has become too long into
    /// several, with the cursor in one of them, and others cut it off; the position of the cursor shows which, so it is
    /// queried.
    fn resized(&self) -> Result<(), Failure> {
        let column = self.column.get();
        let is_broken = column >= columns();
        self.asked.set(is_broken.then_some(column));
        let question = if is_broken { WHERE } else { "" };
        show(&format!("{question}\r\x1b[J{}", self.row()))
    }

    /// Wipes the rows above the cursor that the row was broken into, if the answer (a column, from 1) says so.
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
        // A line that was being typed stays readable above whatever comes next.
        let _ = show(if self.is_leaving() { "" } else { "\r\n" });
        let _ = show(PASTE_OFF);
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.found);
    }
}

/// How wide the terminal is, at least one column.
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
