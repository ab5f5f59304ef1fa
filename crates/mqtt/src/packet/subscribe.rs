//! `SUBSCRIBE` and `UNSUBSCRIBE` (MQTT 3.1.1 and 5.0 §3.8, §3.10).

use super::filters::{Subscriptions, TopicFilters};
use super::start::{read_start, write_start};
use crate::error::{EncodeError, Violation};
use crate::properties::Properties;
use crate::read::Reader;
use crate::types::{PacketId, PacketType, Side, Version};

/// `SUBSCRIBE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// The packet identifier.
    pub packet_id: PacketId,
    /// The properties.
    pub properties: Properties<'a>,
    /// The requested subscriptions.
    pub subscriptions: Subscriptions<'a>,
}

impl<'a> Subscribe<'a> {
    pub(super) fn read(from: &mut Reader<'a>, version: Version) -> Result<Self, Violation> {
        let (packet_id, properties) = read_start(PacketType::Subscribe, Side::Server, from, version)?;
        let subscriptions = Subscriptions::read(from, version)?;
        Ok(Self { packet_id, properties, subscriptions })
    }

    pub(super) fn write(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write_start(PacketType::Subscribe, self.packet_id, &self.properties, version, out)?;
        self.subscriptions.write(version, out);
        Ok(())
    }
}

/// `UNSUBSCRIBE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// The packet identifier.
    pub packet_id: PacketId,
    /// The properties.
    pub properties: Properties<'a>,
    /// The topic filters of the subscriptions.
    pub filters: TopicFilters<'a>,
}

impl<'a> Unsubscribe<'a> {
    pub(super) fn read(from: &mut Reader<'a>, version: Version) -> Result<Self, Violation> {
        let (packet_id, properties) = read_start(PacketType::Unsubscribe, Side::Server, from, version)?;
        let filters = TopicFilters::read(from)?;
        Ok(Self { packet_id, properties, filters })
    }

    pub(super) fn write(&self, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        write_start(PacketType::Unsubscribe, self.packet_id, &self.properties, version, out)?;
        self.filters.write(out);
        Ok(())
    }
}
