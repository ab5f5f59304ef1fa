//! Where a room puts what everybody is to see, and whence each viewer takes it when it is ready to.
//!
//! There is no queue: a viewer that does not keep up finds the newest when it looks again, and nobody waits for it
//! (the policy `latest`).

use std::time::Duration;

use bytes::Bytes;
use tidings_wire::ws::CloseCode;

use super::failure::Failure;
use super::message;

/// How a viewer came, which decides what counts as a row and what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `/tables/ws`: everything.
    Tables,
    /// `/parser/ws`: as on the article's page, views and errors alone; the header counts as a row.
    Article,
}

/// What everybody is to see now.
#[derive(Clone, Debug, Default)]
pub(super) struct Board {
    /// The view for each form that somebody looks at.
    views: [Option<Posted>; 2],
    /// How far something is. The number grows with each.
    progress: Option<(u64, Bytes)>,
    locks: Option<(u64, Bytes)>,
    end: Option<End>,
}

/// A view.
#[derive(Clone, Debug)]
pub(super) struct Posted {
    pub(super) frame: Bytes,
    /// Two with the same number show the same, except for how many look at it.
    pub(super) content: u64,
    pub(super) viewers: u64,
    /// Grows with each.
    pub(super) version: u64,
}

/// There will be no more.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) error: Option<Failure>,
    pub(super) code: CloseCode,
    /// Viewers go at different moments within this time, so that they do not all come back at once.
    pub(super) within: Duration,
}

impl Board {
    pub(super) fn post(&mut self, form: Form, posted: Option<Posted>) {
        self.views[form as usize] = posted;
    }

    pub(super) fn tell_progress(&mut self, frame: Bytes) {
        let number = self.progress.as_ref().map_or(1, |(number, _)| number + 1);
        self.progress = Some((number, frame));
    }

    pub(super) fn tell_locks(&mut self, frame: Bytes) {
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

/// A view that a viewer has seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Viewed {
    content: u64,
    viewers: u64,
    version: u64,
}

impl Posted {
    /// What somebody who is shown it has seen.
    pub(super) const fn viewed(&self) -> Viewed {
        Viewed { content: self.content, viewers: self.viewers, version: self.version }
    }
}

/// What one viewer has seen of a board.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) form: Form,
    /// The last view.
    pub(super) view: Option<Viewed>,
    pub(super) progress: u64,
    pub(super) locks: u64,
}

impl Seen {
    /// Somebody who comes now: what was told before is not for them, except locks that are on.
    pub(super) fn from_now(form: Form, board: &Board, is_locked: bool) -> Self {
        let number = |told: &Option<(u64, Bytes)>| told.as_ref().map_or(0, |(number, _)| *number);
        Self {
            form,
            view: None,
            progress: number(&board.progress),
            locks: if is_locked { 0 } else { number(&board.locks) },
        }
    }

    /// Puts the frames that this viewer has not seen into `out`; gives the end, if it has come.
    pub(super) fn take(&mut self, board: &Board, out: &mut Vec<Bytes>) -> Option<End> {
        // Progress first: the view that ends it comes after it.
        if let Some((number, frame)) = &board.progress
            && *number > self.progress
            && self.form == Form::Tables
        {
            self.progress = *number;
            out.push(frame.clone());
        }
        if let Some(posted) = &board.views[self.form as usize] {
            let counts = self.form == Form::Tables;
            // Whoever came after it was posted has been shown a newer one.
            let is_new = self.view.is_none_or(|seen| {
                posted.version > seen.version
                    && (posted.content != seen.content || counts && posted.viewers != seen.viewers)
            });
            if is_new {
                self.view = Some(posted.viewed());
                out.push(posted.frame.clone());
            }
        }
        // Behind the first view, which comes at once.
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

    fn posted(content: u64, viewers: u64) -> Option<Posted> {
        let frame = format!("view {content} for {viewers}").into();
        Some(Posted { frame, content, viewers, version: content * 100 + viewers })
    }

    fn taken(seen: &mut Seen, board: &Board) -> Vec<Bytes> {
        let mut out = Vec::new();
        assert!(seen.take(board, &mut out).is_none());
        out
    }

    #[test]
    fn who_looks_late_finds_the_newest_and_nothing_twice() {
        let mut board = Board::default();
        let mut seen = Seen::from_now(Form::Tables, &board, false);
        for content in 1..=5 {
            board.post(Form::Tables, posted(content, 1));
        }
        board.tell_progress("half".into());
        assert_eq!(taken(&mut seen, &board), ["half", "view 5 for 1"]);
        assert_eq!(taken(&mut seen, &board), [""; 0]);
        board.post(Form::Tables, posted(5, 2));
        assert_eq!(taken(&mut seen, &board), ["view 5 for 2"]);
    }

    #[test]
    fn a_newcomer_who_was_shown_a_newer_view_is_not_shown_the_one_before_it() {
        let mut board = Board::default();
        board.post(Form::Tables, posted(3, 1));
        let mut seen = Seen::from_now(Form::Tables, &board, false);
        seen.view = posted(3, 2).map(|newer| newer.viewed());
        assert_eq!(taken(&mut seen, &board), [""; 0]);
        board.post(Form::Tables, posted(3, 3));
        assert_eq!(taken(&mut seen, &board), ["view 3 for 3"]);
    }

    #[test]
    fn the_article_s_page_is_told_of_pages_alone() {
        let mut board = Board::default();
        let mut seen = Seen::from_now(Form::Article, &board, false);
        board.tell_progress("half".into());
        board.tell_locks("locks".into());
        board.post(Form::Tables, posted(1, 1));
        board.post(Form::Article, posted(1, 1));
        assert_eq!(taken(&mut seen, &board), ["view 1 for 1"]);
        board.post(Form::Article, posted(1, 2));
        assert_eq!(taken(&mut seen, &board), [""; 0]);
    }

    #[test]
    fn a_newcomer_is_told_of_locks_that_are_on_behind_the_view() {
        let mut board = Board::default();
        board.tell_locks("locked".into());
        let mut seen = Seen::from_now(Form::Tables, &board, true);
        assert_eq!(taken(&mut seen, &board), [""; 0]);
        board.post(Form::Tables, posted(1, 1));
        assert_eq!(taken(&mut seen, &board), ["view 1 for 1", "locked"]);
    }

    #[test]
    fn a_newcomer_is_not_told_what_is_over() {
        let mut board = Board::default();
        board.tell_progress("half".into());
        let mut seen = Seen::from_now(Form::Tables, &board, false);
        assert_eq!(taken(&mut seen, &board), [""; 0]);
        board.tell_progress("more".into());
        assert_eq!(taken(&mut seen, &board), ["more"]);
    }
}
