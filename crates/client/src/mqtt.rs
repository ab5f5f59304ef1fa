//! A connection with MQTT 5.0 to any broker: one session that ends with the connection. Messages are published and subscribed to
//! with QoS 1.
//!
//! Invariants:
//! - A message of a subscription is acknowledged when the caller has taken it.
//! - At most [`MAX_PACKET`] bytes of one packet are buffered; the caller bounds the messages in flight.
//! - While the caller waits in [`MqttConnection::exchange`], a ping is sent after half the keep-alive time without another packet.

use std::collections::VecDeque;
use std::time::Duration;

use tidings_mqtt::{
    Ack, Connect, Decoded, Decoder, Disconnect, Packet, PacketId, Properties, Property, PropertyId, Publish,
    Qos, QosAndId, ReasonCode, Sensitive, Side, Subscribe, Subscription, SubscriptionOptions,
    SubscriptionsBuf, Version,
};
use tokio::time::{Instant, timeout, timeout_at};

use crate::pipe::Pipe;
use crate::{AGENT_NAME, Error, Server};

/// The timeout of the response to `CONNECT`.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest accepted packet in bytes: far above useful message limits.
const MAX_PACKET: usize = 64 << 20;
/// The keep-alive time in seconds, unless the server sets one.
const KEEP_ALIVE: u16 = 60;

/// A connection after `CONNACK`.
pub struct MqttConnection {
    pipe: Pipe,
    last_id: u16,
    /// The packet identifiers of published messages without an acknowledgement, oldest first.
    published: VecDeque<PacketId>,
    /// The most messages without an acknowledgement that the server accepts.
    receive_maximum: usize,
    /// The time of the last packet to the server.
    last_sent: Instant,
    /// Half the keep-alive time; `None` without one.
    ping_after: Option<Duration>,
}

/// A packet of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MqttEvent {
    /// A message of a subscription.
    Message {
        /// Its topic.
        topic: String,
        /// Its payload.
        body: Vec<u8>,
    },
    /// The subscriptions are made, or one is refused, with the reason.
    Subscribed(Result<(), String>),
    /// The oldest message without an acknowledgement is published, or refused, with the reason.
    Published(Result<(), String>),
    /// Any other packet.
    Other,
}

impl MqttConnection {
    /// Connects with a clean start, an assigned client id, and the secret as the password.
    ///
    /// # Errors
    /// [`Error`]: no server at the address, no response in time, another protocol, or a rejected secret.
    pub async fn open(server: &Server, secret: Option<&str>) -> Result<Self, Error> {
        let pipe = Pipe::open(server).await?;
        let mut connection = Self {
            pipe,
            last_id: 0,
            published: VecDeque::new(),
            receive_maximum: usize::from(u16::MAX),
            last_sent: Instant::now(),
            ping_after: half(KEEP_ALIVE),
        };
        connection.write(&Packet::Connect(Connect {
            version: Version::V5,
            clean_start: true,
            keep_alive: KEEP_ALIVE,
            client_id: "",
            will: None,
            user_name: secret.map(|_| AGENT_NAME),
            password: secret.map(|secret| Sensitive(secret.as_bytes())),
            properties: Properties::NONE,
        }))?;
        match timeout(GREETING_TIMEOUT, connection.greeting()).await {
            Ok(Ok(())) => Ok(connection),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::Timeout(GREETING_TIMEOUT.as_secs())),
        }
    }

    async fn greeting(&mut self) -> Result<(), Error> {
        loop {
            let found = self.decode(|packet| match packet {
                Packet::ConnAck(connack) if connack.reason == ReasonCode::Success => {
                    let (mut most, mut keep_alive) = (u16::MAX, KEEP_ALIVE);
                    for property in connack.properties.iter() {
                        match property {
                            Property::ReceiveMaximum(number) => most = number.get(),
                            Property::ServerKeepAlive(seconds) => keep_alive = seconds,
                            _ => {}
                        }
                    }
                    Ok((usize::from(most), half(keep_alive)))
                }
                Packet::ConnAck(connack) => {
                    let text = explained(connack.reason, &connack.properties);
                    let temporary = is_temporary(connack.reason);
                    Err(Error::Refused { what: "the connection".to_owned(), text, temporary })
                }
                _ => Err(Error::Protocol { what: "MQTT", why: "its first packet is no CONNACK".to_owned() }),
            })?;
            match found {
                Some(Ok(limits)) => {
                    (self.receive_maximum, self.ping_after) = limits;
                    return Ok(());
                }
                Some(Err(error)) => return Err(error),
                None => self.pipe.exchange().await?,
            }
        }
    }

    /// Subscribes to filters with QoS 1.
    ///
    /// # Errors
    /// [`Error::ContentRejected`]: a filter is longer than the protocol permits.
    pub fn subscribe<'a>(&mut self, filters: impl IntoIterator<Item = &'a str>) -> Result<(), Error> {
        let mut subscriptions = SubscriptionsBuf::default();
        for filter in filters {
            let options = SubscriptionOptions::new(Qos::AtLeastOnce);
            subscriptions.push(Subscription { filter, options }).map_err(too_long)?;
        }
        let (packet_id, properties) = (self.next_id(), Properties::NONE);
        let subscriptions = subscriptions.as_subscriptions();
        self.write(&Packet::Subscribe(Subscribe { packet_id, properties, subscriptions }))
    }

    /// Publishes a message with QoS 1.
    ///
    /// # Errors
    /// [`Error::ContentRejected`]: the message is longer than the protocol permits.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) -> Result<(), Error> {
        let id = self.next_id();
        let qos = QosAndId::AtLeastOnce(id);
        let properties = Properties::NONE;
        self.write(&Packet::Publish(Publish { dup: false, qos, retain: false, topic, properties, payload }))?;
        self.published.push_back(id);
        Ok(())
    }

    /// Sends `PINGREQ`.
    ///
    /// # Errors
    /// None in practice: the packet has no contents.
    pub fn ping(&mut self) -> Result<(), Error> {
        self.write(&Packet::PingReq)
    }

    /// Whether the server accepts a further message before it has acknowledged another.
    pub fn has_room(&self) -> bool {
        self.published.len() < self.receive_maximum
    }

    /// Bytes of packets that the kernel has not accepted yet.
    pub fn unsent(&self) -> usize {
        self.pipe.unsent()
    }

    /// The time of the last input.
    pub fn last_received(&self) -> Instant {
        self.pipe.last_received()
    }

    /// The next packet in the input buffer; does not wait. Acknowledges a message.
    ///
    /// # Errors
    /// [`Error::Closed`] and [`Error::Refused`] when the server ends the connection; [`Error::Protocol`] when the bytes are no
    /// packet.
    pub fn take(&mut self) -> Result<Option<MqttEvent>, Error> {
        let mut acknowledged = None;
        let mut answered = None;
        let event = self.decode(|packet| match packet {
            Packet::Publish(publish) => {
                acknowledged = publish.qos.packet_id();
                Ok(MqttEvent::Message { topic: publish.topic.to_owned(), body: publish.payload.to_vec() })
            }
            Packet::SubAck(suback) => {
                let refused = suback.reasons.iter().find(|reason| *reason >= ReasonCode::UnspecifiedError);
                let refused = refused.map(|reason| explained(reason, &suback.properties));
                Ok(MqttEvent::Subscribed(refused.map_or(Ok(()), Err)))
            }
            Packet::PubAck(ack) => {
                answered = Some(ack.packet_id);
                let is_refused = ack.reason >= ReasonCode::UnspecifiedError;
                let refused = is_refused.then(|| explained(ack.reason, &ack.properties));
                Ok(MqttEvent::Published(refused.map_or(Ok(()), Err)))
            }
            Packet::Disconnect(Disconnect { reason, properties }) => {
                Err(Error::Closed { code: u16::from(reason.number()), text: explained(*reason, properties) })
            }
            _ => Ok(MqttEvent::Other),
        })?;
        if let Some(packet_id) = acknowledged {
            self.write(&Packet::PubAck(Ack::success(packet_id)))?;
        }
        if let Some(id) = answered
            && self.published.pop_front() != Some(id)
        {
            let why = format!("it acknowledges message {} out of order", id.get());
            return Err(Error::Protocol { what: "MQTT", why });
        }
        event.transpose()
    }

    /// Waits until input has arrived, output has been written, or a ping was due. Cancel safe: no byte is lost or written twice.
    ///
    /// # Errors
    /// [`Error::Lost`] when the connection has ended.
    pub async fn exchange(&mut self) -> Result<(), Error> {
        let Some(ping_after) = self.ping_after else { return self.pipe.exchange().await };
        match timeout_at(self.last_sent + ping_after, self.pipe.exchange()).await {
            Ok(done) => done,
            Err(_) => self.ping(),
        }
    }

    /// Sends `DISCONNECT`, and waits at most a second until it is written.
    pub async fn close(mut self) {
        let disconnect = Disconnect { reason: ReasonCode::Success, properties: Properties::NONE };
        if self.write(&Packet::Disconnect(disconnect)).is_ok() {
            let written = async { while self.unsent() > 0 && self.pipe.exchange().await.is_ok() {} };
            let _ = timeout(Duration::from_secs(1), written).await;
        }
    }

    fn next_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if let Some(id) = PacketId::new(self.last_id).filter(|id| !self.published.contains(id)) {
                return id;
            }
        }
    }

    fn write(&mut self, packet: &Packet<'_>) -> Result<(), Error> {
        self.last_sent = Instant::now();
        packet.encode(Version::V5, self.pipe.outbox()).map_err(too_long)
    }

    /// Passes the next packet in the input buffer to `read`.
    fn decode<T>(&mut self, read: impl FnOnce(&Packet<'_>) -> T) -> Result<Option<T>, Error> {
        let decoder = Decoder { side: Side::Client, version: Some(Version::V5), max_packet: MAX_PACKET };
        let (value, used) = match decoder.decode(self.pipe.inbox()) {
            Ok(Decoded::Packet(packet, used)) => (read(&packet), used),
            Ok(Decoded::Partial { .. }) => return Ok(None),
            Err(error) => {
                let other = || Error::Protocol { what: "MQTT", why: error.to_string() };
                return Err(Error::from_notice(self.pipe.inbox()).unwrap_or_else(other));
            }
        };
        self.pipe.take(used);
        Ok(Some(value))
    }
}

/// Half of a keep-alive time in seconds; `None` for 0, which is no limit.
fn half(keep_alive: u16) -> Option<Duration> {
    (keep_alive > 0).then(|| Duration::from_millis(u64::from(keep_alive) * 500))
}

/// A reason code with the server's explanation.
fn explained(reason: ReasonCode, properties: &Properties<'_>) -> String {
    match properties.get(PropertyId::ReasonString) {
        Some(Property::ReasonString(text)) => format!("{text} (0x{:02X})", reason.number()),
        _ => format!("{reason:?} (0x{:02X})", reason.number()),
    }
}

fn is_temporary(reason: ReasonCode) -> bool {
    matches!(
        reason,
        ReasonCode::ServerUnavailable
            | ReasonCode::ServerBusy
            | ReasonCode::ConnectionRateExceeded
            | ReasonCode::UseAnotherServer
    )
}

fn too_long(error: tidings_mqtt::EncodeError) -> Error {
    Error::ContentRejected { what: "the packet".to_owned(), text: error.to_string() }
}
