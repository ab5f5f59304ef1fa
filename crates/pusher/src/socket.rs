//! The id of a connection: the client id of the server, in the form of a socket id.

use std::fmt;
use std::str::FromStr;

/// The socket id of a connection: `high.low`, the two halves of its client id (a UUID) as decimal numbers. So each node knows
/// the client id of a socket id, and the reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketId(u128);

impl SocketId {
    /// The socket id of the connection with this client id; `None` if that is no UUID.
    pub fn from_client(client: &str) -> Option<Self> {
        let bytes = client.as_bytes();
        let is_hyphen = |at: usize| matches!(at, 8 | 13 | 18 | 23);
        if bytes.len() != 36 {
            return None;
        }
        let mut bits = 0_u128;
        for (at, byte) in bytes.iter().enumerate() {
            if is_hyphen(at) {
                (*byte == b'-').then_some(())?;
            } else {
                bits = bits << 4 | u128::from(char::from(*byte).to_digit(16)?);
            }
        }
        Some(Self(bits))
    }

    /// The client id of the connection.
    pub fn client(self) -> String {
        let hex = format!("{:032x}", self.0);
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 64, self.0 & u128::from(u64::MAX))
    }
}

/// The text is no socket id: two decimal numbers below 2⁶⁴ with a dot between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidSocketId;

impl FromStr for SocketId {
    type Err = InvalidSocketId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let half = |digits: &str| {
            let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse::<u64>().ok().filter(|_| is_number).map(u128::from)
        };
        let halves = text.split_once('.').and_then(|(high, low)| Some((half(high)?, half(low)?)));
        halves.map(|(high, low)| Self(high << 64 | low)).ok_or(InvalidSocketId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_id_and_a_client_id_are_two_forms_of_one_number() {
        let client = "0a1b2c3d-0e4f-8a5b-9c6d-7e8f90a1b2c3";
        let socket = SocketId::from_client(client).unwrap();
        let text = socket.to_string();
        assert_eq!(text, "728224405495188059.11271804597450158787");
        assert_eq!(text.parse(), Ok(socket));
        assert_eq!(socket.client(), client);
    }

    #[test]
    fn other_text_is_no_socket_id() {
        for text in
            ["", ".", "1", "1.", ".1", "1.2.3", "+1.2", "1.-2", "1 .2", "18446744073709551616.1", "x.1"]
        {
            assert_eq!(text.parse::<SocketId>(), Err(InvalidSocketId), "{text}");
        }
        for text in ["", "0a1b2c3d0e4f8a5b9c6d7e8f90a1b2c3", "0a1b2c3d-0e4f-8a5b-9c6d-7e8f90a1b2cg"] {
            assert_eq!(SocketId::from_client(text), None, "{text}");
        }
    }
}
