//! Replies and pushes of a server, and the commands of a client.

use super::Version;

/// Appends `+text`. Line breaks in it become spaces.
pub fn simple(text: &str, out: &mut Vec<u8>) {
    line(b'+', text, out);
}

/// Appends `-text`; the first word is the kind of error (`ERR`, `NOAUTH`). Line breaks become spaces.
pub fn error(text: &str, out: &mut Vec<u8>) {
    line(b'-', text, out);
}

/// Appends `:number`.
pub fn integer(number: i64, out: &mut Vec<u8>) {
    out.push(b':');
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Appends a bulk string.
pub fn bulk(bytes: &[u8], out: &mut Vec<u8>) {
    header(b'$', bytes.len(), out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends null: a null bulk string in version 2.
pub fn null(version: Version, out: &mut Vec<u8>) {
    out.extend_from_slice(match version {
        Version::V2 => b"$-1\r\n",
        Version::V3 => b"_\r\n",
    });
}

/// Appends the head of an array; its `length` elements follow.
pub fn array(length: usize, out: &mut Vec<u8>) {
    header(b'*', length, out);
}

/// Appends the head of a map; its `pairs` keys and values follow, in turns. An array of both in version 2.
pub fn map(version: Version, pairs: usize, out: &mut Vec<u8>) {
    match version {
        Version::V2 => header(b'*', pairs * 2, out),
        Version::V3 => header(b'%', pairs, out),
    }
}

/// Appends the head of a push; its `length` elements follow. An array in version 2.
pub fn push(version: Version, length: usize, out: &mut Vec<u8>) {
    header(if version == Version::V2 { b'*' } else { b'>' }, length, out);
}

/// Appends a text for human readers. A bulk string in version 2.
pub fn verbatim(version: Version, text: &str, out: &mut Vec<u8>) {
    match version {
        Version::V2 => bulk(text.as_bytes(), out),
        Version::V3 => {
            header(b'=', text.len() + 4, out);
            out.extend_from_slice(b"txt:");
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Appends a publication for a subscriber of its channel.
pub fn message(version: Version, channel: &str, body: &[u8], out: &mut Vec<u8>) {
    // The fixed bytes and two lengths, which are rarely longer.
    out.reserve(channel.len() + body.len() + 40);
    push(version, 3, out);
    out.extend_from_slice(b"$7\r\nmessage\r\n");
    bulk(channel.as_bytes(), out);
    bulk(body, out);
}

/// Appends a publication for a subscriber of a pattern that matched its channel.
pub fn pmessage(version: Version, pattern: &str, channel: &str, body: &[u8], out: &mut Vec<u8>) {
    out.reserve(pattern.len() + channel.len() + body.len() + 50);
    push(version, 4, out);
    out.extend_from_slice(b"$8\r\npmessage\r\n");
    bulk(pattern.as_bytes(), out);
    bulk(channel.as_bytes(), out);
    bulk(body, out);
}

/// Appends the answer to one topic of a subscription command: its `kind` (`subscribe`, `unsubscribe`,
/// `psubscribe` or `punsubscribe`), the channel or pattern (`None` when there was none to unsubscribe), and how
/// many subscriptions the connection has now.
pub fn subscription(version: Version, kind: &str, topic: Option<&str>, count: i64, out: &mut Vec<u8>) {
    push(version, 3, out);
    bulk(kind.as_bytes(), out);
    match topic {
        Some(topic) => bulk(topic.as_bytes(), out),
        None => null(version, out),
    }
    integer(count, out);
}

/// Appends a command as a client sends it: an array of bulk strings, the name first.
pub fn command(args: &[&[u8]], out: &mut Vec<u8>) {
    array(args.len(), out);
    for arg in args {
        bulk(arg, out);
    }
}

fn header(kind: u8, number: usize, out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn line(kind: u8, text: &str, out: &mut Vec<u8>) {
    out.push(kind);
    out.extend(text.bytes().map(|b| if b == b'\r' || b == b'\n' { b' ' } else { b }));
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b">".to_vec();
        encode(&mut out);
        String::from_utf8(out.split_off(1)).unwrap()
    }

    #[test]
    fn replies_are_framed_as_specified() {
        assert_eq!(encoded(|out| simple("OK", out)), "+OK\r\n");
        assert_eq!(encoded(|out| error("ERR a\r\nb", out)), "-ERR a  b\r\n");
        assert_eq!(encoded(|out| integer(-12, out)), ":-12\r\n");
        assert_eq!(encoded(|out| bulk(b"a\r\nb", out)), "$4\r\na\r\nb\r\n");
        assert_eq!(encoded(|out| array(0, out)), "*0\r\n");
    }

    #[test]
    fn version_3_has_types_that_version_2_replaces() {
        use Version::{V2, V3};
        for (version, expected) in [
            (V2, ["$-1\r\n", "*4\r\n", "*3\r\n", "$2\r\nhi\r\n"]),
            (V3, ["_\r\n", "%2\r\n", ">3\r\n", "=6\r\ntxt:hi\r\n"]),
        ] {
            assert_eq!(encoded(|out| null(version, out)), expected[0]);
            assert_eq!(encoded(|out| map(version, 2, out)), expected[1]);
            assert_eq!(encoded(|out| push(version, 3, out)), expected[2]);
            assert_eq!(encoded(|out| verbatim(version, "hi", out)), expected[3]);
        }
    }

    #[test]
    fn publications_and_subscriptions_equal_those_of_redis() {
        assert_eq!(
            encoded(|out| message(Version::V2, "news", b"hi", out)),
            "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nhi\r\n"
        );
        assert_eq!(
            encoded(|out| pmessage(Version::V3, "n*", "news", b"hi", out)),
            ">4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$4\r\nnews\r\n$2\r\nhi\r\n"
        );
        assert_eq!(
            encoded(|out| subscription(Version::V3, "subscribe", Some("news"), 1, out)),
            ">3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"
        );
        assert_eq!(
            encoded(|out| subscription(Version::V2, "unsubscribe", None, 0, out)),
            "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n"
        );
        assert_eq!(encoded(|out| command(&[b"ECHO", b"x"], out)), "*2\r\n$4\r\nECHO\r\n$1\r\nx\r\n");
    }
}
