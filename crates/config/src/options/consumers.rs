//! Consumers: commands of backends from the tables of their databases and from streams of Redis. Names and meanings are those of Centrifugo's
//! documentation ("Built-in API command async consumers").

use std::time::Duration;

use tidings_auth::Secret;

use super::MINUTE;
use crate::group::group;
use crate::setting::{MaxLength, count, millis};
use crate::value::{ConsumerType, RedisKey, SqlName};

group! {
    /// A consumer, which runs commands of the server API that a backend leaves in a table or a stream.
    pub struct ConsumerOptions {
        /// Whether the consumer runs.
        enabled: bool = "false", ();
        /// What it reads. `postgresql`: a table of a PostgreSQL database. `redis_stream`: streams of a Redis.
        r#type: ConsumerType = "postgresql", ();
    }
    groups {
        /// A consumer of the type `postgresql`.
        postgresql: PostgresqlOptions;
        /// A consumer of the type `redis_stream`.
        redis_stream: RedisStreamOptions;
    }
}

group! {
    /// The table of a PostgreSQL database.
    pub struct PostgresqlOptions {
        /// Address of the database: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`. The parameter `sslmode` is `disable`,
        /// `prefer` or `require`; without it, connections to other machines use TLS if the database offers it. Certificates are
        /// verified with those of the system, or of the file in the environment variable `SSL_CERT_FILE`.
        dsn: Secret = "", ();
        /// Name of the table, which may have a schema: `public.outbox`.
        outbox_table_name: SqlName = "", ();
        /// Number of partitions. The rows of each partition run in order, those of different partitions at the same
        /// time. Each partition has a connection to the database.
        num_partitions: usize = "1", count(1, 64);
        /// Most rows that are read at a time.
        partition_select_limit: usize = "100", count(1, 10_000);
        /// Interval at which each partition is read when it has no rows.
        partition_poll_interval: Duration = "300ms", millis(10, MINUTE);
        /// Channel of `NOTIFY`, with the number of a partition as payload: new rows are read at once. Empty for none.
        partition_notification_channel: SqlName = "", ();
    }
}

group! {
    /// Streams of a Redis.
    pub struct RedisStreamOptions {
        /// Address of Redis, as in the option `broker`: `redis://`, `rediss://`, `redis+sentinel://`, `redis+cluster://` or
        /// `rediss+cluster://`. It may be another Redis than that of the broker. Empty for `redis://127.0.0.1:6379`.
        address: Secret = "", ();
        /// Keys of the streams. A stream that does not exist is created.
        streams: Vec<RedisKey> = "", ();
        /// Name of the consumer group of all nodes. A group that does not exist is created at the beginning of the stream.
        consumer_group: String = "", MaxLength(255);
        /// Time after which an entry that a node has read and not acknowledged is given to another one. At most 3 minutes, so that
        /// it is read again while the broker has the idempotency key of its publication, which it keeps for 5 minutes.
        visibility_timeout: Duration = "30s", millis(1000, 3 * MINUTE);
        /// Number of workers for each stream. Each of them has a connection to Redis, and runs one command at a time; with several
        /// workers or nodes the entries of a stream are not run in order.
        num_workers: usize = "1", count(1, 64);
        /// Field of an entry with the request in JSON, or with the data of a publication.
        payload_value: String = "payload", MaxLength(255);
        /// Field of an entry with the method of the server API. Without it, the payload is `{"method": …, "payload": …}`.
        method_value: String = "method", MaxLength(255);
    }
    groups {
        /// Entries that are publications: the payload is the data, and other fields have the channels and options.
        publication_data_mode: StreamPublicationOptions;
    }
}

group! {
    /// Entries of a stream that are publications.
    pub struct StreamPublicationOptions {
        /// Whether entries are publications.
        enabled: bool = "false", ();
        /// Field with the channels, separated by commas.
        channels_value: String = "centrifugo-channels", MaxLength(255);
        /// Field with the idempotency key.
        idempotency_key_value: String = "centrifugo-idempotency-key", MaxLength(255);
        /// Field with `true` for a publication that subscribers with deltas get as a delta.
        delta_value: String = "centrifugo-delta", MaxLength(255);
        /// Beginning of the names of fields with tags. Empty for no tags.
        tags_value_prefix: String = "centrifugo-tag-", MaxLength(255);
    }
}
