//! A terminal for a command: receives keys, and holds the screen.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pty_process::Size;
use pty_process::blocking::{Command, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use tidings_testkit::{PATIENCE, wait_until};

use crate::tool::command;

/// A command on its own terminal; killed on drop.
pub(crate) struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<vt100::Parser>>,
    /// All bytes that were sent to the terminal.
    sent: Arc<Mutex<Vec<u8>>>,
    /// Reads the command's output until the terminal is closed.
    display: Option<thread::JoinHandle<()>>,
}

impl Terminal {
    /// Starts the command on a terminal with this many rows and columns.
    pub(crate) fn start(rows: u16, columns: u16, args: &[&str], env: &[(&str, &str)]) -> Self {
        let (pty, pts) = open().expect("a terminal");
        pty.resize(Size::new(rows, columns)).expect("a terminal with a size");
        let mut plain = command(args);
        plain.env("TERM", "xterm-256color").envs(env.iter().copied());
        let child = Command::from(plain).spawn(pts).expect("the program starts");
        let keyboard = File::from(OwnedFd::from(pty));
        let mut output = keyboard.try_clone().expect("a second handle");
        let screen = Arc::new(Mutex::new(vt100::Parser::new(nonzero(rows), nonzero(columns), 0)));
        let sent = Arc::new(Mutex::new(Vec::new()));
        let display = thread::spawn({
            let (screen, sent) = (Arc::clone(&screen), Arc::clone(&sent));
            move || {
                let mut buf = [0; 4096];
                // The read fails when the last process on the terminal is gone.
                while let Ok(n @ 1..) = output.read(&mut buf) {
                    sent.lock().unwrap().extend_from_slice(&buf[..n]);
                    screen.lock().unwrap().process(&buf[..n]);
                }
            }
        });
        Self { child, keyboard, screen, sent, display: Some(display) }
    }

    /// Resizes the terminal. The screen of the test does not wrap rows, unlike most terminals.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        self.screen.lock().unwrap().screen_mut().set_size(nonzero(rows), nonzero(columns));
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.keyboard, size).expect("a terminal with a size");
    }

    /// Sends keys to the command.
    pub(crate) fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("a keyboard to type on");
    }

    /// The non-empty rows, from the top.
    pub(crate) fn rows(&self) -> Vec<String> {
        let contents = self.screen.lock().unwrap().screen().contents();
        contents.lines().map(|row| row.trim_end().to_owned()).filter(|row| !row.is_empty()).collect()
    }

    /// Row and column of the cursor, from 0.
    pub(crate) fn cursor(&self) -> (u16, u16) {
        self.screen.lock().unwrap().screen().cursor_position()
    }

    /// The colour of the first character of the row with the text `text`.
    pub(crate) fn colour_of(&self, text: &str) -> vt100::Color {
        let parser = self.screen.lock().unwrap();
        let screen = parser.screen();
        let row = screen.rows(0, screen.size().1.get()).position(|row| row.trim_end() == text);
        let row = row.unwrap_or_else(|| panic!("no row {text:?} in\n{}", screen.contents()));
        screen.cell(u16::try_from(row).unwrap(), 0).expect("its first cell").fgcolor()
    }

    /// Whether these bytes were sent to the terminal.
    pub(crate) fn was_sent(&self, bytes: &[u8]) -> bool {
        self.sent.lock().unwrap().windows(bytes.len()).any(|window| window == bytes)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a process to signal");
    }

    /// Whether the terminal echoes typed characters, as it does unless a command has changed its mode.
    pub(crate) fn echoes(&self) -> bool {
        tcgetattr(&self.keyboard)
            .expect("a terminal")
            .local_modes
            .contains(LocalModes::ECHO | LocalModes::ICANON)
    }

    /// Waits until the last non-empty rows are these.
    #[track_caller]
    pub(crate) fn shows(&self, last: &[&str]) {
        let ends = || self.rows().ends_with(&last.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>());
        let end = Instant::now() + PATIENCE;
        while !ends() {
            assert!(Instant::now() < end, "{last:#?} expected at the end of {:#?}", self.rows());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the command's end and for the rest of its output, and returns its exit code.
    pub(crate) fn finish(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until(PATIENCE, "the end of the command", || {
            status = self.child.try_wait().expect("a child to ask");
            status.is_some()
        });
        if let Some(display) = self.display.take() {
            wait_until(PATIENCE, "the rest of the output", || display.is_finished());
            display.join().expect("a display that reads to the end");
        }
        status.and_then(|status| status.code())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail only for a process that has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn nonzero(size: u16) -> NonZeroU16 {
    NonZeroU16::new(size).expect("a terminal with a size")
}
