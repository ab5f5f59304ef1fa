//! The requests, notifications and responses of this crate's protocols, and the hub's types with them.

use tidings_mqtt_session as mqtt;

/// The messages of the protocols to the control plane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Messages;

impl tidings_hub::ControlMessages for Messages {
    type Request = mqtt::Request;
    type Notification = Box<mqtt::SessionChange>;
    type Response = mqtt::Response;

    fn reserves(request: &mqtt::Request) -> Option<usize> {
        match request {
            mqtt::Request::Retained(_, max_bytes) => Some(*max_bytes),
            mqtt::Request::OpenSession(_)
            | mqtt::Request::JoinGroup(_)
            | mqtt::Request::OpenWill(_)
            | mqtt::Request::StoreSteps(_)
            | mqtt::Request::ReadMessages(_) => None,
        }
    }
}

/// An effect of a hub with the protocols of this crate.
pub type Effect = tidings_hub::Effect<Messages>;
/// The effects of a hub with the protocols of this crate.
pub type Effects = tidings_hub::Effects<Messages>;
/// An event of a session.
pub type Event<'a> = tidings_hub::Event<'a, Messages>;
/// An event without a response that a session notifies the control plane of.
pub type Notification = tidings_hub::Notification<Messages>;
/// A request of a session to the control plane.
pub type Request = tidings_hub::Request<Messages>;
/// The response to a request of a session.
pub type Response = tidings_hub::Response<Messages>;
