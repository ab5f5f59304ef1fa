//! The format of a file, from its first bytes.

use crate::FileFormat;
use crate::json::{Scanned, Scanner};

/// The bytes that the detection of JSON examines: an object that is longer is accepted when it begins like one.
const HEAD_BYTES: usize = 64 << 10;

/// The local header of a file in a ZIP archive (APPNOTE 4.3.7).
const ZIP: &[u8] = b"PK\x03\x04";

/// The magic number of Parquet.
const PARQUET: &[u8] = b"PAR1";

/// The byte order mark of UTF-8.
pub(crate) const MARK: &[u8] = b"\xEF\xBB\xBF";

/// The format of a file that starts with `head`; `None` while more bytes are needed. `whole`: nothing follows.
///
/// A ZIP archive is an XLSX file unless its first entry has a name that an XLSX file does not have. Text is JSON if it
/// begins with an object, or an array of objects, and the first object is followed by another one or by the end.
pub fn detect(head: &[u8], whole: bool) -> Option<FileFormat> {
    let may_be = |magic: &[u8]| !whole && head.len() < magic.len() && magic.starts_with(head);
    if head.starts_with(ZIP) {
        return zip(head, whole);
    }
    if head.starts_with(PARQUET) {
        return Some(FileFormat::Parquet);
    }
    if may_be(ZIP) || may_be(PARQUET) || may_be(MARK) {
        return None;
    }
    if is_json(head.strip_prefix(MARK).unwrap_or(head), whole || head.len() >= HEAD_BYTES)? {
        Some(FileFormat::Json)
    } else {
        Some(FileFormat::Text)
    }
}

/// The names with which the first entry of an XLSX file begins.
const XLSX_NAMES: [&str; 5] = ["[Content_Types].xml", "_rels/", "xl/", "docProps/", "customXml/"];

fn zip(head: &[u8], whole: bool) -> Option<FileFormat> {
    // The fixed part of a local header has 30 bytes; the length of the name is at 26.
    let Some(length) = head.get(26..28) else { return whole.then_some(FileFormat::Text) };
    let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
    let Some(name) = head.get(30..30 + length) else { return whole.then_some(FileFormat::Text) };
    let is_xlsx = XLSX_NAMES.iter().any(|known| name.starts_with(known.as_bytes()));
    Some(if is_xlsx { FileFormat::Xlsx } else { FileFormat::Text })
}

/// Whether a text is JSON; `None` while more bytes are needed.
fn is_json(text: &[u8], whole: bool) -> Option<bool> {
    let open = whole.then_some(false);
    let space =
        |from: usize| from + text[from..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let mut at = space(0);
    let is_array = text.get(at) == Some(&b'[');
    if is_array {
        at = space(at + 1);
    }
    match text.get(at) {
        Some(b'{') => {}
        Some(_) => return Some(false),
        None => return open,
    }
    let key = space(at + 1);
    match text.get(key) {
        Some(b'"') => {
            let mut end = key + 1;
            while let Some(byte) = text.get(end).filter(|byte| **byte != b'"') {
                end += if *byte == b'\\' { 2 } else { 1 };
            }
            if end >= text.len() {
                return open;
            }
            let colon = space(end + 1);
            match text.get(colon) {
                Some(b':') => {}
                Some(_) => return Some(false),
                None => return open,
            }
        }
        Some(b'}') => {}
        Some(_) => return Some(false),
        None => return open,
    }
    let mut scanner = Scanner::default();
    let end = match scanner.scan(&text[at..]) {
        Scanned::Complete(length) => space(at + length),
        // A long object that begins like one.
        Scanned::Partial => return whole.then_some(true),
    };
    match text.get(end) {
        Some(b',' | b']') => Some(is_array),
        Some(b'{') => Some(!is_array),
        Some(_) => Some(false),
        None => whole.then_some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_detected_from_the_first_bytes() {
        let xlsx = |name: &str| {
            let mut head = b"PK\x03\x04".to_vec();
            head.resize(26, 0);
            head.extend_from_slice(&[name.len() as u8, 0, 0, 0]);
            head.extend_from_slice(name.as_bytes());
            head
        };
        for (head, format) in [
            (&b"a,b\n1,2\n"[..], FileFormat::Text),
            (b"", FileFormat::Text),
            (b"PAR1\x15\x04", FileFormat::Parquet),
            (&xlsx("[Content_Types].xml"), FileFormat::Xlsx),
            (&xlsx("xl/workbook.xml"), FileFormat::Xlsx),
            (&xlsx("holiday.jpg"), FileFormat::Text),
            (b"{\"a\":1}\n{\"a\":2}\n", FileFormat::Json),
            (b"\xEF\xBB\xBF {\"a\" : 1}", FileFormat::Json),
            (b" [\n {\"a\":\"}\"},\n {\"b\":2}]", FileFormat::Json),
            (b"[{}]", FileFormat::Json),
            (b"{}\n{}", FileFormat::Json),
            // Cells with JSON, a template, a list, a set.
            (b"{\"a\":1}\t5\n{\"a\":2}\t6\n", FileFormat::Text),
            (b"{\"a\":1},{\"a\":2}\n", FileFormat::Text),
            (b"{name},{value}\n", FileFormat::Text),
            (b"[1,2,3]\n", FileFormat::Text),
            (b"{\"a\",\"b\"}\n", FileFormat::Text),
            (b"[section]\nkey=value\n", FileFormat::Text),
        ] {
            let shown = String::from_utf8_lossy(head);
            assert_eq!(detect(head, true), Some(format), "{shown}");
            // A part is undecided, or decided as the whole.
            for length in 0..head.len() {
                let part = detect(&head[..length], false);
                assert!(part.is_none_or(|part| part == format), "{shown}: {length} bytes are {part:?}");
            }
        }
    }

    #[test]
    fn an_object_that_is_longer_than_the_examined_head_is_json() {
        let mut head = b"{\"a\":\"".to_vec();
        head.resize(HEAD_BYTES, b'x');
        assert_eq!(detect(&head[..1000], false), None);
        assert_eq!(detect(&head, false), Some(FileFormat::Json));
        assert_eq!(detect(&vec![b' '; HEAD_BYTES], false), Some(FileFormat::Text));
    }
}
