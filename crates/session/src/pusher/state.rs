//! The state of a Pusher session that has any: commands in progress, memberships, and the count of its events.

use tidings_pusher::Member;
use tidings_wire::Channel;

/// A command in progress.
#[derive(Debug)]
pub(super) enum Pending {
    /// A subscription; the name that the client uses, and the member of a presence channel.
    Subscribe { name: Box<str>, member: Option<Box<Member>> },
    /// The members of a presence channel are read: for a new member, or to compare them with the roster.
    Members { channel: Channel, is_new: bool },
    /// A sign-in that is being checked: the user's id, and its data for the response.
    SignIn { user: Box<str>, data: Box<str> },
    /// The subscription of a signed-in user to its own channel: the user's id, and its data for the response.
    UserChannel { user: Box<str>, data: Box<str> },
    /// The subscription by which a signed-in user is online for those that watch it.
    Online,
    /// The subscription to the online and offline events of this user.
    Watch { user: Box<str> },
}

/// What a session does in a channel whose members it follows.
#[derive(Debug)]
pub(super) enum Role {
    /// It is a member of a presence channel.
    Member(Box<Member>),
    /// It watches the user whose connections are the members.
    Watcher,
}

/// A channel whose members a session follows.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) channel: Channel,
    pub(super) role: Role,
    /// Whether the client has the list of members, so that it gets changes.
    pub(super) is_ready: bool,
}

/// The state of a session.
#[derive(Debug, Default)]
pub(crate) struct Pusher {
    pending: Vec<(u32, Pending)>,
    last_command: u32,
    pub(super) memberships: Vec<Membership>,
    /// Whether the client has signed in, or is about to.
    pub(super) is_signed_in: bool,
    /// The last second with client events, in Unix time, and their number.
    client_events: (u64, usize),
}

impl Pusher {
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
            && self.memberships.is_empty()
            && !self.is_signed_in
            && self.client_events.1 == 0
    }

    /// A number for a command.
    pub(super) fn begin(&mut self, pending: Pending) -> u32 {
        self.last_command = self.last_command.wrapping_add(1).max(1);
        self.pending.push((self.last_command, pending));
        self.last_command
    }

    /// Takes the command with this number.
    pub(super) fn take(&mut self, command: u32) -> Option<Pending> {
        let at = self.pending.iter().position(|(number, _)| *number == command)?;
        Some(self.pending.swap_remove(at).1)
    }

    /// The channels whose members are being read.
    pub(super) fn reads(&self) -> impl Iterator<Item = &Channel> {
        self.pending.iter().filter_map(|(_, pending)| match pending {
            Pending::Members { channel, .. } => Some(channel),
            _ => None,
        })
    }

    pub(super) fn membership(&mut self, channel: &Channel) -> Option<&mut Membership> {
        self.memberships.iter_mut().find(|membership| membership.channel == *channel)
    }

    /// Counts a client event. Returns whether it is within `limit` events of this second.
    pub(super) fn count_client_event(&mut self, now: u64, limit: usize) -> bool {
        let (second, count) = &mut self.client_events;
        if *second != now {
            (*second, *count) = (now, 0);
        }
        *count += 1;
        *count <= limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_events_are_limited_in_each_second() {
        let mut pusher = Pusher::default();
        assert!((0..10).all(|_| pusher.count_client_event(1, 10)));
        assert!(!pusher.count_client_event(1, 10));
        assert!(pusher.count_client_event(2, 10));
    }

    #[test]
    fn a_command_is_taken_once() {
        let mut pusher = Pusher::default();
        let id = pusher.begin(Pending::Online);
        assert!(!pusher.is_empty());
        assert!(pusher.take(id).is_some() && pusher.take(id).is_none() && pusher.is_empty());
    }
}
