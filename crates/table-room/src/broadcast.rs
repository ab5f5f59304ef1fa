//! The view that a room broadcasts, and each viewer's position in the broadcast.
//!
//! Invariant: there is no queue. A slow viewer skips to the newest view and delays no other viewer (the policy
//! `latest`).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tidings_wire::ws::CloseCode;

use crate::failure::Failure;
use crate::message;
use crate::people::Person;

/// The endpoint of a viewer. It determines the rows and the messages of its broadcast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewFormat {
    /// `/tables/ws`: everything.
    Tables,
    /// `/parser/ws`: only views and errors, as on the article's page; the header counts as a row.
    Article,
}

/// The current view and messages for all viewers.
#[derive(Clone, Debug, Default)]
pub struct ViewBroadcast {
    /// The view for each form that has viewers.
    views: [Option<EncodedView>; 2],
    /// The last progress message and its sequence number.
    progress: Option<(u64, Bytes)>,
    locks: Option<(u64, Bytes)>,
    people: Option<PeopleBroadcast>,
    end: Option<BroadcastEnd>,
}

/// The people of the table after a change.
#[derive(Clone, Debug)]
struct PeopleBroadcast {
    /// The number of the change.
    number: u64,
    /// The change, for viewers that have received the one before.
    change: Bytes,
    list: Arc<PeopleList>,
}

/// All people of a table, encoded when a viewer needs the list.
#[derive(Debug)]
pub struct PeopleList {
    people: Vec<Arc<Person>>,
    frame: OnceLock<Bytes>,
}

impl PeopleList {
    pub(crate) const fn new(people: Vec<Arc<Person>>) -> Self {
        Self { people, frame: OnceLock::new() }
    }

    /// The list, encoded once for all viewers that missed a change.
    fn frame(&self) -> Bytes {
        self.frame.get_or_init(|| message::people(&self.people, None)).clone()
    }
}

/// A view, encoded once for all viewers of its form.
#[derive(Clone, Debug)]
pub struct EncodedView {
    /// The frame of a WebSocket.
    pub frame: Bytes,
    /// Views with the same number differ only in the number of viewers.
    pub content: u64,
    /// The number of viewers that it shows.
    pub viewers: u64,
    /// Grows with each view.
    pub version: u64,
    /// The cells that have changed in place, for viewers of the content with this number.
    pub change: Option<(u64, Bytes)>,
}

/// The end of a broadcast.
#[derive(Clone, Debug)]
pub struct BroadcastEnd {
    /// The error that viewers receive first.
    pub error: Option<Failure>,
    /// The code of the Close frame.
    pub code: CloseCode,
    /// Viewers are disconnected at random times within this duration, to spread their reconnects.
    pub within: Duration,
}

impl ViewBroadcast {
    pub(crate) fn post(&mut self, form: ViewFormat, posted: Option<EncodedView>) {
        self.views[form as usize] = posted;
    }

    pub(crate) fn set_progress(&mut self, frame: Bytes) {
        let number = self.progress.as_ref().map_or(1, |(number, _)| number + 1);
        self.progress = Some((number, frame));
    }

    pub(crate) fn set_locks(&mut self, frame: Bytes) {
        let number = self.locks.as_ref().map_or(1, |(number, _)| number + 1);
        self.locks = Some((number, frame));
    }

    pub(crate) fn set_people(&mut self, change: Bytes, list: PeopleList) {
        let number = self.people.as_ref().map_or(1, |people| people.number + 1);
        self.people = Some(PeopleBroadcast { number, change, list: Arc::new(list) });
    }

    pub(crate) const fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    pub(crate) fn end(&mut self, end: BroadcastEnd) {
        self.end = Some(end);
    }
}

/// A view that was sent to a viewer.
#[derive(Clone, Copy, Debug)]
pub struct SeenView {
    content: u64,
    viewers: u64,
    version: u64,
}

impl EncodedView {
    /// The position of a viewer after this view.
    pub const fn viewed(&self) -> SeenView {
        SeenView { content: self.content, viewers: self.viewers, version: self.version }
    }
}

/// The position of one viewer in a broadcast.
#[derive(Debug)]
pub struct ViewCursor {
    pub(crate) form: ViewFormat,
    /// The last view.
    pub view: Option<SeenView>,
    pub(crate) progress: u64,
    pub(crate) locks: u64,
    /// The number of the last change of the people; `None` before the first list.
    people: Option<u64>,
    /// The id of the viewer among the people.
    id: String,
}

impl ViewCursor {
    /// The position of a new viewer: earlier messages are skipped, except locks that are on.
    pub fn from_now(form: ViewFormat, broadcast: &ViewBroadcast, is_locked: bool, id: String) -> Self {
        let number = |told: &Option<(u64, Bytes)>| told.as_ref().map_or(0, |(number, _)| *number);
        Self {
            form,
            view: None,
            progress: number(&broadcast.progress),
            locks: if is_locked { 0 } else { number(&broadcast.locks) },
            people: None,
            id,
        }
    }

    /// Appends the frames that this viewer has not received to `out`. Returns the end, if the broadcast has ended.
    pub fn take(&mut self, broadcast: &ViewBroadcast, out: &mut Vec<Bytes>) -> Option<BroadcastEnd> {
        // Progress first: the view that completes it follows.
        if let Some((number, frame)) = &broadcast.progress
            && *number > self.progress
            && self.form == ViewFormat::Tables
        {
            self.progress = *number;
            out.push(frame.clone());
        }
        if let Some(posted) = &broadcast.views[self.form as usize] {
            let counts = self.form == ViewFormat::Tables;
            // A viewer that joined later has received a newer view.
            let is_new = self.view.is_none_or(|seen| {
                posted.version > seen.version
                    && (posted.content != seen.content || counts && posted.viewers != seen.viewers)
            });
            if is_new {
                let change = posted.change.as_ref().filter(|(before, _)| {
                    self.view.is_some_and(|seen| seen.content == *before && seen.viewers == posted.viewers)
                });
                self.view = Some(posted.viewed());
                out.push(change.map_or(&posted.frame, |(_, change)| change).clone());
            }
        }
        // After the first view, which is sent on joining.
        if let Some((number, frame)) = &broadcast.locks
            && *number > self.locks
            && self.form == ViewFormat::Tables
            && self.view.is_some()
        {
            self.locks = *number;
            out.push(frame.clone());
        }
        if let Some(people) = &broadcast.people
            && self.people != Some(people.number)
            && self.form == ViewFormat::Tables
            && self.view.is_some()
        {
            out.push(match self.people {
                None => message::people(&people.list.people, Some(&self.id)),
                Some(number) if number + 1 == people.number => people.change.clone(),
                Some(_) => people.list.frame(),
            });
            self.people = Some(people.number);
        }
        let end = broadcast.end.clone()?;
        out.extend(end.error.as_ref().map(message::error));
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posted(content: u64, viewers: u64) -> Option<EncodedView> {
        let frame = format!("view {content} for {viewers}").into();
        Some(EncodedView { frame, content, viewers, version: content * 100 + viewers, change: None })
    }

    fn taken(seen: &mut ViewCursor, broadcast: &ViewBroadcast) -> Vec<Bytes> {
        let mut out = Vec::new();
        assert!(seen.take(broadcast, &mut out).is_none());
        out
    }

    #[test]
    fn a_slow_viewer_receives_the_newest_view_and_no_view_twice() {
        let mut broadcast = ViewBroadcast::default();
        let mut seen = ViewCursor::from_now(ViewFormat::Tables, &broadcast, false, String::new());
        for content in 1..=5 {
            broadcast.post(ViewFormat::Tables, posted(content, 1));
        }
        broadcast.set_progress("half".into());
        assert_eq!(taken(&mut seen, &broadcast), ["half", "view 5 for 1"]);
        assert_eq!(taken(&mut seen, &broadcast), [""; 0]);
        broadcast.post(ViewFormat::Tables, posted(5, 2));
        assert_eq!(taken(&mut seen, &broadcast), ["view 5 for 2"]);
    }

    #[test]
    fn only_viewers_of_the_view_before_receive_changed_cells() {
        let mut broadcast = ViewBroadcast::default();
        let mut current = ViewCursor::from_now(ViewFormat::Tables, &broadcast, false, String::new());
        let mut slow = ViewCursor::from_now(ViewFormat::Tables, &broadcast, false, String::new());
        let changed = |content: u64, viewers| {
            let change = Some((content - 1, Bytes::from(format!("cells {content}"))));
            posted(content, viewers).map(|posted| EncodedView { change, ..posted })
        };
        broadcast.post(ViewFormat::Tables, posted(1, 2));
        assert_eq!(taken(&mut current, &broadcast), ["view 1 for 2"]);
        broadcast.post(ViewFormat::Tables, changed(2, 2));
        assert_eq!(taken(&mut current, &broadcast), ["cells 2"]);
        assert_eq!(taken(&mut slow, &broadcast), ["view 2 for 2"], "no view before");
        broadcast.post(ViewFormat::Tables, changed(3, 2));
        assert_eq!(taken(&mut current, &broadcast), ["cells 3"]);
        broadcast.post(ViewFormat::Tables, changed(4, 2));
        assert_eq!(taken(&mut slow, &broadcast), ["view 4 for 2"], "content 3 was skipped");
        broadcast.post(ViewFormat::Tables, changed(5, 3));
        assert_eq!(taken(&mut slow, &broadcast), ["view 5 for 3"], "the number of viewers has changed");
    }

    #[test]
    fn a_new_viewer_does_not_receive_views_before_its_first_one() {
        let mut broadcast = ViewBroadcast::default();
        broadcast.post(ViewFormat::Tables, posted(3, 1));
        let mut seen = ViewCursor::from_now(ViewFormat::Tables, &broadcast, false, String::new());
        seen.view = posted(3, 2).map(|newer| newer.viewed());
        assert_eq!(taken(&mut seen, &broadcast), [""; 0]);
        broadcast.post(ViewFormat::Tables, posted(3, 3));
        assert_eq!(taken(&mut seen, &broadcast), ["view 3 for 3"]);
    }

    #[test]
    fn the_article_s_page_receives_only_views() {
        let mut broadcast = ViewBroadcast::default();
        let mut seen = ViewCursor::from_now(ViewFormat::Article, &broadcast, false, String::new());
        broadcast.set_progress("half".into());
        broadcast.set_locks("locks".into());
        broadcast.post(ViewFormat::Tables, posted(1, 1));
        broadcast.post(ViewFormat::Article, posted(1, 1));
        assert_eq!(taken(&mut seen, &broadcast), ["view 1 for 1"]);
        broadcast.post(ViewFormat::Article, posted(1, 2));
        assert_eq!(taken(&mut seen, &broadcast), [""; 0]);
    }

    #[test]
    fn a_new_viewer_receives_the_locks_that_are_on_after_the_view() {
        let mut broadcast = ViewBroadcast::default();
        broadcast.set_locks("locked".into());
        let mut seen = ViewCursor::from_now(ViewFormat::Tables, &broadcast, true, String::new());
        assert_eq!(taken(&mut seen, &broadcast), [""; 0]);
        broadcast.post(ViewFormat::Tables, posted(1, 1));
        assert_eq!(taken(&mut seen, &broadcast), ["view 1 for 1", "locked"]);
    }

    #[test]
    fn a_new_viewer_does_not_receive_earlier_messages() {
        let mut broadcast = ViewBroadcast::default();
        broadcast.set_progress("half".into());
        let mut seen = ViewCursor::from_now(ViewFormat::Tables, &broadcast, false, String::new());
        assert_eq!(taken(&mut seen, &broadcast), [""; 0]);
        broadcast.set_progress("more".into());
        assert_eq!(taken(&mut seen, &broadcast), ["more"]);
    }

    #[test]
    fn a_viewer_that_missed_a_change_of_the_people_receives_all_of_them() {
        let list = |names: &[&str]| {
            let named = |name: &&str| {
                Arc::new(Person { name: (*name).to_owned(), ..Person::random(false, std::iter::empty()) })
            };
            PeopleList::new(names.iter().map(named).collect())
        };
        let text = |frames: Vec<Bytes>| String::from_utf8_lossy(&frames.concat()).into_owned();
        let mut broadcast = ViewBroadcast::default();
        let mut seen = ViewCursor::from_now(ViewFormat::Tables, &broadcast, false, "me".into());
        broadcast.set_people("first".into(), list(&["Ann"]));
        assert_eq!(taken(&mut seen, &broadcast), [""; 0], "before the first view");
        broadcast.post(ViewFormat::Tables, posted(1, 1));
        let first = text(taken(&mut seen, &broadcast));
        assert!(first.contains("\"you\":\"me\"") && first.contains("Ann"), "{first}");
        broadcast.set_people("second".into(), list(&["Ann", "Bob"]));
        assert_eq!(taken(&mut seen, &broadcast), ["second"]);
        broadcast.set_people("third".into(), list(&["Bob"]));
        broadcast.set_people("fourth".into(), list(&["Bob", "Cid"]));
        let all = text(taken(&mut seen, &broadcast));
        assert!(all.contains("Bob") && all.contains("Cid") && !all.contains("you"), "{all}");
        assert_eq!(taken(&mut seen, &broadcast), [""; 0]);
    }
}
