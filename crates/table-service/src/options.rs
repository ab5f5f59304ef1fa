//! The options of the service, as the server's configuration gives them. Their names in messages to users are those of the
//! configuration (`tables.max_size`, …).

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that an operator may choose about tables, except permissions and quotas, which [`crate::Access`] decides.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where tables are kept.
    pub store: StoreLocation,
    /// The largest file, in bytes as it is received (`tables.max_size`).
    pub max_size: u64,
    /// The most bytes of the files of all tables (`tables.max_total`).
    pub max_total: u64,
    /// How many times as large as it is received a compressed file may be, decompressed (`tables.max_unpack_ratio`).
    pub max_unpack_ratio: u64,
    /// The lowest rate of a transfer while other transfers wait, in bytes per second (`tables.min_data_rate`).
    pub min_data_rate: u64,
    /// The longest pause of an upload (`tables.upload_timeout`).
    pub upload_timeout: Duration,
    /// How long an unused table is kept (`tables.keep`).
    pub keep: Duration,
    /// Whether downloads of views disarm formulas (`tables.disarm_formulas`).
    pub disarm_formulas: bool,
    /// The time between two pings of a viewer (`client.ping_interval`).
    pub ping_interval: Duration,
    /// The longest time until the answer to a ping (`client.pong_timeout`).
    pub pong_timeout: Duration,
}

/// Where tables are kept (`tables.store`).
#[derive(Clone, Debug)]
pub enum StoreLocation {
    /// In a folder; `None`: in a temporary one that is removed with the server.
    Folder(Option<PathBuf>),
    /// In a bucket. A folder (`None`: a temporary one) holds this node's copies.
    Bucket {
        /// The bucket.
        bucket: BucketOptions,
        /// The folder of copies.
        copies: Option<PathBuf>,
    },
}

/// The bucket of tables (`tables.s3`). What is empty here comes from the variables of the AWS tools.
#[derive(Clone)]
pub struct BucketOptions {
    /// The bucket's name.
    pub name: String,
    /// The prefix of all keys, without slashes at its ends; may be empty.
    pub prefix: String,
    /// The address of a store that is not Amazon's.
    pub endpoint: Option<String>,
    /// The region; empty: from the environment.
    pub region: String,
    /// Whether plain HTTP is allowed.
    pub allow_http: bool,
    /// Whether the bucket's name is part of the host name.
    pub virtual_hosted_style: bool,
    /// The id of the key that signs requests; empty: from the environment or the machine's role.
    pub access_key_id: String,
    /// The key that signs requests.
    pub secret_access_key: String,
    /// The longest time until an answer begins, and the longest pause within it.
    pub timeout: Duration,
    /// Makes the TLS configuration; with `false` for a store that is reached over plain HTTP.
    pub tls: fn(bool) -> io::Result<rustls::ClientConfig>,
}

impl fmt::Debug for BucketOptions {
    /// Without the secret key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketOptions").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl BucketOptions {
    /// The bucket as `tables.store` names it: `s3://BUCKET/PREFIX`.
    pub(crate) fn url(&self) -> String {
        match &*self.prefix {
            "" => format!("s3://{}", self.name),
            prefix => format!("s3://{}/{prefix}", self.name),
        }
    }
}
