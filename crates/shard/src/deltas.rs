//! The contents of publications for subscribers with deltas, made once for all subscribers of a selection with one encoding.

use std::borrow::Cow;
use std::sync::Arc;

use tidings_hub::TopicEntry;
use tidings_wire::Publication;
use tidings_wire::client::Encoding;

/// The content of a publication.
#[derive(Debug)]
pub(crate) struct Content<'a> {
    full: Cow<'a, [u8]>,
    /// The delta to the content before, where one is sent.
    delta: Option<Vec<u8>>,
}

impl Content<'_> {
    /// The bytes that are sent, and whether they are a delta.
    pub(crate) fn sent(&self) -> (&[u8], bool) {
        match &self.delta {
            Some(delta) => (delta, true),
            None => (&self.full, false),
        }
    }

    /// The bytes without a delta.
    pub(crate) fn full(&self) -> &[u8] {
        &self.full
    }

    /// Whether a delta is sent.
    pub(crate) fn is_delta(&self) -> bool {
        self.delta.is_some()
    }
}

/// The contents of publications in full.
pub(crate) fn full<'a>(
    encoding: Encoding,
    entry: &TopicEntry,
    publications: &'a [Arc<Publication>],
) -> Vec<Content<'a>> {
    let format = entry.context().data_format;
    let content = |publication: &'a Arc<Publication>| encoding.content(publication, format);
    publications.iter().map(|publication| Content { full: content(publication), delta: None }).collect()
}

/// The contents of publications that follow `base`. A publication is sent as a delta if it is marked as one, and the delta is
/// shorter; the first one without a base is sent in full.
pub(crate) fn after<'a>(
    base: Option<&Publication>,
    encoding: Encoding,
    entry: &TopicEntry,
    publications: &'a [Arc<Publication>],
) -> Vec<Content<'a>> {
    let mut contents = full(encoding, entry, publications);
    let base = base.map(|base| encoding.content(base, entry.context().data_format));
    for (index, publication) in publications.iter().enumerate() {
        let (earlier, later) = contents.split_at_mut(index);
        let before = earlier.last().map_or(base.as_deref(), |before| Some(&before.full));
        let Some(before) = before.filter(|_| entry.is_delta(publication)) else { continue };
        let delta = tidings_fossil::create(before, &later[0].full);
        later[0].delta = (delta.len() < later[0].full.len()).then_some(delta);
    }
    contents
}
