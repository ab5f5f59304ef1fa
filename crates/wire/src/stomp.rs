//! Publications as `MESSAGE` frames of STOMP. The codec is `tidings_stomp`.

use crate::framing::Framing;
use crate::json;
use crate::publication::Publication;
use crate::ws::Opcode;

/// Appends the part of a `MESSAGE` frame that is the same for all subscribers: a byte with the opcode for a WebSocket, then the
/// shared part of [`tidings_stomp::shared_message`]. [`message`] makes the frame of one subscriber from it.
///
/// The tags of a publication are headers. Without a tag `content-type`, the body decides it.
pub fn shared_message(publication: &Publication, out: &mut Vec<u8>) {
    let channel = publication.channel.as_str();
    let body = &publication.body[..];
    let text = std::str::from_utf8(body).ok();
    out.reserve(channel.len() + publication.size() + 96);
    out.push(if text.is_some() { Opcode::Text } else { Opcode::Binary } as u8);
    let tags = publication.extra.as_ref().map_or(&[][..], |extra| &extra.tags);
    let tags = tags.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let given = tags.clone().find(|(name, _)| *name == "content-type");
    let content_type = given.map_or_else(|| content_type(text), |(_, value)| value);
    tidings_stomp::shared_message(channel, content_type, tags, body, out);
}

/// Appends a `MESSAGE` frame for one subscription, from the part that all subscribers share.
///
/// # Panics
/// When `shared` was not written by [`shared_message`].
pub fn message(shared: &[u8], subscription: &str, number: u64, framing: Framing, out: &mut Vec<u8>) {
    let (opcode, rest) = shared.split_first().expect("a shared part has its opcode");
    let opcode = Opcode::new(*opcode).expect("an opcode");
    framing.frame_with(opcode, rest.len() + subscription.len() + 48, out, |out| {
        tidings_stomp::message(rest, subscription, number, out);
    });
}

/// The content type of a body; `None` is a body that is not UTF-8.
fn content_type(text: Option<&str>) -> &'static str {
    match text {
        Some(text) if json::is_value(text) => "application/json",
        Some(_) => "text/plain;charset=utf-8",
        None => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::channel::Channel;
    use crate::publication::Extra;

    fn message_of(body: &'static [u8], tags: &[(&str, &str)], framing: Framing) -> Vec<u8> {
        let mut publication = Publication::new(Channel::new("a:b").unwrap(), Bytes::from_static(body));
        let tags = tags.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        publication.extra = Some(Box::new(Extra { tags, ..Extra::default() }));
        let (mut shared, mut out) = (Vec::new(), Vec::new());
        shared_message(&publication, &mut shared);
        message(&shared, "sub-0", 7, framing, &mut out);
        out
    }

    #[test]
    fn a_publication_is_a_message_whose_headers_are_its_tags() {
        let expected = "MESSAGE\nsubscription:sub-0\nmessage-id:7\ndestination:a\\cb\n\
                        content-type:text/plain;charset=utf-8\ncontent-length:2\nk:v\n\nhi\0";
        let tags = [("k", "v"), ("destination", "other")];
        assert_eq!(String::from_utf8(message_of(b"hi", &tags, Framing::Raw)).unwrap(), expected);
    }

    #[test]
    fn the_content_type_is_that_of_the_publisher_or_follows_from_the_body() {
        let has = |body, tags: &[(&str, &str)], line: &str| {
            let message = message_of(body, tags, Framing::Raw);
            let lines: Vec<_> = message.split(|byte| *byte == b'\n').collect();
            assert!(lines.contains(&line.as_bytes()), "{}", String::from_utf8_lossy(&message));
        };
        has(b"{\"a\":1}", &[], "content-type:application/json");
        has(b"\xff", &[], "content-type:application/octet-stream");
        has(b"<a/>", &[("content-type", "text/xml")], "content-type:text/xml");
    }

    #[test]
    fn a_message_whose_body_is_not_text_is_a_binary_frame() {
        let framing = Framing::WebSocket { deflate: false };
        for (body, opcode) in [(&b"hi"[..], 0x81), (b"\xff", 0x82)] {
            assert_eq!(message_of(body, &[], framing)[0], opcode);
        }
    }
}
