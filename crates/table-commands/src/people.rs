//! The people who view a table: names, colours, cursors, and the authors of changes.
//!
//! Invariant: a person takes at most 512 bytes in a message, and a list has at most [`MAX_LISTED`] people of
//! this node and as many of other nodes.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::InvalidCommand;

/// The most people of one node, and of all other nodes together, that viewers receive.
pub const MAX_LISTED: usize = 100;
/// The longest name, in characters.
const MAX_NAME: usize = 40;
/// The most bytes of a person as JSON: an escaped name, and two cells.
#[cfg(test)]
const MAX_PERSON: usize = 512;
/// The highest row and column of a cursor, which JavaScript represents exactly.
const MAX_POSITION: u64 = 1 << 53;

/// Colours on which white text has a contrast of 4.5, and that have a contrast of 3 to a black background (WCAG 2.2,
/// 1.4.3 and 1.4.11).
const COLORS: [&str; 12] = [
    "#c62828", "#1d6fb8", "#15803d", "#9a6700", "#7c4dcc", "#0e7490", "#c02672", "#4d7c0f", "#4f5bd5",
    "#c2410c", "#0f766e", "#a83fb0",
];

const MOODS: [&str; 24] = [
    "Amber", "Bright", "Brisk", "Calm", "Clever", "Coral", "Curious", "Eager", "Gentle", "Golden", "Happy",
    "Jolly", "Kind", "Lively", "Lucky", "Merry", "Nimble", "Quick", "Quiet", "Silver", "Sunny", "Swift",
    "Warm", "Witty",
];
const ANIMALS: [&str; 24] = [
    "Badger", "Beaver", "Crane", "Dolphin", "Falcon", "Finch", "Fox", "Hare", "Heron", "Ibis", "Koala",
    "Lark", "Lynx", "Marten", "Otter", "Owl", "Panda", "Puffin", "Robin", "Seal", "Stork", "Swan", "Tern",
    "Wren",
];

/// A viewer as other viewers see it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Person {
    /// Unique among all nodes, for the time of the connection.
    pub id: String,
    /// The name, as [`clean_name`] returns it.
    pub name: String,
    /// In CSS notation.
    pub color: String,
    /// Whether it has proved ownership of the table.
    pub owner: bool,
    /// The selected cells, if any.
    pub cursor: Option<Cursor>,
    /// Whether it has a private view.
    pub private: bool,
}

/// A selection of cells, with the rows of the shared view and the columns of the file, counted from 0.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Cursor {
    /// The row of the cursor.
    pub row: u64,
    /// The column of the cursor.
    pub column: u64,
    /// The row of the opposite corner.
    pub to_row: u64,
    /// The column of the opposite corner.
    pub to_column: u64,
}

/// A cursor in a message; without the opposite corner it is one cell.
#[derive(Clone, Copy, Deserialize)]
pub(crate) struct CursorMessage {
    row: u64,
    column: u64,
    to_row: Option<u64>,
    to_column: Option<u64>,
}

/// The author of a change of the view.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct ChangedBy {
    /// The [`Person::id`] of a viewer.
    pub id: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// The kind of the author.
    pub by: Actor,
}

/// The kind of an author.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// A viewer.
    #[default]
    Viewer,
    /// The command line.
    Cli,
    /// A backend that appends rows, or a channel.
    Append,
    /// A backend, or a channel, that replaces or removes rows.
    Api,
    /// Another node, which does not report the author.
    Node,
}

impl ChangedBy {
    /// An author that is no person.
    pub const fn program(by: Actor) -> Self {
        Self { id: None, name: None, by }
    }
}

impl TryFrom<CursorMessage> for Cursor {
    type Error = InvalidCommand;

    fn try_from(message: CursorMessage) -> Result<Self, InvalidCommand> {
        let CursorMessage { row, column, to_row, to_column } = message;
        let cursor =
            Self { row, column, to_row: to_row.unwrap_or(row), to_column: to_column.unwrap_or(column) };
        let Self { to_row, to_column, .. } = cursor;
        if [row, column, to_row, to_column].into_iter().any(|position| position > MAX_POSITION) {
            return Err(InvalidCommand::new("the rows and columns of a cursor are at most 2^53"));
        }
        Ok(cursor)
    }
}

impl Person {
    /// A person with a random id and name.
    ///
    /// `others` are the people whose names and colours are avoided.
    pub fn random<'a>(owner: bool, others: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let id = format!("{:016x}", fastrand::u64(..));
        let uses = |color: &str| others.clone().filter(|other| other.color == color).count();
        let color = COLORS.into_iter().min_by_key(|color| uses(color)).unwrap_or(COLORS[0]).to_owned();
        Self { id, name: random_name(others), color, owner, cursor: None, private: false }
    }
}

/// A name that is free among `others`, if one is found soon.
pub fn random_name<'a>(others: impl Iterator<Item = &'a Person>) -> String {
    let taken: HashSet<&str> = others.map(|other| &*other.name).collect();
    let pick = |words: &[&'static str; 24]| words[fastrand::usize(..words.len())];
    let mut name = String::new();
    for _ in 0..4 {
        name = format!("{} {}", pick(&MOODS), pick(&ANIMALS));
        if !taken.contains(&*name) {
            break;
        }
    }
    name
}

/// A name as it is shown: without characters that are invisible or change the direction of other text, with single
/// spaces, truncated.
pub fn clean_name(name: &str) -> String {
    let is_hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{AD}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
    };
    let words: Vec<&str> = name.split_whitespace().collect();
    let name: String = words.join(" ").chars().filter(|c| !is_hidden(*c)).take(MAX_NAME).collect();
    name.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_without_invisible_characters_and_truncated() {
        assert_eq!(clean_name("  Ann \t\n B.\u{202E} \u{200B}"), "Ann B.");
        assert_eq!(clean_name(&"ü".repeat(100)), "ü".repeat(40));
        assert_eq!(clean_name("\u{7}\u{FEFF} "), "");
    }

    #[test]
    fn a_person_is_bounded_in_bytes() {
        let cursor = Some(Cursor { row: 1 << 53, column: 1 << 53, to_row: 1 << 53, to_column: 1 << 53 });
        let name = clean_name(&"\u{10FFFF}\\\"".repeat(100));
        let person = Person { cursor, name, ..Person::random(true, std::iter::empty()) };
        assert!(serde_json::to_string(&person).expect("JSON").len() < MAX_PERSON);
    }

    #[test]
    fn twelve_people_have_different_colours_and_names() {
        let mut people: Vec<Person> = Vec::new();
        for _ in 0..COLORS.len() {
            people.push(Person::random(false, people.iter()));
        }
        let mut colors: Vec<_> = people.iter().map(|person| &*person.color).collect();
        colors.sort_unstable();
        colors.dedup();
        assert_eq!(colors.len(), COLORS.len());
    }

    #[test]
    fn a_cursor_without_an_opposite_corner_is_one_cell() {
        let cursor = |text: &str| Cursor::try_from(serde_json::from_str::<CursorMessage>(text).expect(text));
        let one = Cursor { row: 3, column: 1, to_row: 3, to_column: 1 };
        assert_eq!(cursor(r#"{"row":3,"column":1}"#), Ok(one));
        assert_eq!(cursor(r#"{"row":3,"column":1,"to_row":9}"#), Ok(Cursor { to_row: 9, ..one }));
        cursor(r#"{"row":9007199254740993,"column":1}"#).expect_err("too far");
    }
}
