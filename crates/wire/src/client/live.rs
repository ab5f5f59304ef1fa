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
    /// Its body, or what is sent in place of it.
    pub(crate) data: Data<'p>,
    /// Whether the data is a delta to the publication before.
    pub(crate) is_delta: bool,
}

impl Fields for Live<'_> {
    fn write<W: FieldWriter>(&self, out: &mut W) {
        out.message(const { &field!(4 push) }, &Push(self));
    }
}

impl<'p> Live<'p> {
    /// A publication with its own body.
    pub(crate) fn new(publication: &'p Publication, format: DataFormat) -> Self {
        Self { publication, data: Data::new(&publication.body[..], format), is_delta: false }
    }

    /// The push alone.
    pub(crate) fn push(&self) -> impl Fields {
        Push(self)
    }
}

/// The push.
struct Push<'l, 'p>(&'l Live<'p>);

impl Fields for Push<'_, '_> {
    fn write<W: FieldWriter>(&self, out: &mut W) {
        out.text(const { &field!(2 channel) }, self.0.publication.channel.as_str());
        out.message(const { &field!(4 pub) }, &Pub(self.0));
    }
}

/// The publication in it.
struct Pub<'l, 'p>(&'l Live<'p>);

impl Fields for Pub<'_, '_> {
    fn write<W: FieldWriter>(&self, out: &mut W) {
        let Live { publication, data, is_delta } = self.0;
        let extra = publication.extra.as_deref();
        out.data(const { &field!(4 data) }, data);
        if let Some(info) = extra.and_then(|extra| extra.info.as_ref()) {
            out.message(const { &field!(5 info) }, &ClientInfo::from(info));
        }
        out.unsigned(const { &field!(6 offset) }, publication.offset().unwrap_or(0));
        if let Some(extra) = extra {
            out.map(const { &field!(7 tags) }, &extra.tags);
        }
        out.boolean(const { &field!(8 delta) }, *is_delta);
        if let Some(map) = extra.and_then(|extra| extra.map.as_deref()) {
            out.text(const { &field!(11 key) }, &map.key);
            out.boolean(const { &field!(12 removed) }, map.removed);
            out.unsigned(const { &field!(16 version) }, map.version);
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
    use crate::publication::{self, Extra, MapKey, Position};

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
            map in prop::option::of((".{1,5}", any::<bool>(), 0..3_u64)),
            format in 0..4_usize,
        ) {
            let mut publication = Publication::new(Channel::new(channel).unwrap(), body);
            publication.position = offset.map(|offset| Position { offset, epoch: "e".into() });
            publication.extra = extra.map(|(info, tags)| {
                let map = map.map(|(key, removed, version)| Box::new(MapKey { key: key.into(), removed, version }));
                Box::new(Extra { info, tags, map, ..Extra::default() })
            });
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
