//! Messages whose contents are not read here: ignored ones, and ones that are passed on as they are encoded.

use std::borrow::Cow;

use super::field::{Field, FieldReader, FieldWriter, Fields, Value, WireMessage};
use super::value::Data;

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

/// A message as it is encoded: the text of an object in JSON, its bytes without their length in Protobuf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawMessage<'a>(pub Cow<'a, [u8]>);

impl<'a> Value<'a> for Option<RawMessage<'a>> {
    fn read<R: FieldReader<'a>>(&mut self, value: R) -> Result<(), R::Error> {
        let bytes = value.data()?.bytes;
        // A null is an absent member. These bytes are no message of Protobuf.
        *self = (*bytes != *b"null").then_some(RawMessage(bytes));
        Ok(())
    }

    fn write<W: FieldWriter>(&self, field: &Field, out: &mut W) {
        if let Some(RawMessage(bytes)) = self {
            out.data(field, &Data::from(&**bytes));
        }
    }
}
