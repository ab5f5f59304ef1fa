//! Headers in Thrift's compact protocol: of pages, and the shape of the schema.
//!
//! The library parses the whole footer; its recursion and the memory of pages depend on numbers in the file. The few
//! that matter are read and checked here first.

use super::{invalid, too_large};
use crate::FormatError;

/// The deepest nesting of structures that are skipped.
const MAX_DEPTH: usize = 32;

/// The most elements of one list. The library allocates memory for as many as a list declares.
const MAX_LIST: u64 = 1 << 18;

/// Types of fields (the compact protocol's numbers).
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;

/// The reason why an input is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// It ended, or is invalid.
    Damaged,
    /// A list declares more than [`MAX_LIST`] elements.
    LongList,
}

use Problem::Damaged;

/// Reads values.
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn byte(&mut self) -> Result<u8, Problem> {
        let byte = *self.bytes.get(self.at).ok_or(Damaged)?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64, Problem> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Damaged)
    }

    fn integer(&mut self) -> Result<i64, Problem> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// The number and the type of the next field; `None` at the end of the structure.
    fn field(&mut self, last: &mut i64) -> Result<Option<(i64, u8)>, Problem> {
        let head = self.byte()?;
        if head == 0 {
            return Ok(None);
        }
        *last = if head >> 4 == 0 { self.integer()? } else { *last + i64::from(head >> 4) };
        Ok(Some((*last, head & 0x0F)))
    }

    fn list(&mut self) -> Result<(u64, u8), Problem> {
        let head = self.byte()?;
        let count = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        if count > MAX_LIST {
            return Err(Problem::LongList);
        }
        Ok((count, head & 0x0F))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Result<(), Problem> {
        if depth > MAX_DEPTH {
            return Err(Damaged);
        }
        match kind {
            TRUE | FALSE => {}
            BYTE => {
                self.byte()?;
            }
            4..=6 => {
                self.varint()?;
            }
            DOUBLE => self.advance(8)?,
            BINARY => {
                let length = self.varint()?;
                self.advance(length)?;
            }
            LIST | SET => {
                let (count, kind) = self.list()?;
                for _ in 0..count {
                    // A boolean in a list takes a byte.
                    if kind == TRUE || kind == FALSE {
                        self.byte()?;
                    } else {
                        self.skip(kind, depth + 1)?;
                    }
                }
            }
            MAP => {
                let count = self.varint()?;
                let kinds = if count > 0 { self.byte()? } else { 0 };
                for _ in 0..count {
                    self.skip(kinds >> 4, depth + 1)?;
                    self.skip(kinds & 0x0F, depth + 1)?;
                }
            }
            STRUCT => {
                let mut last = 0;
                while let Some((_, kind)) = self.field(&mut last)? {
                    self.skip(kind, depth + 1)?;
                }
            }
            _ => return Err(Damaged),
        }
        Ok(())
    }

    fn advance(&mut self, length: u64) -> Result<(), Problem> {
        if length > (self.bytes.len() - self.at) as u64 {
            return Err(Damaged);
        }
        self.at += length as usize;
        Ok(())
    }
}

/// The header of a page (`PageHeader` in parquet.thrift).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PageHeader {
    /// 0: data, 1: index, 2: dictionary, 3: data of version 2.
    pub(super) kind: i64,
    pub(super) uncompressed: i64,
    pub(super) compressed: i64,
    pub(super) values: i64,
    pub(super) nulls: i64,
    pub(super) rows: i64,
    pub(super) encoding: i64,
    pub(super) definition_encoding: i64,
    pub(super) repetition_encoding: i64,
    pub(super) definition_bytes: i64,
    pub(super) repetition_bytes: i64,
    pub(super) is_uncompressed: bool,
}

impl PageHeader {
    /// Parses a header. Also returns its length.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, usize), Problem> {
        let mut input = Input { bytes, at: 0 };
        let (mut header, mut last) = (Self::default(), 0);
        while let Some((field, kind)) = input.field(&mut last)? {
            match field {
                1 => header.kind = input.integer()?,
                2 => header.uncompressed = input.integer()?,
                3 => header.compressed = input.integer()?,
                5 | 7 | 8 if kind == STRUCT => header.data(&mut input, field)?,
                _ => input.skip(kind, 0)?,
            }
        }
        Ok((header, input.at))
    }

    /// The fields of a page: of data (5), a dictionary (7), or data of version 2 (8).
    fn data(&mut self, input: &mut Input<'_>, of: i64) -> Result<(), Problem> {
        let mut last = 0;
        while let Some((field, kind)) = input.field(&mut last)? {
            match (of, field) {
                (_, 1) => self.values = input.integer()?,
                (5 | 7, 2) | (8, 4) => self.encoding = input.integer()?,
                (5, 3) => self.definition_encoding = input.integer()?,
                (5, 4) => self.repetition_encoding = input.integer()?,
                (8, 2) => self.nulls = input.integer()?,
                (8, 3) => self.rows = input.integer()?,
                (8, 5) => self.definition_bytes = input.integer()?,
                (8, 6) => self.repetition_bytes = input.integer()?,
                (8, 7) => self.is_uncompressed = kind == FALSE,
                _ => input.skip(kind, 0)?,
            }
        }
        Ok(())
    }
}

/// Checks that the schema in a footer (`FileMetaData`) has at most `most` columns and is not nested too deeply, and that
/// no list of the footer is too long.
pub(super) fn check_footer(footer: &[u8], most: usize) -> Result<(), FormatError> {
    let children = schema(footer).map_err(|problem| match problem {
        Damaged => invalid("its footer is damaged"),
        Problem::LongList => too_large("a longer list in its footer", &format!("{MAX_LIST} elements")),
    })?;
    // The library allocates memory for as many children as an element declares.
    if children.iter().any(|count| usize::try_from(*count).is_ok_and(|count| count >= children.len())) {
        return Err(invalid("its schema is damaged"));
    }
    // The numbers of children of a depth-first list give the depth.
    let (mut open, mut leaves): (Vec<i64>, _) = (Vec::new(), 0);
    for count in children {
        while open.last() == Some(&0) {
            open.pop();
        }
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        if count > 0 {
            open.push(count);
        } else {
            leaves += 1;
        }
        if open.len() > MAX_DEPTH {
            return Err(too_large("more nested types", &format!("{MAX_DEPTH} levels")));
        }
        if leaves > most {
            return Err(too_large("more columns", &most.to_string()));
        }
    }
    Ok(())
}

/// The number of children of each element of the schema. Reads the whole footer.
fn schema(footer: &[u8]) -> Result<Vec<i64>, Problem> {
    let mut input = Input { bytes: footer, at: 0 };
    let (mut children, mut last) = (Vec::new(), 0);
    while let Some((field, kind)) = input.field(&mut last)? {
        // The library uses the first schema.
        if field != 2 || !children.is_empty() {
            input.skip(kind, 0)?;
            continue;
        }
        let (count, element) = if kind == LIST { input.list()? } else { return Err(Damaged) };
        if element != STRUCT {
            return Err(Damaged);
        }
        for _ in 0..count {
            let (mut last, mut of_element) = (0, 0);
            while let Some((field, kind)) = input.field(&mut last)? {
                if field == 5 { of_element = input.integer()? } else { input.skip(kind, 0)? }
            }
            children.push(of_element);
        }
    }
    if children.is_empty() { Err(Damaged) } else { Ok(children) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The footer with a schema of these numbers of children, and other fields after it.
    fn footer(children: &[i64], rest: &[u8]) -> Vec<u8> {
        // Field 2, a list of structures, whose field 5 is an integer.
        let mut footer = vec![0x29, 0xFC];
        varint(children.len() as u64, &mut footer);
        for count in children {
            footer.push(0x55);
            varint((*count as u64) << 1, &mut footer);
            footer.push(0);
        }
        footer.extend_from_slice(rest);
        footer.push(0);
        footer
    }

    fn varint(mut value: u64, out: &mut Vec<u8>) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }

    fn problem(footer: &[u8], most: usize) -> String {
        check_footer(footer, most).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn a_footer_is_refused_for_its_columns_depth_and_lists_before_memory_is_allocated() {
        let flat = [&[3_i64][..], &[0; 3]].concat();
        assert_eq!(problem(&footer(&flat, &[]), 3), "");
        assert!(problem(&footer(&flat, &[]), 2).contains("more columns; the limit is 2"));
        assert!(
            problem(&footer(&[&[1; 40][..], &[0]].concat(), &[]), 3)
                .contains("more nested types; the limit is 32 levels")
        );
        // Row groups (field 4): a list of structures with a length of its own, which is not there.
        let mut groups = vec![0x29, 0xFC];
        varint(u64::from(u32::MAX), &mut groups);
        assert!(
            problem(&footer(&flat, &groups), 3).contains("a longer list in its footer; the limit is 262144")
        );
        assert!(problem(&footer(&[i64::from(i32::MAX), 0], &[]), 3).contains("its schema is damaged"));
        let mut long = vec![0x29, 0xFC];
        varint(1 << 30, &mut long);
        assert!(problem(&long, 3).contains("a longer list"));
        assert!(problem(&footer(&flat, &[0x29]), 3).contains("its footer is damaged"));
        assert!(problem(b"", 3).contains("its footer is damaged"));
    }
}
