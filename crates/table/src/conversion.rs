//! Files that are not delimited text: the stage between decompression and the dialect, which detects their format and
//! converts them to text (`table-formats`).
//!
//! The text goes to an unlinked file, like that of a compressed file, and has the same bounds: [`Limits::text_bytes`],
//! [`Limits::unpack_ratio`] and the table's budget. JSON is converted while it arrives; of XLSX and Parquet files, whose
//! directories are at their ends, the complete file is converted, and rows are published meanwhile.
//!
//! The format is detected once and stored with the dialect, so that a table stays what it was when it was uploaded.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidings_table_formats::{DeclaredType, FileFormat, FormatError, JsonReader, Workbook};

use crate::dialect::{Choice, GuessContext};
use crate::intake::IntakeContext;
use crate::{Compression, Error, Limits, TypeChoice, TypeChoices};

/// The most columns whose declared types are used.
const TYPED_COLUMNS: usize = 1_000;

/// Facts about a converted file.
#[derive(Clone, Debug, Default)]
pub(crate) struct FormatFacts {
    /// The names of the sheets, and the one that is shown.
    pub(crate) sheets: Vec<String>,
    pub(crate) sheet: Option<usize>,
    /// The types that the file declares.
    pub(crate) types: TypeChoices,
}

/// Converts one file.
pub(crate) struct Converter {
    /// The first bytes, until the format is detected.
    head: Vec<u8>,
    conversion: Option<Conversion>,
    /// The bytes of text so far.
    text: u64,
}

enum Conversion {
    Text,
    Json(Box<JsonReader>),
    /// A format whose complete file is needed.
    Whole(FileFormat),
}

/// Receives text, with the context that it is read in.
pub(crate) type Sink<'a> = &'a mut dyn FnMut(&[u8], &GuessContext) -> Result<(), Error>;

/// Called after each piece of a complete file that is converted, with the part that is complete. Cancels by an error.
pub(crate) type Step<'a> = &'a mut dyn FnMut(f32) -> Result<(), Error>;

/// Receives text of a complete file, with the part that is complete.
type Pass<'a> = &'a mut dyn FnMut(&[u8], f32, &GuessContext) -> Result<(), Error>;

impl Converter {
    pub(crate) const fn new() -> Self {
        Self { head: Vec::new(), conversion: None, text: 0 }
    }

    /// The names of the columns, if there may be more than in the first line of the text.
    pub(crate) fn names(&self) -> Option<&Arc<Vec<String>>> {
        match &self.conversion {
            Some(Conversion::Json(reader)) => Some(reader.names()),
            _ => None,
        }
    }

    /// The number of objects in `objects`, which shall follow the file.
    pub(crate) fn check_json(&self, objects: &[u8]) -> Result<u64, Error> {
        match &self.conversion {
            Some(Conversion::Json(reader)) if !reader.is_array() => {}
            _ => return Err(Error::Unwritable("the file is not a sequence of JSON objects")),
        }
        let mut reader = JsonReader::new();
        reader.take(objects, |_| Ok::<(), Error>(()))?;
        reader.finish(|_| Ok::<(), Error>(()))?;
        if reader.is_array() {
            return Err(Error::Unwritable("the file has JSON objects one after another, not arrays"));
        }
        Ok(reader.objects())
    }

    /// Converts the following bytes of a file, of which `present` bytes exist.
    pub(crate) fn take(
        &mut self,
        bytes: &[u8],
        present: u64,
        context: &IntakeContext,
        known: &mut GuessContext,
        sink: Sink<'_>,
    ) -> Result<(), Error> {
        if self.conversion.is_some() {
            return self.convert(bytes, present, context, known, sink);
        }
        self.head.extend_from_slice(bytes);
        self.begin(false, known)?;
        if self.conversion.is_none() {
            return Ok(());
        }
        let head = std::mem::take(&mut self.head);
        self.convert(&head, present, context, known, sink)
    }

    /// Ends the file.
    pub(crate) fn finish(
        &mut self,
        present: u64,
        context: &IntakeContext,
        known: &mut GuessContext,
        sink: Sink<'_>,
        step: Step<'_>,
    ) -> Result<(), Error> {
        if self.conversion.is_none() {
            self.begin(true, known)?;
            let head = std::mem::take(&mut self.head);
            self.convert(&head, present, context, known, sink)?;
        }
        let Self { conversion, text, .. } = self;
        match conversion {
            Some(Conversion::Json(reader)) => reader.finish(|piece| {
                check_ratio(text, piece, present, context)?;
                sink(piece, known)
            }),
            Some(Conversion::Whole(format)) if present > 0 => {
                let mut pass = |piece: &[u8], part: f32, known: &GuessContext| {
                    check_ratio(text, piece, present, context)?;
                    if !piece.is_empty() {
                        sink(piece, known)?;
                    }
                    step(part)
                };
                convert_whole(*format, present, context, known, &mut pass)
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, whole: bool, known: &mut GuessContext) -> Result<(), Error> {
        let stored = known.stored.as_ref().map(|stored| stored.dialect.format);
        // A chosen delimiter means delimited text.
        let chosen = known.choice.is_text || known.choice.delimiter.is_some();
        let chosen = (stored.is_none() && chosen).then_some(FileFormat::Text);
        let Some(format) = stored.or(chosen).or_else(|| detect(&self.head, whole)) else { return Ok(()) };
        if format != FileFormat::Text {
            check_choice(&known.choice)?;
        }
        if format.needs_whole_file() && known.compression != Compression::None {
            return Err(Error::Format(format!("this is a compressed {format} file; decompress it first")));
        }
        known.format = format;
        self.conversion = Some(match format {
            FileFormat::Text => Conversion::Text,
            FileFormat::Json => Conversion::Json(Box::new(JsonReader::new())),
            FileFormat::Xlsx | FileFormat::Parquet => Conversion::Whole(format),
        });
        Ok(())
    }

    fn convert(
        &mut self,
        bytes: &[u8],
        present: u64,
        context: &IntakeContext,
        known: &GuessContext,
        sink: Sink<'_>,
    ) -> Result<(), Error> {
        let Self { conversion, text, .. } = self;
        match conversion {
            Some(Conversion::Text) => sink(bytes, known),
            Some(Conversion::Json(reader)) => reader.take(bytes, |piece| {
                check_ratio(text, piece, present, context)?;
                sink(piece, known)
            }),
            // It is read from the disk at the end.
            Some(Conversion::Whole(_)) | None => Ok(()),
        }
    }
}

fn detect(head: &[u8], whole: bool) -> Option<FileFormat> {
    match tidings_table_formats::detect(head, whole)? {
        // The engine reports what the file is.
        FileFormat::Parquet if !cfg!(feature = "parquet") => Some(FileFormat::Text),
        format => Some(format),
    }
}

fn convert_whole(
    format: FileFormat,
    present: u64,
    context: &IntakeContext,
    known: &mut GuessContext,
    pass: Pass<'_>,
) -> Result<(), Error> {
    let file = &context.original;
    match format {
        FileFormat::Xlsx => {
            let workbook = Workbook::open(file)?;
            let sheet = workbook.position(known.choice.sheet.as_deref())?;
            let sheets = workbook.sheets().map(str::to_owned).collect();
            known.facts = Arc::new(FormatFacts { sheets, sheet: Some(sheet), types: BTreeMap::new() });
            let most = most_text(present, context);
            workbook.write(sheet, most, |piece, part| pass(piece, part, known))
        }
        #[cfg(feature = "parquet")]
        FileFormat::Parquet => {
            let reader = tidings_table_formats::ParquetReader::open(file)?;
            let types = reader.types().into_iter().take(TYPED_COLUMNS).enumerate();
            let types =
                types.filter_map(|(column, declared)| Some((column, type_choice(declared?)))).collect();
            known.facts = Arc::new(FormatFacts { types, ..FormatFacts::default() });
            reader.write(|piece, part| pass(piece, part, known))
        }
        _ => Err(Error::Format(format!("this program was built without {format}"))),
    }
}

#[cfg_attr(not(feature = "parquet"), expect(dead_code, reason = "only Parquet files declare types"))]
const fn type_choice(declared: DeclaredType) -> TypeChoice {
    match declared {
        DeclaredType::Text => TypeChoice::Text,
        DeclaredType::Number => TypeChoice::Number(None),
        DeclaredType::Date => TypeChoice::Date(None),
        DeclaredType::Boolean => TypeChoice::Boolean,
    }
}

/// The cells of these formats have no delimiter, quote or encoding to choose.
fn check_choice(choice: &Choice) -> Result<(), Error> {
    let is_chosen = choice.delimiter.is_some()
        || choice.quote.is_some()
        || choice.escape.is_some()
        || choice.encoding.is_some();
    if is_chosen {
        return Err(Error::Dialect(
            "JSON, XLSX and Parquet files have no delimiter, quote, escape or encoding to choose",
        ));
    }
    Ok(())
}

/// The most text of a file of this size.
fn most_text(present: u64, context: &IntakeContext) -> u64 {
    present.saturating_mul(context.limits.unpack_ratio).saturating_add(Limits::UNPACK_FREE)
}

/// Counts text. Returns an error if its ratio to the existing bytes is too large.
fn check_ratio(text: &mut u64, piece: &[u8], present: u64, context: &IntakeContext) -> Result<(), Error> {
    *text += piece.len() as u64;
    if *text > most_text(present, context) {
        return Err(Error::UnpackRatio { ratio: context.limits.unpack_ratio });
    }
    Ok(())
}

impl From<FormatError> for Error {
    fn from(error: FormatError) -> Self {
        match error {
            FormatError::Io(error) => Self::Io(error),
            FormatError::NoSheet(name) => Self::NoSheet(name),
            FormatError::TooLarge { .. } => Self::FormatLimit(error.to_string()),
            error => Self::Format(error.to_string()),
        }
    }
}
