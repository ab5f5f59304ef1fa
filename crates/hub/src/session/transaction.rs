//! RESP: transactions (`MULTI`, `EXEC`, `DISCARD`; redis.io, "Transactions"). There are no keys, so `WATCH` watches none.
//!
//! The commands between `MULTI` and `EXEC` are kept as bytes. `EXEC` carries them out one after the other, as if they came
//! then; their replies are collected and sent as one array once the last of them is there. Publications that reach the
//! client meanwhile are sent before that array, never inside it.
//!
//! Invariants:
//! - Of a transaction in which a command was refused, none is carried out.
//! - A transaction is [`COMMANDS`] commands at most, and `client.queue_max_size` bytes; so are its replies.
//! - Both count as kept input of the hub ([`Hub::kept`]), and its limit holds for them.

use std::borrow::Cow;

use tidings_wire::Channel;
use tidings_wire::resp::{self, Decoded, Decoder, Limits};

use super::resp_table;
use crate::access::Action;
use crate::effects::{Effects, Mark};
use crate::ending::Ending;
use crate::hub::{Act, Hub};
use crate::session::Flag;
use crate::session::feed::Why;

/// Most commands of one transaction.
pub(super) const COMMANDS: usize = 16_384;

/// What is kept of a transaction.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    /// Its commands, encoded as clients send them.
    commands: Vec<u8>,
    count: usize,
    /// One of them was refused: `EXEC` carries out none.
    refused: bool,
    /// Since `EXEC`.
    execution: Option<Execution>,
}

/// How far `EXEC` has come.
#[derive(Debug, Default)]
struct Execution {
    /// Bytes of the commands that are carried out.
    done: usize,
    replies: Vec<u8>,
}

impl Transaction {
    /// Bytes that are kept.
    pub(crate) fn len(&self) -> usize {
        self.commands.len() + self.execution.as_ref().map_or(0, |execution| execution.replies.len())
    }
}

impl Hub {
    /// `MULTI`.
    pub(super) fn begin_transaction(&mut self, slot: u32, fx: &mut Effects) {
        self.sessions[slot as usize].more().transaction = Some(Box::default());
        fx.send(slot, |out| resp::simple("OK", out));
    }

    /// Whether commands are kept until `EXEC`.
    pub(super) fn is_in_transaction(&self, slot: u32) -> bool {
        let more = self.sessions[slot as usize].peek_more();
        more.and_then(|more| more.transaction.as_ref())
            .is_some_and(|transaction| transaction.execution.is_none())
    }

    /// Whether commands of a transaction are being carried out.
    pub(crate) fn is_executing(&self, slot: u32) -> bool {
        let more = self.sessions[slot as usize].peek_more();
        more.and_then(|more| more.transaction.as_ref())
            .is_some_and(|transaction| transaction.execution.is_some())
    }

    /// Forgets the transaction of a session, if there is one.
    pub(super) fn discard_transaction(&mut self, slot: u32) {
        let more = self.sessions[slot as usize].existing_more();
        let transaction = more.and_then(|more| more.transaction.take());
        self.kept -= transaction.map_or(0, |transaction| transaction.len());
    }

    /// A command between `MULTI` and `EXEC`.
    pub(super) fn resp_in_transaction(
        &mut self,
        slot: u32,
        name: &str,
        args: &[Cow<'_, [u8]>],
        fx: &mut Effects,
    ) -> Act {
        if let Some(text) = self.refused_in_transaction(slot, name, args) {
            return self.in_turn(slot, fx, |hub, fx| {
                if name == "exec" {
                    return hub.refuse_exec(slot, &text, fx);
                }
                hub.spoil_transaction(slot);
                hub.resp_error(slot, fx, &text);
            });
        }
        match name {
            "quit" | "reset" => self.resp_other(slot, name, args, fx),
            "multi" => self.in_turn(slot, fx, |hub, fx| {
                hub.resp_error(slot, fx, "ERR MULTI calls can not be nested");
            }),
            "watch" => self.in_turn(slot, fx, |hub, fx| {
                hub.resp_error(slot, fx, "ERR WATCH inside MULTI is not allowed");
            }),
            "discard" => self.in_turn(slot, fx, |hub, fx| {
                hub.discard_transaction(slot);
                fx.send(slot, |out| resp::simple("OK", out));
            }),
            "exec" => self.in_turn(slot, fx, |hub, fx| hub.begin_execution(slot, fx)),
            _ => self.in_turn(slot, fx, |hub, fx| hub.enqueue(slot, args, fx)),
        }
    }

    /// Why a command cannot become part of a transaction, as far as that is known before it is carried out.
    fn refused_in_transaction(&self, slot: u32, name: &str, args: &[Cow<'_, [u8]>]) -> Option<String> {
        resp_table::malformed(name, args).or_else(|| match (name, args) {
            ("publish", [_, channel, _]) => {
                let channel = Channel::new(channel).ok()?;
                if self.is_asked(slot, Action::Publish, &channel) {
                    return None;
                }
                let code = self.may(slot, Action::Publish, &channel).err()?;
                Some(super::resp::error_text(code, code.text))
            }
            ("subscribe" | "psubscribe", [_, names @ ..]) => self.resp_topics(slot, name, names).err(),
            _ => None,
        })
    }

    /// Answers an `EXEC` that is refused as a command, which ends the transaction.
    pub(super) fn refuse_exec(&mut self, slot: u32, text: &str, fx: &mut Effects) {
        self.discard_transaction(slot);
        let words = text.strip_prefix("ERR ").unwrap_or(text);
        self.resp_error(slot, fx, &format!("EXECABORT Transaction discarded because of: {words}"));
    }

    /// Keeps nothing more of a transaction that will not be carried out.
    pub(super) fn spoil_transaction(&mut self, slot: u32) {
        self.discard_transaction(slot);
        let transaction = Transaction { refused: true, ..Transaction::default() };
        self.sessions[slot as usize].more().transaction = Some(Box::new(transaction));
    }

    fn enqueue(&mut self, slot: u32, args: &[Cow<'_, [u8]>], fx: &mut Effects) {
        let max = self.settings.recovery_bytes;
        let Some(transaction) = self.sessions[slot as usize].more().transaction.as_mut() else { return };
        if transaction.refused {
            return fx.send(slot, |out| resp::simple("QUEUED", out));
        }
        let before = transaction.commands.len();
        let words: Vec<&[u8]> = args.iter().map(|arg| &arg[..]).collect();
        resp::command(&words, &mut transaction.commands);
        transaction.count += 1;
        let excess = if transaction.count > COMMANDS {
            Some(format!("ERR transaction longer than {COMMANDS} commands"))
        } else if transaction.commands.len() > max {
            Some(format!("ERR transaction longer than {max} bytes (client.queue_max_size)"))
        } else {
            None
        };
        self.kept += transaction.commands.len() - before;
        match excess {
            Some(text) => {
                self.spoil_transaction(slot);
                self.resp_error(slot, fx, &text);
            }
            None if self.kept > self.settings.input_limit => {
                self.errors += 1;
                self.end(slot, &Ending::Overloaded, fx);
            }
            None => fx.send(slot, |out| resp::simple("QUEUED", out)),
        }
    }

    /// `EXEC`: from now on [`Hub::run_transaction`] carries the commands out.
    fn begin_execution(&mut self, slot: u32, fx: &mut Effects) {
        let Some(transaction) = self.sessions[slot as usize].more().transaction.as_mut() else { return };
        if transaction.refused {
            self.discard_transaction(slot);
            let text = "EXECABORT Transaction discarded because of previous errors.";
            return self.resp_error(slot, fx, text);
        }
        transaction.execution = Some(Execution::default());
    }

    /// Goes on with the commands of a transaction after its `EXEC`. Gives why it cannot go on, or `None` when there is
    /// nothing more to do.
    pub(super) fn run_transaction(&mut self, slot: u32, fx: &mut Effects) -> Option<Why> {
        while self.is_executing(slot) {
            // A command that is carried out finds no transaction, so that it is not kept again.
            let transaction = self.sessions[slot as usize].more().transaction.take()?;
            let done = transaction.execution.as_ref().map_or(0, |execution| execution.done);
            if done == transaction.commands.len() {
                if self.sessions[slot as usize].is_queued() {
                    self.sessions[slot as usize].more().transaction = Some(transaction);
                    return Some(Why::Hold);
                }
                self.kept -= transaction.len();
                fx.send(slot, |out| {
                    resp::array(transaction.count, out);
                    out.extend_from_slice(transaction.execution.as_ref().map_or(&[], |e| &e.replies[..]));
                });
                return None;
            }
            let limits = Limits { max_bulk: usize::MAX, max_args: usize::MAX, max_command: usize::MAX };
            let mark = fx.mark();
            let (act, used) = match Decoder::default().decode(&transaction.commands[done..], &limits) {
                Ok(Decoded::Command { args, used }) => {
                    let name = String::from_utf8_lossy(&args[0]).to_ascii_lowercase();
                    (self.resp_execute(slot, &name, &args, fx), used)
                }
                // They were encoded here.
                _ => (Act::Next, transaction.commands.len() - done),
            };
            let more = self.sessions[slot as usize].more();
            let transaction = more.transaction.insert(transaction);
            match act {
                Act::Next => {
                    if let Some(execution) = &mut transaction.execution {
                        execution.done += used;
                    }
                    self.collect_replies(slot, mark, fx);
                    if self.is_closing(slot) {
                        return Some(Why::End);
                    }
                }
                Act::Hold => return Some(Why::Hold),
                Act::End => return Some(Why::End),
            }
        }
        None
    }

    /// Where a transaction is being carried out, takes the replies that were sent since `mark` into its array.
    pub(crate) fn collect_replies(&mut self, slot: u32, mark: Mark, fx: &mut Effects) {
        let Some(session) = self.sessions.get_mut(slot as usize) else { return };
        if session.flags.has(Flag::Closing) {
            return;
        }
        let Some(more) = session.existing_more() else { return };
        let Some(execution) = more.transaction.as_mut().and_then(|t| t.execution.as_mut()) else { return };
        self.kept += fx.take_sent(slot, mark, &mut execution.replies);
        let max = self.settings.recovery_bytes;
        let ending = if execution.replies.len() > max {
            let words = format!("replies of a transaction longer than {max} bytes (client.queue_max_size)");
            Ending::Protocol(words)
        } else if self.kept > self.settings.input_limit {
            Ending::Overloaded
        } else {
            return;
        };
        self.errors += 1;
        self.end(slot, &ending, fx);
    }
}
