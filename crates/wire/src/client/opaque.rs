//! Messages whose contents are ignored.

use super::field::{Field, FieldReader, FieldWriter, Fields, WireMessage};

/// A message with ignored contents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opaque;

impl<'a> WireMessage<'a> for Opaque {
    const FIELDS: &'static [Field] = &[];

    fn read<R: FieldReader<'a>>(&mut self, _: u32, value: R) -> Result<(), R::Error> {
        value.skip()
    }
}

impl Fields for Opaque {
    fn write<W: FieldWriter>(&self, _: &mut W) {}
}
