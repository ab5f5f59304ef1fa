//! Consumers: commands of backends from the tables of their databases. Names and meanings are those of Centrifugo's
//! documentation ("Built-in API command async consumers").

use std::time::Duration;

use tidings_auth::Secret;

use super::MINUTE;
use crate::group::group;
use crate::setting::{count, millis};
use crate::value::{ConsumerType, SqlName};

group! {
    /// A consumer, which runs commands of the server API that a backend leaves in a table.
    pub struct ConsumerOptions {
        /// Whether the consumer runs.
        enabled: bool = "false", ();
        /// What it reads. `postgresql`: a table of a PostgreSQL database.
        r#type: ConsumerType = "postgresql", ();
    }
    groups {
        /// A consumer of the type `postgresql`.
        postgresql: PostgresqlOptions;
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
