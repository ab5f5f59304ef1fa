//! Redirections: the response of a cluster node to a request for a hash slot of another node.

use redis::{ServerErrorKind, Value};

use crate::addr::Addr;

/// The node to which a request must be sent instead; the request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// The slot has another primary.
    Moved(u16, Option<Addr>),
    /// The slot is being moved to another primary, and this key is not here: send the request there once, with `ASKING`
    /// before it.
    Ask(Option<Addr>),
}

impl Redirect {
    /// Parses `MOVED slot host:port` or `ASK slot host:port`. The host is missing when the node has no configured
    /// address of its own; then the topology must be read.
    pub fn read(answer: &Value) -> Option<Self> {
        let Value::ServerError(error) = answer else { return None };
        let mut words = error.details().unwrap_or_default().split(' ');
        let slot = words.next().and_then(|slot| slot.parse().ok());
        let addr = words.next().and_then(|addr| Addr::read(addr, "")).filter(|addr| !addr.host.is_empty());
        match error.kind() {
            Some(ServerErrorKind::Moved) => Some(Self::Moved(slot?, addr)),
            Some(ServerErrorKind::Ask) => Some(Self::Ask(addr)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_read_and_other_answers_are_none() {
        let read = |line: &str| Redirect::read(&redis::parse_redis_value(line.as_bytes()).unwrap());
        let at = Some(Addr::new("10.0.0.1", 7));
        assert_eq!(read("-MOVED 15495 10.0.0.1:7\r\n"), Some(Redirect::Moved(15_495, at.clone())));
        assert_eq!(read("-MOVED 15495 :7\r\n"), Some(Redirect::Moved(15_495, None)));
        assert_eq!(read("-ASK 15495 10.0.0.1:7\r\n"), Some(Redirect::Ask(at)));
        assert_eq!(read("-ERR MOVED\r\n"), None);
        assert_eq!(read("+MOVED 1 a:1\r\n"), None);
    }
}
