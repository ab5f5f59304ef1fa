//! Wire forms: in how many different byte sequences one publication can leave a shard.
//!
//! A shard encodes a publication once per form that has subscribers, however many there are.

use crate::body::DataFormat;
use crate::channel::Topic;
use crate::publication::Publication;
use crate::{client, plain, resp};

/// The byte form in which a session takes publications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Form {
    /// Plain lines: the bare body in the default channel, `MESSAGE channel body` elsewhere.
    Plain,
    /// RESP2 `message` / `pmessage` arrays.
    Resp2,
    /// RESP3 `message` / `pmessage` pushes.
    Resp3,
    /// The client protocol in JSON, one push a line.
    JsonLine,
}

impl Form {
    /// Every form, in the order of its number.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Resp2, Self::Resp3, Self::JsonLine];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();
}

/// What the encoding of a publication depends on besides its form; the same for all of a topic's subscribers.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// What was subscribed to.
    pub topic: &'a Topic,
    /// Whether this is the line port's default channel, whose bodies come bare.
    pub default_channel: bool,
    /// How JSON forms show the body.
    pub data_format: DataFormat,
}

/// Appends `publication` to `out` in `form`.
pub fn encode(form: Form, context: &Context<'_>, publication: &Publication, out: &mut Vec<u8>) {
    let channel = publication.channel.as_str();
    let body = &publication.body[..];
    match (form, context.topic) {
        (Form::Plain, _) => plain::message(context.default_channel, channel, body, out),
        (Form::Resp2, Topic::Channel(_)) => resp::message(resp::Version::V2, channel, body, out),
        (Form::Resp3, Topic::Channel(_)) => resp::message(resp::Version::V3, channel, body, out),
        (Form::Resp2, Topic::Pattern(p)) => resp::pmessage(resp::Version::V2, p.as_str(), channel, body, out),
        (Form::Resp3, Topic::Pattern(p)) => resp::pmessage(resp::Version::V3, p.as_str(), channel, body, out),
        (Form::JsonLine, _) => {
            client::push_publication(channel, body, context.data_format, out);
            out.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::channel::{Channel, Pattern};

    fn encoded(form: Form, topic: &Topic) -> String {
        let channel = Channel::new("news").unwrap();
        let publication = Publication::new(channel, Bytes::from_static(b"a\nb"));
        let context = Context { topic, default_channel: false, data_format: DataFormat::Auto };
        let mut out = b"before ".to_vec();
        encode(form, &context, &publication, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_publication_leaves_in_every_form_as_one_unit_behind_what_was_there() {
        let topic = Topic::Channel(Channel::new("news").unwrap());
        let expected = [
            "before MESSAGE news a\\nb\r\n",
            "before *3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$3\r\na\nb\r\n",
            "before >3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$3\r\na\nb\r\n",
            "before {\"push\":{\"channel\":\"news\",\"pub\":{\"data\":\"a\\nb\"}}}\n",
        ];
        assert_eq!(Form::ALL.map(|form| encoded(form, &topic)), expected.map(String::from));
    }

    #[test]
    fn a_subscriber_of_a_pattern_is_told_which_one_matched() {
        let topic = Topic::Pattern(Pattern::new("n*").unwrap());
        let rest = "4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$4\r\nnews\r\n$3\r\na\nb\r\n";
        assert_eq!(encoded(Form::Resp2, &topic), format!("before *{rest}"));
        assert_eq!(encoded(Form::Resp3, &topic), format!("before >{rest}"));
    }
}
