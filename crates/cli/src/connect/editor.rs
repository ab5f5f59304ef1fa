//! The line editor: keys in, text out. It is independent of a terminal.
//!
//! Invariants: the line takes exactly one row of the screen and scrolls horizontally, so that it can be erased and
//! redrawn around printed output; the cursor is always at a character boundary; line and history are bounded. A line
//! break, which only pasted text can contain, is displayed as a sign.

use std::collections::VecDeque;

use unicode_width::UnicodeWidthChar as _;

use super::keys::Key;
use crate::text::is_control;

/// The prompt before the line.
pub(crate) const PROMPT: &str = "> ";
/// The longest line, in bytes.
const MAX_LINE: usize = 1 << 20;
/// The most lines in the history.
pub(super) const MAX_HISTORY: usize = 500;
/// Erases the row of the cursor, and moves the cursor to its start (ECMA-48 EL).
pub(crate) const WIPE: &str = "\r\x1b[K";

/// The action that a key requires of the caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EditorAction {
    /// Redraw the line.
    Redraw,
    /// Ring the bell: the key had no effect.
    Bell,
    /// Clear the screen and redraw the line.
    Clear,
    /// The line is complete. Line breaks separate several lines.
    Line(String),
    /// The user ends the command.
    Leave,
}

/// The line, its cursor, and the history.
#[derive(Debug, Default)]
pub(crate) struct Editor {
    line: String,
    /// The byte position of the cursor, at a character boundary.
    cursor: usize,
    history: VecDeque<String>,
    /// The displayed entry of the history, and the line that was typed before.
    shown: Option<(usize, String)>,
}

impl Editor {
    /// Executes a key.
    pub(crate) fn press(&mut self, key: Key) -> EditorAction {
        match key {
            Key::Char(c) => return self.insert(c),
            Key::Enter => return self.finish(),
            Key::Interrupt => return EditorAction::Leave,
            Key::EndOfInput if self.line.is_empty() => return EditorAction::Leave,
            Key::Clear => return EditorAction::Clear,
            Key::Backspace => self.cut(self.left(), self.cursor),
            Key::Delete | Key::EndOfInput => self.cut(self.cursor, self.right()),
            Key::KillLeft => self.cut(0, self.cursor),
            Key::KillRight => self.cut(self.cursor, self.line.len()),
            Key::KillWord => self.cut(self.word_left(), self.cursor),
            Key::Left => self.cursor = self.left(),
            Key::Right => self.cursor = self.right(),
            Key::WordLeft => self.cursor = self.word_left(),
            Key::WordRight => self.cursor = self.word_right(),
            Key::Home => self.cursor = 0,
            Key::End => self.cursor = self.line.len(),
            Key::Up => return self.recall(-1),
            Key::Down => return self.recall(1),
            Key::Column(_) => {}
        }
        EditorAction::Redraw
    }

    /// An editor with a history, the oldest line first.
    pub(crate) fn with_history(lines: Vec<String>) -> Self {
        let mut editor = Self::default();
        lines.into_iter().for_each(|line| editor.remember(line));
        editor
    }

    /// The displayed row: erasure, prompt, the part of the line around the cursor that fits into `columns`, and the
    /// cursor.
    ///
    /// Also returns the column of the cursor.
    pub(crate) fn draw(&self, columns: usize) -> (String, usize) {
        // The last column stays empty: some terminals wrap as soon as it is written.
        let room = columns.saturating_sub(PROMPT.len() + 1).max(1);
        let before: usize = self.line[..self.cursor].chars().map(width).sum();
        let mut skipped = 0;
        let mut from = 0;
        for c in self.line[..self.cursor].chars() {
            if before - skipped <= room {
                break;
            }
            skipped += width(c);
            from += c.len_utf8();
        }
        let mut used = 0;
        let mut out = format!("{WIPE}{PROMPT}");
        for c in self.line[from..].chars() {
            used += width(c);
            if used > room {
                break;
            }
            out.push(displayed(c));
        }
        let cursor = PROMPT.len() + before - skipped;
        out.push_str(&format!("\r\x1b[{cursor}C"));
        (out, cursor)
    }

    /// A completed line, in as many rows as it takes.
    pub(crate) fn finished(line: &str) -> String {
        format!("{WIPE}{PROMPT}{}\r\n", line.chars().map(displayed).collect::<String>())
    }

    fn insert(&mut self, c: char) -> EditorAction {
        if self.line.len() + c.len_utf8() > MAX_LINE {
            return EditorAction::Bell;
        }
        self.line.insert(self.cursor, c);
        self.cursor += c.len_utf8();
        EditorAction::Redraw
    }

    fn finish(&mut self) -> EditorAction {
        let line = std::mem::take(&mut self.line);
        self.cursor = 0;
        self.shown = None;
        line.split('\n').for_each(|line| self.remember(line.to_owned()));
        EditorAction::Line(line)
    }

    fn remember(&mut self, line: String) {
        if line.is_empty() || self.history.back() == Some(&line) {
            return;
        }
        if self.history.len() == MAX_HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(line);
    }

    fn recall(&mut self, step: isize) -> EditorAction {
        let at = self.shown.as_ref().map_or(self.history.len(), |(at, _)| *at);
        let Some(to) = at.checked_add_signed(step).filter(|to| *to <= self.history.len()) else {
            return EditorAction::Bell;
        };
        let typed = self.shown.take().map_or_else(|| std::mem::take(&mut self.line), |(_, typed)| typed);
        match self.history.get(to).cloned() {
            Some(line) => {
                self.set(line);
                self.shown = Some((to, typed));
            }
            None => self.set(typed),
        }
        EditorAction::Redraw
    }

    fn set(&mut self, line: String) {
        self.cursor = line.len();
        self.line = line;
    }

    fn cut(&mut self, from: usize, to: usize) {
        self.line.replace_range(from..to, "");
        self.cursor = from;
    }

    /// The position one character to the left, including combining characters.
    fn left(&self) -> usize {
        let mut at = self.cursor;
        for c in self.line[..self.cursor].chars().rev() {
            at -= c.len_utf8();
            if width(c) > 0 {
                break;
            }
        }
        at
    }

    /// The position one character to the right, including combining characters.
    fn right(&self) -> usize {
        let mut at = self.cursor;
        for c in self.line[self.cursor..].chars() {
            if at > self.cursor && width(c) > 0 {
                break;
            }
            at += c.len_utf8();
        }
        at
    }

    fn word_left(&self) -> usize {
        let before = self.line[..self.cursor].trim_end();
        before
            .rfind(char::is_whitespace)
            .map_or(0, |space| space + before[space..].chars().next().map_or(0, char::len_utf8))
    }

    fn word_right(&self) -> usize {
        let after = &self.line[self.cursor..];
        let word = after.len() - after.trim_start().len();
        self.cursor + word + after[word..].find(char::is_whitespace).unwrap_or(after.len() - word)
    }
}

/// The number of columns of a character.
fn width(c: char) -> usize {
    displayed(c).width().unwrap_or(1)
}

/// The displayed form of a character: the width of a tab is unknown, and pasted text may change the direction of the
/// row.
fn displayed(c: char) -> char {
    match c {
        '\t' => '→',
        '\n' => '↵',
        c if is_control(c) => '·',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(editor: &mut Editor, text: &str) {
        for c in text.chars() {
            assert_eq!(editor.press(Key::Char(c)), EditorAction::Redraw);
        }
    }

    fn after(keys: &[Key]) -> String {
        let mut editor = Editor::default();
        typed(&mut editor, "one two three");
        for key in keys {
            editor.press(*key);
        }
        format!("{}|{}", &editor.line[..editor.cursor], &editor.line[editor.cursor..])
    }

    #[test]
    fn keys_edit_as_in_a_shell() {
        use Key::*;
        for (keys, expected) in [
            (&[][..], "one two three|"),
            (&[Left, Left, Char('X')], "one two thrX|ee"),
            (&[Home, Delete, Right, Char('X')], "nX|e two three"),
            (&[WordLeft, KillLeft], "|three"),
            (&[WordLeft, WordLeft, KillRight], "one |"),
            (&[KillWord, KillWord], "one |"),
            (&[Home, WordRight, WordRight, Backspace], "one tw| three"),
            (&[Home, Left, Backspace, EndOfInput], "|ne two three"),
            (&[End, Right, Delete], "one two three|"),
        ] {
            assert_eq!(after(keys), expected, "{keys:?}");
        }
    }

    #[test]
    fn end_of_input_leaves_on_an_empty_line() {
        let mut editor = Editor::default();
        assert_eq!(editor.press(Key::EndOfInput), EditorAction::Leave);
        typed(&mut editor, "x");
        assert_eq!(editor.press(Key::EndOfInput), EditorAction::Redraw);
        editor.press(Key::KillLeft);
        assert_eq!(editor.press(Key::EndOfInput), EditorAction::Leave);
    }

    #[test]
    fn an_interrupt_leaves_on_any_line() {
        let mut editor = Editor::default();
        assert_eq!(editor.press(Key::Interrupt), EditorAction::Leave);
        typed(&mut editor, "x");
        assert_eq!(editor.press(Key::Interrupt), EditorAction::Leave);
    }

    #[test]
    fn pasted_lines_take_one_row_and_are_remembered_one_by_one() {
        let mut editor = Editor::default();
        typed(&mut editor, "one\ntwo");
        assert_eq!(editor.draw(80).0, "\r\x1b[K> one↵two\r\x1b[9C");
        assert_eq!(editor.press(Key::Enter), EditorAction::Line("one\ntwo".to_owned()));
        editor.press(Key::Up);
        assert_eq!(editor.line, "two");
        editor.press(Key::Up);
        assert_eq!(editor.line, "one");
    }

    #[test]
    fn the_history_restores_lines_and_the_typed_text() {
        let mut editor = Editor::default();
        for line in ["first", "second", "second"] {
            typed(&mut editor, line);
            assert_eq!(editor.press(Key::Enter), EditorAction::Line(line.to_owned()));
        }
        typed(&mut editor, "dra");
        editor.press(Key::Up);
        assert_eq!(editor.line, "second");
        editor.press(Key::Up);
        assert_eq!(editor.line, "first");
        assert_eq!(editor.press(Key::Up), EditorAction::Bell);
        editor.press(Key::Down);
        editor.press(Key::Down);
        assert_eq!((editor.line.as_str(), editor.cursor), ("dra", 3));
        assert_eq!(editor.press(Key::Down), EditorAction::Bell);
    }

    #[test]
    fn the_row_shows_the_part_around_the_cursor() {
        let mut editor = Editor::default();
        typed(&mut editor, "abcdefghij");
        assert_eq!(editor.draw(80).0, "\r\x1b[K> abcdefghij\r\x1b[12C");
        assert_eq!(editor.draw(8).0, "\r\x1b[K> fghij\r\x1b[7C");
        editor.press(Key::Home);
        assert_eq!(editor.draw(8).0, "\r\x1b[K> abcde\r\x1b[2C");
        assert!(editor.draw(0).0.contains("> a"));
    }

    #[test]
    fn wide_characters_are_counted_and_combining_ones_stay_with_their_base() {
        let mut editor = Editor::default();
        typed(&mut editor, "日本e\u{301}");
        assert_eq!(editor.draw(80).0, "\r\x1b[K> 日本e\u{301}\r\x1b[7C");
        editor.press(Key::Backspace);
        assert_eq!(editor.line, "日本");
    }

    #[test]
    fn a_line_that_is_too_long_rings_the_bell() {
        let mut editor = Editor::default();
        editor.set("x".repeat(MAX_LINE));
        assert_eq!(editor.press(Key::Char('y')), EditorAction::Bell);
        assert_eq!(editor.line.len(), MAX_LINE);
    }
}
