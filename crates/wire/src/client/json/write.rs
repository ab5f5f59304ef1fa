//! Encoding of messages as JSON, without a serializer: the protocol defines which members are omitted and how bytes are
//! written.

use std::borrow::Cow;

use crate::body::{write_json, write_json_string};
use crate::client::field::{Field, FieldWriter, Fields, Value};
use crate::client::value::Data;

/// Appends a message as one object, on one line.
pub(crate) fn write<M: Fields>(message: &M, out: &mut Vec<u8>) {
    ObjectWriter { out, first: true }.body(message);
}

/// An object that is being written.
struct ObjectWriter<'o> {
    out: &'o mut Vec<u8>,
    /// Whether the next member is the first one.
    first: bool,
}

impl ObjectWriter<'_> {
    fn body<M: Fields>(&mut self, message: &M) {
        let first = std::mem::replace(&mut self.first, true);
        self.out.push(b'{');
        message.write(self);
        self.out.push(b'}');
        self.first = first;
    }

    fn key(&mut self, field: &Field) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        self.out.extend_from_slice(field.key.as_bytes());
    }
}

impl FieldWriter for ObjectWriter<'_> {
    fn boolean(&mut self, field: &Field, value: bool) {
        if value || field.always {
            self.key(field);
            self.out.extend_from_slice(if value { b"true" } else { b"false" });
        }
    }

    fn unsigned(&mut self, field: &Field, value: u64) {
        if value != 0 || field.always {
            self.key(field);
            self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        }
    }

    fn signed(&mut self, field: &Field, value: i64) {
        if value != 0 || field.always {
            self.key(field);
            self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        }
    }

    fn text(&mut self, field: &Field, value: &str) {
        if !value.is_empty() || field.always {
            self.key(field);
            write_json_string(value, self.out);
        }
    }

    fn data(&mut self, field: &Field, value: &Data<'_>) {
        self.key(field);
        write_json(&value.bytes, value.format, self.out);
    }

    fn message<M: Fields>(&mut self, field: &Field, value: &M) {
        self.key(field);
        self.body(value);
    }

    fn list<M: Fields>(&mut self, field: &Field, list: &[M]) {
        if list.is_empty() && !field.always {
            return;
        }
        self.key(field);
        self.out.push(b'[');
        for (at, message) in list.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            self.body(message);
        }
        self.out.push(b']');
    }

    fn texts(&mut self, field: &Field, list: &[Cow<'_, str>]) {
        if list.is_empty() && !field.always {
            return;
        }
        self.key(field);
        self.out.push(b'[');
        for (at, text) in list.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            write_json_string(text, self.out);
        }
        self.out.push(b']');
    }

    fn map<'a, K: AsRef<str>, V: Value<'a>>(&mut self, field: &Field, map: &[(K, V)]) {
        if map.is_empty() && !field.always {
            return;
        }
        self.key(field);
        let first = self.first;
        self.out.push(b'{');
        for (at, (key, value)) in map.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            write_json_string(key.as_ref(), self.out);
            self.out.push(b':');
            self.first = true;
            value.write(&Field::VALUE, self);
        }
        self.out.push(b'}');
        self.first = first;
    }
}
