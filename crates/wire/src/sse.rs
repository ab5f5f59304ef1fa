//! Server-sent events (the HTML standard, "Server-sent events": parsing and interpreting an event stream).
//!
//! A stream is UTF-8, in lines; a field is a line, an event ends with an empty line. A line ends with `\r\n`, `\n` or
//! `\r`, so a text with any of these is written as several `data` lines, and read as those with `\n` between them.
//!
//! Invariant: for any input, one event (or one comment, one `retry`) is appended and nothing more.

use memchr::memchr2;
use thiserror::Error;

/// One event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event<'a> {
    /// The id that the client sends when it reconnects (`Last-Event-ID`); `None` keeps the previous one, an empty id
    /// resets it.
    pub id: Option<&'a str>,
    /// The type of the event, which selects listeners; `None` is `message`.
    pub event: Option<&'a str>,
    /// The data.
    pub data: &'a str,
}

/// An invalid value of a field, which clients would read differently.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidField {
    /// A line break in `id` or `event`.
    #[error("line break in the {0} of an event")]
    LineBreak(&'static str),
    /// A NUL in `id`, for which clients ignore all of it.
    #[error("NUL in the id of an event")]
    Nul,
}

impl Event<'_> {
    /// Appends it.
    ///
    /// # Errors
    /// [`InvalidField`], and nothing is appended.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), InvalidField> {
        self.check()?;
        self.write_head(out);
        lines("data: ", self.data, out);
        out.push(b'\n');
        Ok(())
    }

    /// Appends it with what `write` appends instead of its data, as in [`data_line`].
    ///
    /// # Errors
    /// [`InvalidField`], and nothing is appended.
    pub fn write_line(
        &self,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), InvalidField> {
        self.check()?;
        self.write_head(out);
        data_line(out, write);
        Ok(())
    }

    fn check(&self) -> Result<(), InvalidField> {
        for (name, value) in [("id", self.id), ("event", self.event)] {
            if value.is_some_and(|value| value.contains(['\r', '\n'])) {
                return Err(InvalidField::LineBreak(name));
            }
        }
        if self.id.is_some_and(|id| id.contains('\0')) {
            return Err(InvalidField::Nul);
        }
        Ok(())
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        for (field, value) in [(&b"event: "[..], self.event), (b"id: ", self.id)] {
            if let Some(value) = value {
                out.extend_from_slice(field);
                out.extend_from_slice(value.as_bytes());
                out.push(b'\n');
            }
        }
    }
}

/// Appends an event with data alone, which `write` appends. The data must be UTF-8 without a line break, as the JSON of
/// [`crate::client`] is, so it is written without another check.
pub fn data_line(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"data: ");
    write(out);
    out.extend_from_slice(b"\n\n");
}

/// Appends the delay before a client reconnects, in milliseconds.
pub fn retry(milliseconds: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"retry: ");
    out.extend_from_slice(itoa::Buffer::new().format(milliseconds).as_bytes());
    out.extend_from_slice(b"\n\n");
}

/// Appends a comment, which clients ignore; it keeps proxies from closing an idle stream.
pub fn comment(text: &str, out: &mut Vec<u8>) {
    lines(": ", text, out);
    out.push(b'\n');
}

/// Appends every line of `text` after `start`. The space at the end of `start` is not part of the value, and protects a
/// space at the start of the value.
fn lines(start: &str, text: &str, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    out.reserve(start.len() + rest.len() + 2);
    loop {
        let end = memchr2(b'\r', b'\n', rest);
        out.extend_from_slice(start.as_bytes());
        out.extend_from_slice(&rest[..end.unwrap_or(rest.len())]);
        out.push(b'\n');
        let Some(end) = end else { return };
        let ending = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[end + ending..];
    }
}

/// Appends the event `error` with a JSON object, which is one line of UTF-8, as its data.
pub fn error(json: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: error\ndata: ");
    out.extend_from_slice(json);
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The events of a stream in a browser: id, event and data of each, by the standard's algorithm.
    fn dispatched(stream: &str) -> Vec<(String, String, String)> {
        let (mut all, mut id, mut event, mut data) =
            (Vec::new(), String::new(), String::new(), String::new());
        let normal = stream.replace("\r\n", "\n").replace('\r', "\n");
        // Text after the last line break is no line.
        for line in normal.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            if line.is_empty() {
                if let Some(text) = std::mem::take(&mut data).strip_suffix('\n') {
                    all.push((id.clone(), std::mem::take(&mut event), text.to_owned()));
                }
                event.clear();
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut event),
                "data" => {
                    data.push_str(value);
                    data.push('\n');
                }
                "id" if !value.contains('\0') => value.clone_into(&mut id),
                _ => {}
            }
        }
        all
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b"before".to_vec();
        write(&mut out);
        String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
    }

    #[test]
    fn an_event_is_written_as_in_the_standard() {
        let event = Event { id: Some("7"), event: Some("add"), data: "first\nsecond" };
        let text = written(|out| event.write(out).unwrap());
        assert_eq!(text, "event: add\nid: 7\ndata: first\ndata: second\n\n");
        assert_eq!(written(|out| Event::default().write(out).unwrap()), "data: \n\n");
        assert_eq!(written(|out| retry(1500, out)), "retry: 1500\n\n");
        assert_eq!(written(|out| comment("a\nb", out)), ": a\n: b\n\n");
        let line = written(|out| event.write_line(out, |out| out.extend_from_slice(b"{}")).unwrap());
        assert_eq!(line, "event: add\nid: 7\ndata: {}\n\n");
    }

    #[test]
    fn ambiguous_values_are_refused() {
        let refused = |event: Event<'_>| {
            let mut out = Vec::new();
            let error = event.write(&mut out).unwrap_err();
            assert_eq!(event.write_line(&mut out, |_| panic!("written")), Err(error));
            assert!(out.is_empty());
            error
        };
        let event = Event::default();
        assert_eq!(refused(Event { id: Some("a\nb"), ..event }), InvalidField::LineBreak("id"));
        assert_eq!(refused(Event { event: Some("a\r"), ..event }), InvalidField::LineBreak("event"));
        assert_eq!(refused(Event { id: Some("a\0"), ..event }), InvalidField::Nul);
    }

    proptest! {
        #[test]
        fn a_browser_reads_the_text_that_was_written(
            data in "[a: \r\n]{0,12}|.{0,20}",
            event in "[a: ]{0,4}",
            id in "[a: ]{0,4}",
            words in "[a: \r\n]{0,8}",
        ) {
            let stream = written(|out| {
                comment(&words, out);
                Event { id: Some(&id), event: Some(&event), data: &data }.write(out).unwrap();
                retry(1, out);
                Event { data: "end", ..Event::default() }.write(out).unwrap();
            });
            let text = data.replace("\r\n", "\n").replace('\r', "\n");
            prop_assert_eq!(
                dispatched(&stream),
                [(id.clone(), event, text), (id, String::new(), "end".to_owned())]
            );
        }
    }
}
