//! Values of the protocol's fields besides numbers and text.

use std::borrow::Cow;
use std::ops::Deref;

use crate::body::DataFormat;

/// Data of an application: bytes that the protocol carries without parsing them.
///
/// In Protobuf they are a `bytes` field. In JSON they are a value: decoded, it is the raw text of that value; encoded,
/// it is the output of [`crate::body::write_json`] for the bytes in `format`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Data<'a> {
    /// The bytes. Data from JSON is the text of one value, which may have line breaks between its tokens.
    pub bytes: Cow<'a, [u8]>,
    /// How JSON shows the bytes. Not encoded: decoded data has [`DataFormat::Auto`].
    pub format: DataFormat,
}

impl<'a> Data<'a> {
    /// Bytes that JSON shows in `format`.
    pub fn new(bytes: impl Into<Cow<'a, [u8]>>, format: DataFormat) -> Self {
        Self { bytes: bytes.into(), format }
    }
}

impl<'a> From<&'a [u8]> for Data<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::new(bytes, DataFormat::Auto)
    }
}

impl<'a> From<&'a str> for Data<'a> {
    fn from(text: &'a str) -> Self {
        text.as_bytes().into()
    }
}

impl From<Vec<u8>> for Data<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes, DataFormat::Auto)
    }
}

/// Several values: borrowed for an encoder, or owned in the result of a decoder.
#[derive(Clone, Debug)]
pub enum List<'a, T> {
    /// Borrowed.
    Borrowed(&'a [T]),
    /// Owned.
    Owned(Vec<T>),
}

/// Named values in the order of the message. A decoder does not check for duplicate names.
pub type Map<'a, V> = List<'a, (Cow<'a, str>, V)>;

impl<T> List<'_, T> {
    /// Appends a value.
    pub(crate) fn push(&mut self, value: T)
    where
        T: Clone,
    {
        match self {
            Self::Owned(list) => list.push(value),
            Self::Borrowed(list) => {
                let mut list = list.to_vec();
                list.push(value);
                *self = Self::Owned(list);
            }
        }
    }
}

impl<T> Deref for List<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Borrowed(list) => list,
            Self::Owned(list) => list,
        }
    }
}

impl<T> Default for List<'_, T> {
    fn default() -> Self {
        Self::Borrowed(&[])
    }
}

impl<T: PartialEq> PartialEq for List<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl<T: Eq> Eq for List<'_, T> {}

impl<T> From<Vec<T>> for List<'_, T> {
    fn from(list: Vec<T>) -> Self {
        Self::Owned(list)
    }
}

impl<'a, T> From<&'a [T]> for List<'a, T> {
    fn from(list: &'a [T]) -> Self {
        Self::Borrowed(list)
    }
}
