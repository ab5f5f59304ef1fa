//! The view that a room broadcasts, and each viewer's position in the broadcast.
//!
//! Invariant: there is no queue. A slow viewer skips to the newest view and delays no other viewer (the policy `latest`).

use std::time::Duration;

use bytes::Bytes;
use tidings_wire::ws::CloseCode;

use super::failure::Failure;
use super::message;

/// The endpoint of a viewer, which decides what counts as a row and which messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `/tables/ws`: everything.
    Tables,
    /// `/parser/ws`: as on the article's page, views and errors alone; the header counts as a row.
    Article,
}

/// The current view and messages for all viewers.
#[derive(Clone, Debug, Default)]
pub(super) struct ViewBroadcast {
    /// The view for each form that has viewers.
    views: [Option<EncodedView>; 2],
    /// The last progress message, with a number that grows.
    progress: Option<(u64, Bytes)>,
    locks: Option<(u64, Bytes)>,
    end: Option<End>,
}

/// A view, encoded once for all viewers of its form.
#[derive(Clone, Debug)]
pub(super) struct EncodedView {
    pub(super) frame: Bytes,
    /// Views with the same number differ in the number of viewers alone.
    pub(super) content: u64,
    pub(super) viewers: u64,
    /// Grows with each view.
    pub(super) version: u64,
}

/// The end of the broadcast.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) error: Option<Failure>,
    pub(super) code: CloseCode,
    /// Viewers are disconnected at random moments within this time, so that they do not all reconnect at once.
    pub(super) within: Duration,
}

impl ViewBroadcast {
    pub(super) fn post(&mut self, form: Form, posted: Option<EncodedView>) {
        self.views[form as usize] = posted;
    }

    pub(super) fn set_progress(&mut self, frame: Bytes) {
        let number = self.progress.as_ref().map_or(1, |(number, _)| number + 1);
        self.progress = Some((number, frame));
    }

    pub(super) fn set_locks(&mut self, frame: Bytes) {
        let number = self.locks.as_ref().map_or(1, |(number, _)| number + 1);
        self.locks = Some((number, frame));
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    pub(super) fn end(&mut self, end: End) {
        self.end = Some(end);
    }
}

/// A view that was sent to a viewer.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeenView {
    content: u64,
    viewers: u64,
    version: u64,
}

impl EncodedView {
    /// The position of a viewer to which this view was sent.
    pub(super) const fn viewed(&self) -> SeenView {
        SeenView { content: self.content, viewers: self.viewers, version: self.version }
    }
}

/// The position of one viewer in a broadcast.
#[derive(Debug)]
pub(super) struct ViewCursor {
    pub(super) form: Form,
    /// The last view.
    pub(super) view: Option<SeenView>,
    pub(super) progress: u64,
    pub(super) locks: u64,
}

impl ViewCursor {
    /// The position of a viewer that joins now: earlier messages are skipped, except locks that are on.
    pub(super) fn from_now(form: Form, board: &ViewBroadcast, is_locked: bool) -> Self {
        let number = |told: &Option<(u64, Bytes)>| told.as_ref().map_or(0, |(number, _)| *number);
        Self {
            form,
            view: None,
            progress: number(&board.progress),
            locks: if is_locked { 0 } else { number(&board.locks) },
        }
    }

    /// Appends the frames that this viewer has not received to `out`. Returns the end, if the broadcast has ended.
    pub(super) fn take(&mut self, board: &ViewBroadcast, out: &mut Vec<Bytes>) -> Option<End> {
        // Progress first: the view that completes it follows.
        if let Some((number, frame)) = &board.progress
            && *number > self.progress
            && self.form == Form::Tables
        {
            self.progress = *number;
            out.push(frame.clone());
        }
        if let Some(posted) = &board.views[self.form as usize] {
            let counts = self.form == Form::Tables;
            // A viewer that joined later has received a newer view.
            let is_new = self.view.is_none_or(|seen| {
                posted.version > seen.version
                    && (posted.content != seen.content || counts && posted.viewers != seen.viewers)
            });
            if is_new {
                self.view = Some(posted.viewed());
                out.push(posted.frame.clone());
            }
        }
        // After the first view, which is sent on joining.
        if let Some((number, frame)) = &board.locks
            && *number > self.locks
            && self.form == Form::Tables
            && self.view.is_some()
        {
            self.locks = *number;
            out.push(frame.clone());
        }
        let end = board.end.clone()?;
        out.extend(end.error.as_ref().map(message::error));
        Some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posted(content: u64, viewers: u64) -> Option<EncodedView> {
        let frame = format!("view {content} for {viewers}").into();
        Some(EncodedView { frame, content, viewers, version: content * 100 + viewers })
    }

    fn taken(seen: &mut ViewCursor, board: &ViewBroadcast) -> Vec<Bytes> {
        let mut out = Vec::new();
        assert!(seen.take(board, &mut out).is_none());
        out
    }

    #[test]
    fn who_looks_late_finds_the_newest_and_nothing_twice() {
        let mut board = ViewBroadcast::default();
        let mut seen = ViewCursor::from_now(Form::Tables, &board, false);
        for content in 1..=5 {
            board.post(Form::Tables, posted(content, 1));
        }
        board.set_progress("half".into());
        assert_eq!(taken(&mut seen, &board), ["half", "view 5 for 1"]);
        assert_eq!(taken(&mut seen, &board), [""; 0]);
        board.post(Form::Tables, posted(5, 2));
        assert_eq!(taken(&mut seen, &board), ["view 5 for 2"]);
    }

    #[test]
    fn a_newcomer_who_was_shown_a_newer_view_is_not_shown_the_one_before_it() {
        let mut board = ViewBroadcast::default();
        board.post(Form::Tables, posted(3, 1));
        let mut seen = ViewCursor::from_now(Form::Tables, &board, false);
        seen.view = posted(3, 2).map(|newer| newer.viewed());
        assert_eq!(taken(&mut seen, &board), [""; 0]);
        board.post(Form::Tables, posted(3, 3));
        assert_eq!(taken(&mut seen, &board), ["view 3 for 3"]);
    }

    #[test]
    fn the_article_s_page_is_told_of_pages_alone() {
        let mut board = ViewBroadcast::default();
        let mut seen = ViewCursor::from_now(Form::Article, &board, false);
        board.set_progress("half".into());
        board.set_locks("locks".into());
        board.post(Form::Tables, posted(1, 1));
        board.post(Form::Article, posted(1, 1));
        assert_eq!(taken(&mut seen, &board), ["view 1 for 1"]);
        board.post(Form::Article, posted(1, 2));
        assert_eq!(taken(&mut seen, &board), [""; 0]);
    }

    #[test]
    fn a_newcomer_is_told_of_locks_that_are_on_behind_the_view() {
        let mut board = ViewBroadcast::default();
        board.set_locks("locked".into());
        let mut seen = ViewCursor::from_now(Form::Tables, &board, true);
        assert_eq!(taken(&mut seen, &board), [""; 0]);
        board.post(Form::Tables, posted(1, 1));
        assert_eq!(taken(&mut seen, &board), ["view 1 for 1", "locked"]);
    }

    #[test]
    fn a_newcomer_is_not_told_what_is_over() {
        let mut board = ViewBroadcast::default();
        board.set_progress("half".into());
        let mut seen = ViewCursor::from_now(Form::Tables, &board, false);
        assert_eq!(taken(&mut seen, &board), [""; 0]);
        board.set_progress("more".into());
        assert_eq!(taken(&mut seen, &board), ["more"]);
    }
}
