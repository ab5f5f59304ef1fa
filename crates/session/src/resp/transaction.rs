//! RESP: transactions (`MULTI`, `EXEC`, `DISCARD`; redis.io, "Transactions"). There are no keys, so `WATCH` has no
//! effect.
//!
//! The commands between `MULTI` and `EXEC` are kept as bytes. `EXEC` executes them one after the other, as if they
//! arrived then. Their replies are collected, and sent as one array after the last one. Publications for the client are
//! sent before that array, never inside it.
//!
//! Invariants:
//! - If a command of a transaction was rejected, no command of it is executed.
//! - A transaction has at most [`COMMANDS`] commands and `client.queue_max_size` bytes; the same bound in bytes applies
//!   to its replies.
//! - Both count as unused input of the hub ([`Protocols::kept`](crate::Protocols)), and its limit applies.

use std::borrow::Cow;

use tidings_hub::{Action, CloseReason, Progress, SentMark};
use tidings_wire::Channel;
use tidings_wire::resp::{self, Decoded, Decoder, Limits};

use super::state::{Execution, Transaction};
use super::{error_text, table};
use crate::consumed::StopReason;
use crate::context::Context;
use crate::state::State;

/// Most commands of one transaction.
const COMMANDS: usize = 16_384;

impl Context<'_> {
    /// `MULTI`.
    pub(crate) fn begin_transaction(&mut self) {
        self.session_mut().state().resp().transaction = Some(Box::default());
        self.send(|out| resp::simple("OK", out));
    }

    /// Whether commands are kept until `EXEC`.
    pub(crate) fn is_in_transaction(&self) -> bool {
        let state = self.session().peek_state();
        state.and_then(State::transaction).is_some_and(|transaction| transaction.execution.is_none())
    }

    /// Whether the commands of a transaction are being executed.
    pub(crate) fn is_executing(&self) -> bool {
        let state = self.session().peek_state();
        state.and_then(State::transaction).is_some_and(|transaction| transaction.execution.is_some())
    }

    /// Discards the transaction of a session, if there is one.
    pub(crate) fn discard_transaction(&mut self) {
        let state = self.session_mut().existing_state();
        let transaction = state.and_then(|state| state.resp.as_mut()?.transaction.take());
        self.hub.protocols.kept -= transaction.map_or(0, |transaction| transaction.len());
    }

    /// Executes or keeps a command between `MULTI` and `EXEC`.
    pub(crate) fn resp_in_transaction(&mut self, name: &str, args: &[Cow<'_, [u8]>]) -> Progress {
        if let Some(text) = self.refused_in_transaction(name, args) {
            return self.in_turn(|cx| {
                if name == "exec" {
                    return cx.refuse_exec(&text);
                }
                cx.fail_transaction();
                cx.resp_error(&text);
            });
        }
        match name {
            "quit" | "reset" => self.resp_connection_command(name, args),
            "multi" => self.in_turn(|cx| {
                cx.resp_error("ERR MULTI calls can not be nested");
            }),
            "watch" => self.in_turn(|cx| {
                cx.resp_error("ERR WATCH inside MULTI is not allowed");
            }),
            "discard" => self.in_turn(|cx| {
                cx.discard_transaction();
                cx.send(|out| resp::simple("OK", out));
            }),
            "exec" => self.in_turn(Context::begin_execution),
            _ => self.in_turn(|cx| cx.transaction_command(args)),
        }
    }

    /// The error for a command that cannot become part of a transaction, as far as it can be determined before the
    /// execution.
    fn refused_in_transaction(&self, name: &str, args: &[Cow<'_, [u8]>]) -> Option<String> {
        table::malformed(name, args).or_else(|| match (name, args) {
            ("publish", [_, channel, _]) => {
                let channel = Channel::new(channel).ok()?;
                if self.hub.is_decided_by_application(self.slot, Action::Publish, &channel) {
                    return None;
                }
                let code = self.hub.authorize_command(self.slot, Action::Publish, &channel).err()?;
                Some(error_text(code, code.text))
            }
            ("subscribe" | "psubscribe", [_, names @ ..]) => self.resp_topics(name, names).err(),
            _ => None,
        })
    }

    /// Responds to a rejected `EXEC`, and discards the transaction.
    pub(crate) fn refuse_exec(&mut self, text: &str) {
        self.discard_transaction();
        let words = text.strip_prefix("ERR ").unwrap_or(text);
        self.resp_error(&format!("EXECABORT Transaction discarded because of: {words}"));
    }

    /// Frees a transaction that will not be executed; further commands of it are ignored.
    pub(crate) fn fail_transaction(&mut self) {
        self.discard_transaction();
        let transaction = Transaction { refused: true, ..Transaction::default() };
        self.session_mut().state().resp().transaction = Some(Box::new(transaction));
    }

    fn transaction_command(&mut self, args: &[Cow<'_, [u8]>]) {
        let max = self.hub.settings().recovery_bytes;
        let Some(transaction) = self.session_mut().state().resp().transaction.as_mut() else { return };
        if transaction.refused {
            return self.send(|out| resp::simple("QUEUED", out));
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
        self.hub.protocols.kept += transaction.commands.len() - before;
        match excess {
            Some(text) => {
                self.fail_transaction();
                self.resp_error(&text);
            }
            None if self.hub.protocols.kept > self.hub.protocols.settings.input_limit => {
                self.hub.count_error();
                self.end(&CloseReason::Overloaded);
            }
            None => self.send(|out| resp::simple("QUEUED", out)),
        }
    }

    /// `EXEC`: starts the execution of the commands by [`Context::run_transaction`].
    fn begin_execution(&mut self) {
        let Some(transaction) = self.session_mut().state().resp().transaction.as_mut() else { return };
        if transaction.refused {
            self.discard_transaction();
            let text = "EXECABORT Transaction discarded because of previous errors.";
            return self.resp_error(text);
        }
        transaction.execution = Some(Execution::default());
    }

    /// Continues the commands of a transaction after its `EXEC`. Returns the reason for which it must stop, or `None`
    /// if it is complete.
    pub(crate) fn run_transaction(&mut self) -> Option<StopReason> {
        while self.is_executing() {
            // The transaction is taken out during a command, so that the command is not kept again.
            let transaction = self.session_mut().state().resp().transaction.take()?;
            let done = transaction.execution.as_ref().map_or(0, |execution| execution.done);
            if done == transaction.commands.len() {
                if self.session().has_queued() {
                    self.session_mut().state().resp().transaction = Some(transaction);
                    return Some(StopReason::Hold);
                }
                self.hub.protocols.kept -= transaction.len();
                self.send(|out| {
                    resp::array(transaction.count, out);
                    out.extend_from_slice(transaction.execution.as_ref().map_or(&[], |e| &e.replies[..]));
                });
                return None;
            }
            let limits = Limits { max_bulk: usize::MAX, max_args: usize::MAX, max_command: usize::MAX };
            let mark = self.fx.mark();
            let (act, used) = match Decoder::default().decode(&transaction.commands[done..], &limits) {
                Ok(Decoded::Command { args, used }) => {
                    let name = String::from_utf8_lossy(&args[0]).to_ascii_lowercase();
                    (self.resp_execute(&name, &args), used)
                }
                // Unreachable: the commands were encoded by this module.
                _ => (Progress::Next, transaction.commands.len() - done),
            };
            let resp = self.session_mut().state().resp();
            let transaction = resp.transaction.insert(transaction);
            match act {
                Progress::Next => {
                    if let Some(execution) = &mut transaction.execution {
                        execution.done += used;
                    }
                    self.collect_replies(mark);
                    if self.is_closing() {
                        return Some(StopReason::End);
                    }
                }
                Progress::Hold => return Some(StopReason::Hold),
                Progress::End => return Some(StopReason::End),
            }
        }
        None
    }

    /// During a transaction, moves the replies since `mark` into its array.
    pub(crate) fn collect_replies(&mut self, mark: SentMark) {
        if self.is_closing() {
            return;
        }
        let Some(state) = self.hub.session_mut(self.slot).existing_state() else { return };
        let Some(execution) = state.resp().transaction.as_mut().and_then(|t| t.execution.as_mut()) else {
            return;
        };
        let taken = self.fx.take_sent(self.slot, mark, &mut execution.replies);
        let length = execution.replies.len();
        self.hub.protocols.kept += taken;
        let max = self.hub.settings().recovery_bytes;
        let reason = if length > max {
            let words = format!("replies of a transaction longer than {max} bytes (client.queue_max_size)");
            CloseReason::Protocol(words)
        } else if self.hub.protocols.kept > self.hub.protocols.settings.input_limit {
            CloseReason::Overloaded
        } else {
            return;
        };
        self.hub.count_error();
        self.end(&reason);
    }
}
