//! Metrics of the shards, summed up over all shards.

use std::fmt;
use std::sync::atomic::AtomicU64;

use tidings_hub::Disconnects;
use tidings_shard::{CounterKey, Counters, Metrics};

use super::Shards;
use tidings_metrics::{BYTES, Collect, MetricWriter};

/// The counters of a shard for each value of a label.
type LabelledCounters<const N: usize> = [(&'static str, fn(&Metrics) -> &AtomicU64); N];

const DEFLATED: LabelledCounters<2> =
    [("before", |m| &m.deflated.plain), ("after", |m| &m.deflated.compressed)];

const DELTAS: LabelledCounters<2> = [("before", |m| &m.deltas.plain), ("after", |m| &m.deltas.compressed)];

const INFLATED: LabelledCounters<2> =
    [("before", |m| &m.inflated.compressed), ("after", |m| &m.inflated.plain)];

const RECOVERIES: LabelledCounters<2> =
    [("recovered", |m| &m.recovered), ("unrecovered", |m| &m.unrecovered)];

impl Collect for Shards {
    fn collect(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        self.write_connections(out)?;
        self.write_clients(out)?;
        self.write_mqtt(out)?;
        self.write_publications(out)?;
        self.write_waiting(out)
    }
}

impl Shards {
    /// The sums over all shards, by label value.
    fn sums<const N: usize>(&self, values: LabelledCounters<N>) -> impl Iterator<Item = (&'static str, u64)> {
        values.into_iter().map(|(label, which)| (label, self.sum(which)))
    }

    /// The sums of counters by key, each with its label.
    fn sums_by_key<K: CounterKey>(
        &self,
        counters: fn(&Metrics) -> &Counters<K>,
    ) -> impl Iterator<Item = (&'static str, u64)> {
        K::all().map(move |key| (key.label(), self.sum(|shard| &counters(shard)[key])))
    }

    /// Clients that the server has disconnected since the start, by the labels of [`Disconnects`].
    pub(crate) fn disconnects(&self) -> [u64; Disconnects::LABELS] {
        std::array::from_fn(|at| self.sum(|shard| &shard.disconnects[at]))
    }

    fn write_connections(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.gauges(
            "tidings_connections",
            "Connections of clients by transport",
            "transport",
            self.sums_by_key(|m| &m.connections),
        )?;
        out.gauges(
            "tidings_sessions",
            "Sessions by the dialect of their client",
            "dialect",
            self.sums_by_key(|m| &m.sessions),
        )?;
        out.counter(
            "tidings_connections_accepted",
            None,
            "Accepted connections, including those that were refused at once",
            self.sum(|m| &m.accepted),
        )?;
        out.counter(
            "tidings_connections_refused",
            None,
            "Connections refused because of a limit or because the server was stopping",
            self.sum(|m| &m.refused),
        )?;
        out.counter(
            "tidings_connections_cut",
            None,
            "Connections closed because their client read too slowly",
            self.sum(|m| &m.cut),
        )?;
        out.counters(
            "tidings_disconnects",
            "Disconnects of clients by the server, by code",
            "code",
            self.disconnects().into_iter().enumerate().map(|(at, count)| (Disconnects::label(at).0, count)),
        )?;
        out.gauge(
            "tidings_subscriptions",
            None,
            "Subscriptions of all connections",
            self.sum(|m| &m.subscriptions),
        )?;
        out.gauge(
            "tidings_shard_topics",
            None,
            "Channels and patterns with subscribers, counted once on each shard",
            self.sum(|m| &m.topics),
        )?;
        out.counter(
            "tidings_errors",
            None,
            "Commands and lines of clients that failed",
            self.sum(|m| &m.errors),
        )
    }

    fn write_mqtt(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.counters(
            "tidings_mqtt_packets_received",
            "Packets of MQTT clients by type",
            "type",
            self.sums_by_key(|m| &m.mqtt_received),
        )?;
        out.counters(
            "tidings_mqtt_packets_sent",
            "Packets to MQTT clients by type, without messages with QoS 0 that all subscribers share",
            "type",
            self.sums_by_key(|m| &m.mqtt_sent),
        )?;
        out.counters(
            "tidings_mqtt_messages_sent",
            "Messages to MQTT clients that were made for one client each, by QoS",
            "qos",
            self.sums_by_key(|m| &m.mqtt_messages),
        )
    }

    fn write_clients(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.counters(
            "tidings_recoveries",
            "Recoveries of subscribers, by whether all missed publications were available",
            "outcome",
            self.sums(RECOVERIES),
        )?;
        out.counter(
            "tidings_subscriptions_lost",
            None,
            "Subscriptions that ended because publications were lost or dropped",
            self.sum(|m| &m.lost),
        )?;
        out.counter(
            "tidings_expirations",
            None,
            "Connections and subscriptions that ended because they expired",
            self.sum(|m| &m.expired),
        )?;
        out.counter(
            "tidings_application_commands",
            None,
            "Commands of the application that were applied to sessions",
            self.sum(|m| &m.session_commands),
        )?;
        out.counter(
            "tidings_clients_moved",
            None,
            "Clients that were disconnected to reconnect to another node because the broker was unavailable for longer than client.broker_down_delay",
            self.sum(|m| &m.moved),
        )
    }

    fn write_publications(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.counter(
            "tidings_publications_received",
            None,
            "Publications of clients",
            self.sum(|m| &m.published),
        )?;
        out.counter(
            "tidings_deliveries",
            None,
            "Publications for subscribers, counted once for each: written, queued, or dropped because a queue was full",
            self.sum(|m| &m.deliveries),
        )?;
        out.counters(
            "tidings_deliveries_dropped",
            "Publications that a subscriber missed because its queue or its shard's mailbox was full, by policy",
            "policy",
            self.sums_by_key(|m| &m.dropped),
        )?;
        out.counter(
            "tidings_deliveries_filtered",
            None,
            "Publications that a subscriber did not get because of its filter by tags, counted once for each subscriber",
            self.sum(|m| &m.filtered),
        )?;
        out.counter(
            "tidings_mailbox_overruns",
            None,
            "Publications that a shard's subscribers missed because its mailbox was full",
            self.sum(|m| &m.overrun),
        )?;
        out.gauge(
            "tidings_reads_reserved",
            BYTES,
            "Bytes reserved for histories, presence and lists of channels that are being read for clients",
            self.sum(|m| &m.reads_reserved),
        )?;
        out.gauge(
            "tidings_reads_waiting",
            None,
            "Reads for clients that wait for memory",
            self.sum(|m| &m.reads_waiting),
        )?;
        out.counter(
            "tidings_reads_refused",
            None,
            "Reads for clients that got a temporary error because no memory was free",
            self.sum(|m| &m.reads_refused),
        )?;
        out.counter(
            "tidings_reads_dropped",
            None,
            "Reads for clients that were dropped because their session had ended",
            self.sum(|m| &m.reads_dropped),
        )?;
        out.counter("tidings_received", BYTES, "Bytes received from clients", self.sum(|m| &m.bytes_in))?;
        out.counter("tidings_sent", BYTES, "Bytes sent to clients", self.sum(|m| &m.bytes_out))?;
        out.counters(
            "tidings_websocket_deflated_bytes",
            "Bytes of publications before and after compression, counted once on a shard for all its subscribers",
            "side",
            self.sums(DEFLATED),
        )?;
        out.counters(
            "tidings_delta_bytes",
            "Bytes of publications for subscribers with deltas, before and after deltas, counted once for each subscriber",
            "side",
            self.sums(DELTAS),
        )?;
        out.counters(
            "tidings_websocket_inflated_bytes",
            "Bytes of compressed messages of clients before and after decompression",
            "side",
            self.sums(INFLATED),
        )?;
        let fan_outs =
            self.metrics().iter().map(|shard| shard.fan_outs.snapshot()).reduce(|mut all, shard| {
                all.merge(&shard);
                all
            });
        fan_outs.map_or(Ok(()), |fan_outs| {
            out.histogram(
                "tidings_fanout_duration",
                "Time that a shard took to write the waiting publications of a channel to all of its subscribers",
                &fan_outs,
            )
        })
    }

    fn write_waiting(&self, out: &mut MetricWriter<'_>) -> fmt::Result {
        out.gauge(
            "tidings_queue",
            BYTES,
            "Bytes in the queues of connections that read more slowly than data arrives",
            self.sum(|m| &m.queued),
        )?;
        out.gauge(
            "tidings_connections_stalled",
            None,
            "Connections with bytes in their queue",
            self.sum(|m| &m.stalled),
        )?;
        out.gauge(
            "tidings_input",
            BYTES,
            "Bytes of incomplete commands of clients, and of commands that wait for earlier ones",
            self.sum(|m| &m.input_bytes),
        )?;
        let waiting = self.waiting_bytes();
        out.gauge("tidings_mailbox", BYTES, "Bytes of publications that wait for shards", waiting)
    }
}
