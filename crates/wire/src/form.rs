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
