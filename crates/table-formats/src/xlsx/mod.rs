//! Worksheets of XLSX files (Office Open XML, ECMA-376) as rows.
//!
//! A cell is shown as its number format says: a number, a percentage, a date or a time (in ISO 8601). A formula has its
//! stored result, and its own text where a program has stored none. Errors are text such as `#DIV/0!`. Of merged cells
//! the first one has the value. Rows without values are left out.
//!
//! Invariants:
//! - Nothing is decompressed without a bound: [`Part`] bounds one element and a whole part, [`strings`] the shared
//!   strings, [`sheet`] a row.
//! - Shared strings are read for a sheet, and released after it.
//!
//! Libraries for spreadsheets hold the shared strings and each element in memory without a bound, which a file of some
//! kilobytes can exceed; so the reader is the crate's own, upon an XML tokenizer.

mod format;
mod sheet;
mod strings;
mod styles;
mod xml;
mod zip;

use std::collections::HashMap;
use std::fs::File;

use quick_xml::events::Event;

use crate::{FileFormat, FormatError, turn};
use format::Epoch;
use xml::{Part, attribute};
use zip::Archive;

/// The most sheets of a workbook.
const MAX_SHEETS: usize = 1_000;

/// The most bytes of the XML of a small part: the workbook, its relationships, its styles.
const MAX_PART: u64 = 64 << 20;

/// An XLSX file.
pub struct Workbook<'a> {
    archive: Archive<'a>,
    sheets: Vec<Sheet>,
    epoch: Epoch,
    strings: Option<String>,
    styles: Option<String>,
}

/// A worksheet.
struct Sheet {
    name: String,
    /// The name of its part.
    path: String,
    is_hidden: bool,
}

impl<'a> Workbook<'a> {
    /// Reads the list of sheets.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn open(file: &'a File) -> Result<Self, FormatError> {
        let archive = Archive::open(file)?;
        let root = relationships(&archive, "_rels/.rels", "")?;
        let path =
            root.into_values().find(|target| target.kind == "officeDocument").map(|target| target.path);
        let path = path.unwrap_or_else(|| "xl/workbook.xml".to_owned());
        if path.ends_with(".bin") {
            return Err(unsupported("the binary form of workbooks (XLSB)"));
        }
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let targets = relationships(&archive, &format!("{folder}_rels/{name}.rels"), &folder)?;
        let path_of = |kind: &str| {
            targets.values().find(|target| target.kind == kind).map(|target| target.path.clone())
        };
        let (strings, styles) = (path_of("sharedStrings"), path_of("styles"));
        let mut workbook = Self { archive, sheets: Vec::new(), epoch: Epoch::From1900, strings, styles };
        workbook.read_workbook(&path, &targets)?;
        if workbook.sheets.is_empty() {
            return Err(invalid("it has no worksheet"));
        }
        Ok(workbook)
    }

    fn read_workbook(&mut self, path: &str, targets: &HashMap<String, Target>) -> Result<(), FormatError> {
        let mut part = Part::open(&self.archive, path, MAX_PART)?;
        loop {
            let more = part.next(|event| {
                let (Event::Start(element) | Event::Empty(element)) = event else {
                    return Ok(!matches!(event, Event::Eof));
                };
                match element.local_name().as_ref() {
                    b"workbookPr" => {
                        let is_1904 =
                            attribute(element, "date1904").is_some_and(|is| is == "1" || is == "true");
                        if is_1904 {
                            self.epoch = Epoch::From1904;
                        }
                    }
                    b"sheet" => {
                        let target = attribute(element, "id").and_then(|id| targets.get(&id));
                        // Charts and macros are sheets too.
                        if let (Some(name), Some(target)) = (attribute(element, "name"), target)
                            && target.kind == "worksheet"
                        {
                            let is_hidden =
                                attribute(element, "state").is_some_and(|state| state != "visible");
                            self.sheets.push(Sheet { name, path: target.path.clone(), is_hidden });
                        }
                        if self.sheets.len() > MAX_SHEETS {
                            return Err(too_large("more sheets", &MAX_SHEETS.to_string()));
                        }
                    }
                    _ => {}
                }
                Ok(true)
            })?;
            if !more {
                return Ok(());
            }
        }
    }

    /// The names of all worksheets.
    pub fn sheets(&self) -> impl Iterator<Item = &str> {
        self.sheets.iter().map(|sheet| &*sheet.name)
    }

    /// The position of the sheet with this name; without a name, of the first visible one.
    ///
    /// # Errors
    /// [`FormatError::NoSheet`].
    pub fn position(&self, name: Option<&str>) -> Result<usize, FormatError> {
        let found = match name {
            Some(name) => self.sheets.iter().position(|sheet| sheet.name == name),
            None => Some(self.sheets.iter().position(|sheet| !sheet.is_hidden).unwrap_or(0)),
        };
        found.ok_or_else(|| FormatError::NoSheet(name.unwrap_or_default().to_owned()))
    }

    /// Passes the rows of a sheet to `sink`, with the part that is complete (from 0 to 1). `most_xml`: the most bytes
    /// of XML that the sheet or the strings may have. Waits while another file is converted, and calls `sink` with no
    /// text meanwhile.
    ///
    /// # Errors
    /// [`FormatError`], and the error of `sink`.
    pub fn write<E: From<FormatError>>(
        &self,
        sheet: usize,
        most_xml: u64,
        mut sink: impl FnMut(&[u8], f32) -> Result<(), E>,
    ) -> Result<(), E> {
        let _turn = turn::wait(|| sink(b"", 0.0))?;
        let sheet = self.sheets.get(sheet).ok_or_else(|| FormatError::NoSheet(String::new()))?;
        let part = |path: &Option<String>| {
            let path = path.as_ref().filter(|path| self.archive.has(path));
            path.map(|path| Part::open(&self.archive, path, most_xml)).transpose()
        };
        let formats = part(&self.styles)?.map(styles::read).transpose()?.unwrap_or_default();
        let strings = match part(&self.strings)? {
            Some(part) => strings::read(part, &mut || sink(b"", 0.0))?,
            None => strings::Strings::default(),
        };
        let part = Part::open(&self.archive, &sheet.path, most_xml)?;
        sheet::Cells::new(part, &strings, &formats, self.epoch).write(&mut sink)
    }
}

/// The target of a relationship.
struct Target {
    /// The last part of its type.
    kind: String,
    path: String,
}

/// The relationships of a part (ECMA-376 Part 2 §8.5), by id. `folder`: that of the part.
fn relationships(
    archive: &Archive<'_>,
    path: &str,
    folder: &str,
) -> Result<HashMap<String, Target>, FormatError> {
    let mut targets = HashMap::new();
    if !archive.has(path) {
        return Ok(targets);
    }
    let mut part = Part::open(archive, path, MAX_PART)?;
    loop {
        let more = part.next(|event| {
            if let Event::Start(element) | Event::Empty(element) = event
                && element.local_name().as_ref() == b"Relationship"
                && let (Some(id), Some(kind), Some(target)) =
                    (attribute(element, "Id"), attribute(element, "Type"), attribute(element, "Target"))
            {
                let kind = kind.rsplit('/').next().unwrap_or_default().to_owned();
                targets.insert(id, Target { kind, path: absolute(folder, &target) });
            }
            Ok(!matches!(event, Event::Eof))
        })?;
        if !more {
            return Ok(targets);
        }
    }
}

/// The path of a target that is relative to a folder.
fn absolute(folder: &str, target: &str) -> String {
    if let Some(path) = target.strip_prefix('/') {
        return path.to_owned();
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

fn invalid(what: &str) -> FormatError {
    FormatError::Invalid { format: FileFormat::Xlsx, what: what.to_owned() }
}

fn unsupported(what: &str) -> FormatError {
    FormatError::Unsupported { format: FileFormat::Xlsx, what: what.to_owned() }
}

fn too_large(what: &str, limit: &str) -> FormatError {
    FormatError::TooLarge { format: FileFormat::Xlsx, what: what.to_owned(), limit: limit.to_owned() }
}
