//! Publications encoded as pushes without an intermediate copy.
//!
//! The output equals that of [`super::push::Push`] with a [`super::push::Publication`] (verified by a test), without
//! the construction of one: this runs once for every publication and form.

use super::field::{FieldWriter, Fields, field};
use super::push::ClientInfo;
use super::value::Data;
use crate::body::DataFormat;
use crate::publication::Publication;

/// The reply that holds the push.
pub(crate) struct Live<'p> {
    pub(crate) publication: &'p Publication,
    /// How JSON shows the body.
    pub(crate) format: DataFormat,
}

impl Fields for Live<'_> {
    fn write<W: FieldWriter>(&self, out: &mut W) {
        out.message(const { &field!(4 push) }, &Push(self));
    }
}

impl Live<'_> {
    /// The push alone.
    pub(crate) fn push(&self) -> impl Fields {
        Push(self)
    }
}

/// The push.
struct Push<'p>(&'p Live<'p>);

impl Fields for Push<'_> {
    fn write<W: FieldWriter>(&self, out: &mut W) {
        out.text(const { &field!(2 channel) }, self.0.publication.channel.as_str());
        out.message(const { &field!(4 pub) }, &Pub(self.0));
    }
}

/// The publication in it.
struct Pub<'p>(&'p Live<'p>);

impl Fields for Pub<'_> {
    fn write<W: FieldWriter>(&self, out: &mut W) {
        let Live { publication, format } = self.0;
        let extra = publication.extra.as_deref();
        out.data(const { &field!(4 data) }, &Data::new(&publication.body[..], *format));
        if let Some(info) = extra.and_then(|extra| extra.info.as_ref()) {
            out.message(const { &field!(5 info) }, &ClientInfo::from(info));
        }
        out.unsigned(const { &field!(6 offset) }, publication.offset().unwrap_or(0));
        if let Some(extra) = extra {
            out.map(const { &field!(7 tags) }, &extra.tags);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::channel::Channel;
    use crate::client::reply::{Outcome, Reply};
    use crate::client::{Encoding, push};
    use crate::publication::{self, Extra, Position};

    fn info() -> impl Strategy<Value = publication::ClientInfo> {
        let json = || prop::option::of("[1-9]{1,3}".prop_map(|json| json.into_bytes().into()));
        (".{0,5}", "[a-z]{0,5}", json(), json()).prop_map(|(user, client, conn_info, chan_info)| {
            publication::ClientInfo { user, client, conn_info, chan_info }
        })
    }

    proptest! {
        #[test]
        fn a_live_publication_is_encoded_like_a_push(
            channel in "[!-~]{1,20}",
            body in prop_oneof![any::<Vec<u8>>(), Just(b"{\"a\":1}".to_vec())],
            offset in prop::option::of(any::<u64>()),
            extra in prop::option::of((prop::option::of(info()), prop::collection::vec((".{0,3}", ".{0,3}"), 0..3))),
            format in 0..4_usize,
        ) {
            let mut publication = Publication::new(Channel::new(channel).unwrap(), body);
            publication.position = offset.map(|offset| Position { offset, epoch: "e".into() });
            publication.extra = extra.map(|(info, tags)| Box::new(Extra { info, tags, ..Extra::default() }));
            let format = DataFormat::ALL[format];
            let event = push::Event::Publication(push::Publication::new(&publication, format));
            let push = push::Push { channel: publication.channel.as_str().into(), event };
            let reply = Reply { id: 0, outcome: Outcome::Push(push) };
            for encoding in [Encoding::Json, Encoding::Protobuf] {
                let (mut live, mut made) = (Vec::new(), Vec::new());
                encoding.write_publication(&publication, format, &mut live);
                encoding.write_reply(&reply, &mut made);
                prop_assert_eq!(live, made);
            }
        }
    }
}
