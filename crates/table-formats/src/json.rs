//! JSON objects as rows, while they arrive: one object after another (JSON Lines, or with any white space between
//! them), or an array of objects.
//!
//! Invariants:
//! - The columns are the union of the keys, in the order of their first occurrence. A row has cells for all keys so
//!   far, so earlier rows are shorter. The first line of the text has the keys of the first rows; [`JsonReader::names`]
//!   has all of them.
//! - At most one object is in memory, of at most [`MAX_OBJECT_BYTES`], and the names of the columns.
//! - The text does not depend on how the input is split.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::detect::MARK;
use crate::text::RowWriter;
use crate::{FileFormat, FormatError, MAX_COLUMNS, MAX_NAME_BYTES};

/// The most bytes of one object.
const MAX_OBJECT_BYTES: usize = 16 << 20;

/// The rows whose keys the first line of the text has.
const HEADER_ROWS: usize = 100;

/// The text of the first rows, until their keys are written.
const HEADER_BYTES: usize = 1 << 20;

/// Converts JSON to delimited text.
#[derive(Debug, Default)]
pub struct JsonReader {
    /// An incomplete object.
    input: Vec<u8>,
    scanner: Scanner,
    state: State,
    is_array: bool,
    /// The bytes before `input`, and the objects so far.
    offset: u64,
    objects: u64,
    columns: Columns,
    /// The rows whose keys belong to the header; `None` once it is written.
    first: Option<FirstRows>,
    has_header: bool,
    rows: RowWriter,
}

/// The expected input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// A byte order mark, `[`, or an object.
    #[default]
    Start,
    /// An object, or the end of an array (only without objects).
    Object,
    /// `,` or `]` in an array, otherwise another object.
    AfterObject,
    /// An object after a comma.
    AfterComma,
    /// White space after an array.
    AfterArray,
}

/// The values of the first rows.
#[derive(Debug, Default)]
struct FirstRows {
    rows: Vec<Vec<String>>,
    bytes: usize,
}

/// The names of the columns.
#[derive(Debug, Default)]
struct Columns {
    names: Arc<Vec<String>>,
    positions: HashMap<String, usize>,
    bytes: usize,
}

impl Columns {
    fn position(&mut self, name: &str) -> Result<usize, String> {
        if let Some(position) = self.positions.get(name) {
            return Ok(*position);
        }
        let position = self.positions.len();
        self.bytes += name.len();
        if position >= MAX_COLUMNS {
            return Err(format!("more than {MAX_COLUMNS} different keys"));
        }
        if self.bytes > MAX_NAME_BYTES {
            return Err(format!("keys with more than {MAX_NAME_BYTES} bytes together"));
        }
        self.positions.insert(name.to_owned(), position);
        Arc::make_mut(&mut self.names).push(name.to_owned());
        Ok(position)
    }
}

impl JsonReader {
    /// A reader at the start of a file.
    pub fn new() -> Self {
        Self { first: Some(FirstRows::default()), ..Self::default() }
    }

    /// The names of all columns so far.
    pub const fn names(&self) -> &Arc<Vec<String>> {
        &self.columns.names
    }

    /// Whether the objects are in an array.
    pub const fn is_array(&self) -> bool {
        self.is_array
    }

    /// The number of complete objects so far.
    pub const fn objects(&self) -> u64 {
        self.objects
    }

    /// Reads the following bytes of the file, and passes complete rows to `sink`.
    ///
    /// # Errors
    /// [`FormatError`], and the error of `sink`.
    pub fn take<E: From<FormatError>>(
        &mut self,
        bytes: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = self.step(rest)?;
            self.rows.flush(false, &mut sink)?;
        }
        // The rows of a small piece are available at once.
        self.rows.flush(true, &mut sink)
    }

    /// Ends the file. More objects may follow, unless it is an array.
    ///
    /// # Errors
    /// As [`Self::take`]; when the file ends within an object or an array.
    pub fn finish<E: From<FormatError>>(
        &mut self,
        mut sink: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.input.is_empty() && self.state != State::Start {
            return Err(self.invalid("the file ends within an object").into());
        }
        if self.is_array && self.state != State::AfterArray {
            return Err(self.invalid("the file ends within the array: its ] is missing").into());
        }
        self.write_first();
        self.rows.flush(true, &mut sink)
    }

    /// Reads a byte between objects, or a part of an object. Returns the bytes after it.
    fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], FormatError> {
        let [first, rest @ ..] = bytes else { return Ok(bytes) };
        if self.scanner.is_inside() {
            return self.object(bytes);
        }
        if self.state == State::Start {
            let so_far = self.input.len();
            if so_far < MARK.len() && MARK[so_far] == *first {
                self.input.push(*first);
                if self.input == MARK {
                    (self.input, self.state) = (Vec::new(), State::Object);
                    self.offset += MARK.len() as u64;
                }
                return Ok(rest);
            }
        }
        match (first, self.state) {
            (b' ' | b'\t' | b'\r' | b'\n', _) => {}
            (b'[', State::Start | State::Object) if self.objects == 0 && !self.is_array => {
                (self.is_array, self.state) = (true, State::Object);
            }
            (b'{', State::Start | State::Object | State::AfterComma) => return self.object(bytes),
            (b'{', State::AfterObject) if !self.is_array => return self.object(bytes),
            (b',', State::AfterObject) if self.is_array => self.state = State::AfterComma,
            (b']', State::Object | State::AfterObject) if self.is_array => self.state = State::AfterArray,
            _ => {
                let found = char::from(*first);
                let expected = match (self.state, self.is_array) {
                    (State::AfterArray, _) => "the end of the file",
                    (State::AfterObject, true) => "a comma or ]",
                    _ => "an object",
                };
                return Err(self.invalid(&format!("expected {expected}, found {found:?}")));
            }
        }
        self.offset += 1;
        Ok(rest)
    }

    /// Reads a part of an object.
    fn object<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], FormatError> {
        let length = match self.scanner.scan(bytes) {
            Scanned::Complete(length) => length,
            Scanned::Partial => bytes.len(),
        };
        if self.input.len() + length > MAX_OBJECT_BYTES {
            return Err(FormatError::TooLarge {
                format: FileFormat::Json,
                what: format!("a longer object, number {}", self.objects + 1),
                limit: format!("{MAX_OBJECT_BYTES} bytes"),
            });
        }
        let (part, rest) = bytes.split_at(length);
        if self.state == State::Start {
            self.state = State::Object;
        }
        if self.scanner.is_inside() {
            self.input.extend_from_slice(part);
            return Ok(rest);
        }
        let before = std::mem::take(&mut self.input);
        if before.is_empty() {
            self.row(part)?;
        } else {
            let mut whole = before;
            whole.extend_from_slice(part);
            self.row(&whole)?;
            self.offset += (whole.len() - length) as u64;
            // The buffer is used again.
            whole.clear();
            self.input = whole;
        }
        self.offset += length as u64;
        self.state = State::AfterObject;
        Ok(rest)
    }

    /// Writes a complete object as a row.
    fn row(&mut self, object: &[u8]) -> Result<(), FormatError> {
        let text = std::str::from_utf8(object)
            .map_err(|error| self.invalid(&format!("invalid UTF-8 in the object: {error}")))?;
        let mut cells = Vec::new();
        let mut json = serde_json::Deserializer::from_str(text);
        let parsed = json.deserialize_map(Cells { columns: &mut self.columns, cells: &mut cells });
        if let Err(error) = parsed.and_then(|()| json.end()) {
            return Err(self.invalid(&error.to_string()));
        }
        self.objects += 1;
        match &mut self.first {
            Some(first) => {
                first.bytes += object.len();
                first.rows.push(cells.into_iter().map(Cow::into_owned).collect());
                if first.rows.len() >= HEADER_ROWS || first.bytes >= HEADER_BYTES {
                    self.write_first();
                }
            }
            None => {
                cells.iter().for_each(|cell| self.rows.cell(cell));
                self.rows.end_row(self.columns.names.len());
            }
        }
        Ok(())
    }

    /// Writes the header and the first rows.
    fn write_first(&mut self) {
        let Some(first) = self.first.take() else { return };
        if self.objects == 0 {
            // Rows may follow.
            self.first = Some(first);
            return;
        }
        let names = Arc::clone(&self.columns.names);
        if !std::mem::replace(&mut self.has_header, true) {
            names.iter().for_each(|name| self.rows.cell(name));
            self.rows.end_row(names.len());
        }
        for row in first.rows {
            row.iter().for_each(|cell| self.rows.cell(cell));
            self.rows.end_row(names.len());
        }
    }

    fn invalid(&self, what: &str) -> FormatError {
        let (object, offset) = (self.objects + 1, self.offset);
        FormatError::Invalid {
            format: FileFormat::Json,
            what: format!("object {object}, at byte {offset}: {what}"),
        }
    }
}

/// Collects the values of an object as cells.
struct Cells<'a, 'de> {
    columns: &'a mut Columns,
    cells: &'a mut Vec<Cow<'de, str>>,
}

/// A key, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for Cells<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
            let position = self.columns.position(&key).map_err(A::Error::custom)?;
            if self.cells.len() <= position {
                self.cells.resize(position + 1, Cow::Borrowed(""));
            }
            // As in most parsers, the last of several equal keys counts.
            self.cells[position] = cell(value.get()).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// The text of a value: a string without its quotes, null as nothing, lists and objects as JSON without white space,
/// and numbers as they are written.
fn cell(json: &str) -> Result<Cow<'_, str>, serde_json::Error> {
    Ok(match json.as_bytes().first() {
        Some(b'"') => serde_json::from_str::<Key<'_>>(json)?.0,
        Some(b'n') => Cow::Borrowed(""),
        Some(b'{' | b'[') => compact(json),
        _ => Cow::Borrowed(json),
    })
}

/// JSON without white space outside strings.
fn compact(json: &str) -> Cow<'_, str> {
    let (mut out, mut is_string, mut is_escaped) = (Vec::new(), false, false);
    if !json.bytes().any(|byte| byte.is_ascii_whitespace()) {
        return Cow::Borrowed(json);
    }
    for byte in json.bytes() {
        if is_string {
            is_string = is_escaped || byte != b'"';
            is_escaped = !is_escaped && byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            is_string = byte == b'"';
        }
        out.push(byte);
    }
    // Only ASCII was removed.
    String::from_utf8(out).map_or(Cow::Borrowed(json), Cow::Owned)
}

/// Finds the end of an object. The object itself is not checked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scanner {
    depth: u64,
    is_string: bool,
    is_escaped: bool,
}

/// The result of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scanned {
    /// The object ends after this many bytes.
    Complete(usize),
    /// The object continues after all of the bytes.
    Partial,
}

impl Scanner {
    /// Whether the scanned bytes end within an object.
    const fn is_inside(&self) -> bool {
        self.depth > 0
    }

    /// Scans the following bytes of an object.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Scanned {
        let mut at = 0;
        while at < bytes.len() {
            if self.is_string {
                if self.is_escaped {
                    (self.is_escaped, at) = (false, at + 1);
                    continue;
                }
                let Some(next) = memchr::memchr2(b'"', b'\\', &bytes[at..]) else { return Scanned::Partial };
                at += next;
                if bytes[at] == b'"' {
                    self.is_string = false;
                } else {
                    self.is_escaped = true;
                }
                at += 1;
                continue;
            }
            match bytes[at] {
                b'"' => self.is_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Scanned::Complete(at + 1);
                    }
                }
                _ => {}
            }
            at += 1;
        }
        Scanned::Partial
    }
}
