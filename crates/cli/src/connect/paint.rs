//! Displays lines of the server: one row per line, coloured by meaning.

use crate::text::escape_control;

const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RED: &str = "\x1b[31m";
const CYAN: &str = "\x1b[36m";
const MAGENTA: &str = "\x1b[35m";
const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// Appends a line of the line port: green for confirmations, yellow for repeated ones, red for errors, cyan for
/// messages. The output contains no control characters of the line.
pub(crate) fn line(line: &[u8], coloured: bool, out: &mut String) {
    wrapped(if coloured { colour_of(line) } else { "" }, out, |out| escape_control(line, out));
}

/// Appends an echoed line, in magenta.
pub(crate) fn echo(line: &[u8], coloured: bool, out: &mut String) {
    wrapped(if coloured { MAGENTA } else { "" }, out, |out| escape_control(line, out));
}

/// Appends a remark of the program.
pub(crate) fn remark(text: &str, coloured: bool, out: &mut String) {
    wrapped(if coloured { DIM } else { "" }, out, |out| out.push_str(text));
}

fn wrapped(colour: &str, out: &mut String, write: impl FnOnce(&mut String)) {
    out.push_str(colour);
    write(out);
    if !colour.is_empty() {
        out.push_str(PLAIN);
    }
}

fn colour_of(line: &[u8]) -> &'static str {
    match line {
        b"CONFIRMED" | b"PONG" => GREEN,
        b"ALREADY SUBSCRIBED" | b"ALREADY UNSUBSCRIBED" => YELLOW,
        b"UNKNOWN COMMAND" => RED,
        _ if line.starts_with(b"ERROR ") => RED,
        _ => CYAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn painted(text: &str, coloured: bool) -> String {
        let mut out = String::new();
        line(text.as_bytes(), coloured, &mut out);
        out
    }

    #[test]
    fn confirmations_errors_and_messages_look_different() {
        assert_eq!(painted("CONFIRMED", true), "\x1b[32mCONFIRMED\x1b[0m");
        assert_eq!(painted("ALREADY SUBSCRIBED", true), "\x1b[33mALREADY SUBSCRIBED\x1b[0m");
        assert_eq!(
            painted("ERROR 103 permission denied", true),
            "\x1b[31mERROR 103 permission denied\x1b[0m"
        );
        assert_eq!(painted("MESSAGE news hi", true), "\x1b[36mMESSAGE news hi\x1b[0m");
    }

    #[test]
    fn without_colour_a_line_is_unchanged() {
        assert_eq!(painted("CONFIRMED", false), "CONFIRMED");
        assert_eq!(painted("a\x1b[2Jb", false), "a\\x1b[2Jb");
    }
}
