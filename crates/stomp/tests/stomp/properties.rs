//! Frames of clients and of a server for generated headers and bodies.

use proptest::collection::vec;
use proptest::prelude::*;
use tidings_stomp::{Command, Decoded, decode, error, message, receipt, shared_message};

/// A text without NUL, with many of the characters that need an escape.
fn text() -> impl Strategy<Value = String> {
    "([a-z\\\\:\r\n]|[^\0]){0,20}"
}

/// As STOMP 1.2, "Value Encoding".
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\r', "\\r").replace('\n', "\\n").replace(':', "\\c")
}

fn unescaped(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text.chars());
    while let Some(character) = rest.next() {
        out.push(match character {
            '\\' => match rest.next() {
                Some('r') => '\r',
                Some('n') => '\n',
                Some('c') => ':',
                other => other.unwrap(),
            },
            character => character,
        });
    }
    out
}

/// The command, the headers and the body of a server's frame.
fn parts(frame: &[u8]) -> (String, Vec<(String, String)>, Vec<u8>) {
    let head = frame.windows(2).position(|pair| pair == b"\n\n").expect("an empty line");
    let lines = String::from_utf8(frame[..head].to_vec()).expect("a head in UTF-8");
    let mut lines = lines.split('\n').map(str::to_owned);
    let command = lines.next().expect("a command");
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').expect("a header");
        (unescaped(name), unescaped(value))
    });
    let body = frame[head + 2..].strip_suffix(b"\0").expect("a NUL at the end");
    (command, headers.collect(), body.to_vec())
}

proptest! {
    #[test]
    fn a_frame_of_a_client_keeps_its_headers_and_its_body(headers in vec((text(), text()), 0..6), body in vec(any::<u8>(), 0..60), more in vec(any::<u8>(), 0..10)) {
        let headers: Vec<_> = headers.into_iter().filter(|(name, _)| !name.is_empty() && name != "content-length").collect();
        let mut bytes = format!("SEND\ncontent-length:{}\n", body.len()).into_bytes();
        for (name, value) in &headers {
            bytes.extend(format!("{}:{}\n", escaped(name), escaped(value)).into_bytes());
        }
        bytes.extend([b"\n", &body[..], b"\0"].concat());
        let whole = bytes.len();
        for end in 0..whole {
            prop_assert!(matches!(decode(&bytes[..end]), Ok(Decoded::Partial(None))) || matches!(decode(&bytes[..end]), Ok(Decoded::Partial(Some(length))) if length == whole));
        }
        bytes.extend(more);
        let decoded = decode(&bytes).expect("a frame");
        let Decoded::Frame(frame, length) = decoded else { panic!("{decoded:?}") };
        prop_assert_eq!((frame.command, frame.body, length), (Command::Send, &body[..], whole));
        for (name, _) in &headers {
            let first = headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
            prop_assert_eq!(frame.header(name), first);
        }
    }

    #[test]
    fn a_message_keeps_its_headers_and_its_body(destination in text(), subscription in text(), number in any::<u64>(), header in ("x[a-z\\\\:\r\n]{0,10}", text()), body in vec(any::<u8>(), 0..60)) {
        let (mut shared, mut out) = (Vec::new(), Vec::new());
        shared_message(&destination, "text/plain", [(&*header.0, &*header.1)], &body, &mut shared);
        message(&shared, &subscription, number, &mut out);
        let expected = [
            ("subscription".to_owned(), subscription),
            ("message-id".to_owned(), number.to_string()),
            ("destination".to_owned(), destination),
            ("content-type".to_owned(), "text/plain".to_owned()),
            ("content-length".to_owned(), body.len().to_string()),
            header,
        ];
        prop_assert_eq!(parts(&out), ("MESSAGE".to_owned(), expected.to_vec(), body));
    }

    #[test]
    fn errors_and_receipts_keep_their_texts(words in text(), id in text(), explanation in "\\PC{0,40}") {
        let mut out = Vec::new();
        error(&words, &[("receipt-id", &id)], &explanation, &mut out);
        let (command, headers, body) = parts(&out);
        prop_assert_eq!((command.as_str(), &headers[0].1, &headers[1].1, body), ("ERROR", &words, &id, explanation.into_bytes()));
        out.clear();
        receipt(&id, &mut out);
        prop_assert_eq!(parts(&out), ("RECEIPT".to_owned(), vec![("receipt-id".to_owned(), id)], Vec::new()));
    }
}
