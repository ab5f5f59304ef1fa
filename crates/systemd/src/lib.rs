//! The protocols between systemd and a service: notifications ([`notify`]) and sockets ([`sockets`]).
//!
//! Without systemd, or with a unit that uses neither, both do nothing. Every environment variable is read here and passed
//! on, so that the tests need no environment.

mod notify;
pub mod sockets;

use std::ffi::OsString;

pub use notify::Notifier;
pub use sockets::SocketError;

/// Reads a variable of the environment.
pub type Variable<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The number in a variable; `None` without the variable, or when it is no number.
fn number(variable: Variable<'_>, name: &str) -> Option<u64> {
    variable(name)?.to_str()?.parse().ok()
}

/// Whether the variable `name`, which contains a process id, allows the process `pid` to use the variables beside it.
/// systemd sets it so that a child process ignores variables that it inherits.
fn is_addressed_to(variable: Variable<'_>, name: &str, pid: u32) -> bool {
    number(variable, name) == Some(pid.into())
}
