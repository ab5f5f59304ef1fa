//! Telnet's control sequences (RFC 854) inside plain lines: each begins with the byte 255, which never occurs in UTF-8.
//!
//! A client offers and requests options (`WILL`, `DO`), sends the parameters of one (`SB … SE`), or sends a function
//! such as "are you there". The server has no options: it refuses each offer and request, and skips the rest.
//!
//! Invariants:
//! - Bytes without 255, outside of a sequence, pass unchanged.
//! - The result is independent of the division of the input; between two calls only one [`Telnet`] is stored, and no
//!   bytes.
//! - An unknown sequence remains in the text, which is then not UTF-8.

use memchr::memchr;
use thiserror::Error;

/// Begins a sequence; twice it is the byte itself.
pub const IAC: u8 = 255;
/// The most bytes of the parameters of one option.
pub const MAX_PARAMETERS: u16 = 1024;

const SE: u8 = 240;
const SB: u8 = 250;
const WILL: u8 = 251;
const WONT: u8 = 252;
const DO: u8 = 253;
const DONT: u8 = 254;

/// The state at the end of a client's input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Telnet {
    /// Outside of a sequence.
    #[default]
    Text,
    /// Behind [`IAC`].
    Command,
    /// Behind `WILL`, `WONT`, `DO` or `DONT`, which is the value.
    Option(u8),
    /// Among the parameters of an option, with the number of parameter bytes so far.
    Parameters(u16),
    /// Behind [`IAC`] among them.
    ParametersCommand(u16),
}

/// The parameters of an option do not end.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("telnet subnegotiation longer than {MAX_PARAMETERS} bytes")]
pub struct TooManyParameters;

impl Telnet {
    /// Whether [`Telnet::read`] returns `input` unchanged.
    pub fn passes(self, input: &[u8]) -> bool {
        self == Self::Text && memchr(IAC, input).is_none()
    }

    /// Appends the text in `input` to `text`, and the answers to its sequences to `answers`: three bytes to each offer
    /// or request of an option.
    ///
    /// # Errors
    /// [`TooManyParameters`]; the rest of the input has no meaning then.
    pub fn read(
        &mut self,
        mut input: &[u8],
        text: &mut Vec<u8>,
        answers: &mut Vec<u8>,
    ) -> Result<(), TooManyParameters> {
        while let Some((&byte, rest)) = input.split_first() {
            if *self == Self::Text {
                let run = memchr(IAC, input).unwrap_or(input.len());
                text.extend_from_slice(&input[..run]);
                input = &input[run..];
                if !input.is_empty() {
                    *self = Self::Command;
                    input = &input[1..];
                }
                continue;
            }
            input = rest;
            *self = match (*self, byte) {
                (Self::Command, SB) => Self::Parameters(0),
                (Self::Command, WILL..=DONT) => Self::Option(byte),
                (Self::Command, SE..SB) => Self::Text,
                (Self::Command, _) => {
                    text.push(IAC);
                    if byte != IAC {
                        text.push(byte);
                    }
                    Self::Text
                }
                (Self::Option(request), option) => {
                    match request {
                        WILL => answers.extend_from_slice(&[IAC, DONT, option]),
                        DO => answers.extend_from_slice(&[IAC, WONT, option]),
                        // A request to disable a disabled option gets no response, to prevent a loop (RFC 854).
                        _ => {}
                    }
                    Self::Text
                }
                (Self::Parameters(count), IAC) => Self::ParametersCommand(count),
                (Self::ParametersCommand(_), SE) => Self::Text,
                (Self::Parameters(count) | Self::ParametersCommand(count), _) => {
                    if count == MAX_PARAMETERS {
                        return Err(TooManyParameters);
                    }
                    Self::Parameters(count + 1)
                }
                (Self::Text, _) => Self::Text,
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The text in an input in pieces of `size`, and the answers.
    fn read(input: &[u8], size: usize) -> Result<(Vec<u8>, Vec<u8>), TooManyParameters> {
        let (mut telnet, mut text, mut answers) = (Telnet::default(), Vec::new(), Vec::new());
        for piece in input.chunks(size.max(1)) {
            let passes = telnet.passes(piece);
            let before = text.len();
            telnet.read(piece, &mut text, &mut answers)?;
            assert!(!passes || text[before..] == *piece);
        }
        Ok((text, answers))
    }

    #[test]
    fn offers_and_requests_are_refused_and_everything_else_is_skipped() {
        for (input, text, answers) in [
            (&b"\xff\xfd\x03\xff\xfb\x18PING\r\n"[..], &b"PING\r\n"[..], &b"\xff\xfc\x03\xff\xfe\x18"[..]),
            (b"P\xff\xf1IN\xff\xf6G", b"PING", b""),
            (b"\xff\xfc\x0a\xff\xfe\x0dPING", b"PING", b""),
            (b"\xff\xfa\x1f\x00\x0a\x00\x0d\xff\xff\xff\xf0PING", b"PING", b""),
            (b"caf\xc3\xa9", b"caf\xc3\xa9", b""),
        ] {
            for size in 1..=input.len() {
                let read = read(input, size);
                assert_eq!(read, Ok((text.to_vec(), answers.to_vec())), "{}", input.escape_ascii());
            }
        }
    }

    #[test]
    fn bytes_outside_telnet_sequences_are_unchanged() {
        assert_eq!(read(b"\xff\xd8\xff\xe0", 4), Ok((b"\xff\xd8\xff\xe0".to_vec(), vec![])));
        assert_eq!(read(b"\xff\xff", 1), Ok((vec![0xff], vec![])));
    }

    #[test]
    fn parameters_have_a_bound() {
        let begun = [b"\xff\xfa".to_vec(), vec![b'x'; usize::from(MAX_PARAMETERS)]].concat();
        assert!(read(&begun, 100).is_ok());
        assert_eq!(read(&[begun, b"x".to_vec()].concat(), 100), Err(TooManyParameters));
    }

    proptest! {
        #[test]
        fn the_result_is_independent_of_the_split(
            input in prop::collection::vec(prop_oneof![240..=255_u8, any::<u8>()], 0..60),
            size in 1..9_usize,
        ) {
            let whole = read(&input, usize::MAX);
            prop_assert_eq!(&whole, &read(&input, size));
            prop_assert!(whole.is_ok_and(|(text, answers)| text.len() <= input.len() && answers.len() <= input.len()));
        }
    }
}
