//! Decodes the input of a terminal into keys.
//!
//! The control codes are those of ASCII, the sequences those of ECMA-48 as xterm sends them ("XTerm Control Sequences",
//! PC-style function keys), which all common terminal emulators follow. Pasted text is between `CSI 200 ~` and `CSI 201
//! ~` ("Bracketed Paste Mode").
//!
//! Invariants: any bytes, split anywhere, yield keys and never an error; unknown sequences are ignored; at most
//! [`MAX_SEQUENCE`] bytes of an unfinished sequence are kept. Pasted text only yields characters, including line
//! breaks: it cannot send, end or edit.

/// The longest decoded sequence, in bytes; longer ones are skipped.
const MAX_SEQUENCE: usize = 16;

/// A key of the line editor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// A character to insert, including a tab, and a line break (`\n`) in pasted text.
    Char(char),
    Enter,
    Backspace,
    Delete,
    Left,
    Right,
    WordLeft,
    WordRight,
    Home,
    End,
    Up,
    Down,
    /// Delete from the cursor to the end (Ctrl-K).
    KillRight,
    /// Delete from the start to the cursor (Ctrl-U).
    KillLeft,
    /// Delete the word left of the cursor (Ctrl-W, Alt-Backspace).
    KillWord,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D: end of input on an empty line, else delete.
    EndOfInput,
    /// Ctrl-L.
    Clear,
    /// No key: the column of the cursor (from 1), as reported by the terminal.
    Column(usize),
}

/// The state of the decoder between two bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// After a carriage return: a line feed belongs to it.
    Recovery,
    /// After ESC.
    Escape,
    /// After `ESC O`.
    Ss3,
    /// After `ESC [`.
    Csi,
    /// Inside a multi-byte character, with the number of remaining bytes.
    Utf8(u8),
}

/// Decodes bytes into keys, one byte at a time.
#[derive(Debug, Default)]
pub(crate) struct KeyDecoder {
    state: State,
    /// Whether the input is pasted text.
    pasting: bool,
    pending: Vec<u8>,
}

impl KeyDecoder {
    /// Decodes one byte. Returns the key that it completes.
    pub(crate) fn feed(&mut self, byte: u8) -> Option<Key> {
        let key = self.decode(byte)?;
        match key {
            Key::Enter if self.pasting => Some(Key::Char('\n')),
            Key::Char(_) => Some(key),
            _ => Some(key).filter(|_| !self.pasting),
        }
    }

    fn decode(&mut self, byte: u8) -> Option<Key> {
        match std::mem::take(&mut self.state) {
            State::Recovery if byte == b'\n' => None,
            State::Ground | State::Recovery => self.ground(byte),
            State::Escape => self.escape(byte),
            State::Ss3 => named(byte, false),
            State::Csi => self.csi(byte),
            State::Utf8(left) => self.utf8(byte, left),
        }
    }

    fn ground(&mut self, byte: u8) -> Option<Key> {
        self.pending.clear();
        let key = match byte {
            0x01 => Key::Home,
            0x02 => Key::Left,
            0x03 => Key::Interrupt,
            0x04 => Key::EndOfInput,
            0x05 => Key::End,
            0x06 => Key::Right,
            0x08 | 0x7f => Key::Backspace,
            b'\t' => Key::Char('\t'),
            b'\n' => Key::Enter,
            0x0b => Key::KillRight,
            0x0c => Key::Clear,
            b'\r' => {
                self.state = State::Recovery;
                Key::Enter
            }
            0x0e => Key::Down,
            0x10 => Key::Up,
            0x15 => Key::KillLeft,
            0x17 => Key::KillWord,
            0x1b => return self.wait(State::Escape),
            b' '..=b'~' => Key::Char(char::from(byte)),
            0xc2..=0xdf => return self.lead(byte, 1),
            0xe0..=0xef => return self.lead(byte, 2),
            0xf0..=0xf4 => return self.lead(byte, 3),
            _ => return None,
        };
        Some(key)
    }

    fn wait(&mut self, state: State) -> Option<Key> {
        self.state = state;
        None
    }

    fn lead(&mut self, byte: u8, left: u8) -> Option<Key> {
        self.pending.push(byte);
        self.wait(State::Utf8(left))
    }

    fn utf8(&mut self, byte: u8, left: u8) -> Option<Key> {
        if byte & 0xc0 != 0x80 {
            // The character was incomplete; this byte starts a new key.
            return self.ground(byte);
        }
        self.pending.push(byte);
        if left > 1 {
            return self.wait(State::Utf8(left - 1));
        }
        let text = std::str::from_utf8(&self.pending).ok()?;
        text.chars().next().filter(|c| !c.is_control()).map(Key::Char)
    }

    fn escape(&mut self, byte: u8) -> Option<Key> {
        match byte {
            b'[' => self.wait(State::Csi),
            b'O' => self.wait(State::Ss3),
            0x1b => self.wait(State::Escape),
            b'b' => Some(Key::WordLeft),
            b'f' => Some(Key::WordRight),
            0x7f | 0x08 => Some(Key::KillWord),
            b'\r' | b'\n' => Some(Key::Enter),
            _ => None,
        }
    }

    fn csi(&mut self, byte: u8) -> Option<Key> {
        match byte {
            // Parameters and intermediates (ECMA-48 §5.4).
            0x20..=0x3f => {
                if self.pending.len() < MAX_SEQUENCE {
                    self.pending.push(byte);
                }
                self.wait(State::Csi)
            }
            b'~' => match self.pending.split(|b| *b == b';').next() {
                Some(b"1" | b"7") => Some(Key::Home),
                Some(b"3") => Some(Key::Delete),
                Some(b"4" | b"8") => Some(Key::End),
                Some(b"200") => self.paste(true),
                Some(b"201") => self.paste(false),
                _ => None,
            },
            b'R' => {
                let column = self.pending.split(|b| *b == b';').nth(1)?;
                std::str::from_utf8(column).ok()?.parse().ok().map(Key::Column)
            }
            // The modifiers of "1;5C": 3 is Alt, 5 is Ctrl.
            0x40..=0x7e => named(byte, self.pending.ends_with(b";5") || self.pending.ends_with(b";3")),
            _ => self.ground(byte),
        }
    }
}

impl KeyDecoder {
    fn paste(&mut self, begins: bool) -> Option<Key> {
        self.pasting = begins;
        None
    }
}

/// The key of the final letter of a sequence; `word` if Ctrl or Alt was pressed.
fn named(byte: u8, word: bool) -> Option<Key> {
    match (byte, word) {
        (b'A', _) => Some(Key::Up),
        (b'B', _) => Some(Key::Down),
        (b'C', false) => Some(Key::Right),
        (b'C', true) => Some(Key::WordRight),
        (b'D', false) => Some(Key::Left),
        (b'D', true) => Some(Key::WordLeft),
        (b'H', _) => Some(Key::Home),
        (b'F', _) => Some(Key::End),
        (b'M', _) => Some(Key::Enter),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut keys = KeyDecoder::default();
        bytes.iter().filter_map(|b| keys.feed(*b)).collect()
    }

    #[test]
    fn characters_of_any_length_are_decoded() {
        let text = "aé€😀\t";
        assert_eq!(keys(text.as_bytes()), text.chars().map(Key::Char).collect::<Vec<_>>());
    }

    #[test]
    fn arrows_are_the_same_in_both_keypad_modes() {
        assert_eq!(keys(b"\x1b[A\x1bOB\x1b[C\x1b[D"), [Key::Up, Key::Down, Key::Right, Key::Left]);
        assert_eq!(keys(b"\x1b[1;5C\x1b[1;3D\x1bb"), [Key::WordRight, Key::WordLeft, Key::WordLeft]);
        assert_eq!(
            keys(b"\x1b[H\x1b[F\x1b[1~\x1b[4~\x1b[3~"),
            [Key::Home, Key::End, Key::Home, Key::End, Key::Delete]
        );
    }

    #[test]
    fn a_carriage_return_is_one_enter_with_and_without_a_line_feed() {
        assert_eq!(keys(b"\r\na\rb\n"), [Key::Enter, Key::Char('a'), Key::Enter, Key::Char('b'), Key::Enter]);
    }

    #[test]
    fn the_reported_column_of_the_cursor_is_decoded() {
        assert_eq!(keys(b"\x1b[12;40R"), [Key::Column(40)]);
        assert_eq!(keys(b"\x1b[R\x1b[1R\x1b[1;R"), []);
    }

    #[test]
    fn pasted_text_yields_only_characters() {
        let pasted = keys(b"\x1b[200~a\rb\r\nc\nd\te\x03\x04\x1b[A\x7f\x1b[201~\r");
        let text: String = pasted
            .iter()
            .map(|key| match key {
                Key::Char(c) => *c,
                Key::Enter => '!',
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(text, "a\nb\nc\nd\te!");
    }

    #[test]
    fn unknown_sequences_are_ignored() {
        assert_eq!(keys(b"\x1b[200~a\x1b[201~\x1b[<0;1;2M"), [Key::Char('a'), Key::Enter]);
        assert_eq!(keys(b"\x1b[99;99;99;99;99;99;99;99Zb"), [Key::Char('b')]);
        assert_eq!(keys(b"\xff\xc3(\x80c"), [Key::Char('('), Key::Char('c')]);
        assert_eq!(keys("\u{9b}x".as_bytes()), [Key::Char('x')]);
    }

    #[test]
    fn any_bytes_are_decoded_with_bounded_memory() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut keys = KeyDecoder::default();
        for _ in 0..100_000 {
            keys.feed(rng.u8(..));
            assert!(keys.pending.len() <= MAX_SEQUENCE);
        }
    }
}
