//! The number formats of cell styles (ECMA-376 Part 1 §18.8).

use std::collections::HashMap;

use quick_xml::events::Event;

use super::format::NumberFormat;
use super::too_large;
use super::xml::{Part, attribute};
use crate::FormatError;

/// The most cell styles, and the most number formats. Excel has 65,490.
const MAX_STYLES: usize = 1 << 17;

/// The number formats by the number of the cell style.
#[derive(Debug, Default)]
pub(super) struct Styles(Vec<NumberFormat>);

impl Styles {
    /// The format of a style; plain for an unknown one.
    pub(super) fn get(&self, style: usize) -> NumberFormat {
        self.0.get(style).copied().unwrap_or_default()
    }
}

/// Reads the styles of a workbook.
pub(super) fn read(mut part: Part<'_>) -> Result<Styles, FormatError> {
    let mut codes: HashMap<u64, NumberFormat> = HashMap::new();
    let (mut styles, mut is_in_cells) = (Styles::default(), false);
    loop {
        let more = part.next(|event| {
            match event {
                Event::Start(element) | Event::Empty(element) => match element.local_name().as_ref() {
                    b"numFmt" => {
                        let number = attribute(element, "numFmtId").and_then(|number| number.parse().ok());
                        if let (Some(number), Some(code)) = (number, attribute(element, "formatCode")) {
                            codes.insert(number, NumberFormat::parse(&code));
                        }
                    }
                    b"cellXfs" => is_in_cells = matches!(event, Event::Start(_)),
                    b"xf" if is_in_cells => {
                        let number = attribute(element, "numFmtId").and_then(|number| number.parse().ok());
                        let number = number.unwrap_or(0);
                        let known = codes.get(&number).copied();
                        styles.0.push(known.unwrap_or_else(|| NumberFormat::built_in(number)));
                    }
                    _ => {}
                },
                Event::End(element) if element.local_name().as_ref() == b"cellXfs" => is_in_cells = false,
                _ => {}
            }
            if styles.0.len().max(codes.len()) > MAX_STYLES {
                return Err(too_large("more cell styles", &MAX_STYLES.to_string()));
            }
            Ok(!matches!(event, Event::Eof))
        })?;
        if !more {
            return Ok(styles);
        }
    }
}
