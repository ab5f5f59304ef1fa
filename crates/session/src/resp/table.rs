//! RESP: the table of commands, their arity, and Redis' errors for invalid commands.

use std::borrow::Cow;

/// All commands in lower case, with their arity as in Redis: the name is included, and a negative number is a minimum.
pub(super) const COMMANDS: &[(&str, i32)] = &[
    ("auth", -2),
    ("client", -2),
    ("command", -1),
    ("discard", 1),
    ("echo", 2),
    ("exec", 1),
    ("hello", -1),
    ("info", -1),
    ("multi", 1),
    ("ping", -1),
    ("psubscribe", -2),
    ("publish", 3),
    ("pubsub", -2),
    ("punsubscribe", -1),
    ("quit", -1),
    ("reset", 1),
    ("select", 2),
    ("subscribe", -2),
    ("unsubscribe", -1),
    ("unwatch", 1),
    ("watch", -2),
];

/// Commands of two words, with their arity.
const SUBCOMMANDS: &[(&str, &str, i32)] = &[
    ("client", "getname", 2),
    ("client", "id", 2),
    ("client", "setinfo", 4),
    ("client", "setname", 3),
    ("command", "count", 2),
    ("command", "docs", -2),
    ("command", "info", -2),
    ("command", "list", -2),
    ("pubsub", "channels", -2),
    ("pubsub", "numpat", 2),
    ("pubsub", "numsub", -2),
];

/// Most bytes of a command that are quoted in an error.
const MAX_QUOTED: usize = 128;

/// Whether the command exists; `name` in lower case.
pub(super) fn is_known(name: &str) -> bool {
    COMMANDS.iter().any(|(known, _)| *known == name)
}

/// The error for a command that no session can execute: an unknown one, or one with a wrong number of arguments. `name`
/// is the first word in lower case.
pub(super) fn malformed(name: &str, args: &[Cow<'_, [u8]>]) -> Option<String> {
    let Some((_, arity)) = COMMANDS.iter().find(|(known, _)| *known == name) else {
        return Some(unknown(args));
    };
    if !accepts_count(*arity, args.len()) {
        return Some(wrong_arity(name));
    }
    let [_, word, ..] = args else { return None };
    let mut subcommands = SUBCOMMANDS.iter().filter(|(of, ..)| *of == name).peekable();
    subcommands.peek()?;
    let lower = String::from_utf8_lossy(word).to_ascii_lowercase();
    match subcommands.find(|(_, known, _)| *known == lower) {
        None => Some(unknown_subcommand(&name.to_ascii_uppercase(), word)),
        Some((_, _, arity)) => {
            (!accepts_count(*arity, args.len())).then(|| wrong_arity(&format!("{name}|{lower}")))
        }
    }
}

fn accepts_count(arity: i32, count: usize) -> bool {
    let least = arity.unsigned_abs() as usize;
    if arity < 0 { count >= least } else { count == least }
}

/// The error for a wrong number of arguments.
pub(super) fn wrong_arity(name: &str) -> String {
    format!("ERR wrong number of arguments for '{name}' command")
}

/// The error for an unknown command, with its first arguments, up to 128 bytes.
pub(super) fn unknown(args: &[Cow<'_, [u8]>]) -> String {
    let name = String::from_utf8_lossy(&args[0][..args[0].len().min(MAX_QUOTED)]);
    let mut list = String::new();
    for arg in &args[1..] {
        if list.len() >= MAX_QUOTED {
            break;
        }
        let room = MAX_QUOTED - list.len();
        let shown = String::from_utf8_lossy(&arg[..arg.len().min(room)]);
        list.push_str(&format!("'{shown}' "));
    }
    format!("ERR unknown command '{name}', with args beginning with: {list}")
}

/// The error for an unknown subcommand of `command`.
pub(super) fn unknown_subcommand(command: &str, subcommand: &[u8]) -> String {
    let subcommand = String::from_utf8_lossy(&subcommand[..subcommand.len().min(MAX_QUOTED)]);
    format!("ERR unknown subcommand '{subcommand}'. Try {command} HELP.")
}
