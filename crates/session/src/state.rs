//! The protocol's state of a session, which exists only while the session is not idle.

use tidings_wire::plain::telnet::Telnet;

use crate::frame_state::Frames;
use crate::input_buffer::InputBuffer;
use crate::mqtt::state::Mqtt;
use crate::pusher::state::Pusher;
use crate::resp::state::{Resp, Transaction};
use crate::stomp::state::Stomp;

/// State of the protocol that an idle session does not have.
#[derive(Debug, Default)]
pub struct State {
    pub(crate) input_buffer: InputBuffer,
    /// The position in a telnet sequence at the end of the input.
    pub(crate) telnet: Telnet,
    /// A partial WebSocket message, or one with commands that are not executed yet.
    pub(crate) frames: Option<Box<Frames>>,
    /// The state of a RESP session.
    pub(crate) resp: Option<Box<Resp>>,
    /// The state of a STOMP session.
    pub(crate) stomp: Option<Box<Stomp>>,
    /// The state of an MQTT session.
    pub(crate) mqtt: Option<Box<Mqtt>>,
    /// The state of a Pusher session.
    pub(crate) pusher: Option<Box<Pusher>>,
}

impl State {
    /// Bytes of unused input.
    pub(crate) fn kept(&self) -> usize {
        let transaction = self.transaction().map_or(0, Transaction::len);
        let stomp = self.stomp.as_ref().map_or(0, |stomp| stomp.kept());
        let mqtt = self.mqtt.as_ref().map_or(0, |mqtt| mqtt.kept());
        let frames = self.frames.as_ref().map_or(0, |frames| frames.len());
        self.input_buffer.len() + frames + transaction + stomp + mqtt
    }

    pub(crate) fn resp(&mut self) -> &mut Resp {
        self.resp.get_or_insert_default()
    }

    /// The transaction of RESP.
    pub(crate) fn transaction(&self) -> Option<&Transaction> {
        self.resp.as_ref()?.transaction.as_deref()
    }

    /// Keeps a copy of unused input; the first `searched` bytes contain no line break.
    pub(crate) fn keep(&mut self, bytes: &[u8], searched: usize) {
        self.input_buffer.keep_copy(bytes, searched);
    }
}

impl tidings_hub::State for State {
    fn is_empty(&self) -> bool {
        self.input_buffer.is_empty()
            && self.telnet == Telnet::Text
            && self.resp.as_ref().is_none_or(|resp| resp.is_empty())
            && self.frames.is_none()
            && self.stomp.is_none()
            && self.mqtt.is_none()
            && self.pusher.as_ref().is_none_or(|pusher| pusher.is_empty())
    }

    fn free_unused(&mut self) {
        if self.input_buffer.is_empty() && self.resp.as_ref().is_some_and(|resp| resp.is_empty()) {
            self.resp = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Protocols;

    #[test]
    fn an_idle_session_is_small() {
        let size = size_of::<tidings_hub::Session<Protocols>>();
        assert!(size <= 24, "{size}");
    }
}
