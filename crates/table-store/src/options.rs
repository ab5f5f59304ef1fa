//! The options of the stores. Messages to users name them as the server's configuration does (`tables.store`,
//! `tables.max_total`, …).

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The configuration of a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The location of the store.
    pub location: StoreLocation,
    /// The most bytes of the files of all tables (`tables.max_total`).
    pub max_total: u64,
    /// The time after which an unused table is removed (`tables.keep`).
    pub keep: Duration,
}

/// The location of the store (`tables.store`).
#[derive(Clone, Debug)]
pub enum StoreLocation {
    /// A folder; `None`: a temporary one that is removed when the server stops.
    Folder(Option<PathBuf>),
    /// A bucket. A folder (`None`: a temporary one) holds this node's copies.
    Bucket {
        /// The bucket.
        bucket: BucketOptions,
        /// The folder of copies.
        copies: Option<PathBuf>,
    },
}

/// The bucket of tables (`tables.s3`). Empty values are taken from the variables of the AWS tools.
#[derive(Clone)]
pub struct BucketOptions {
    /// The bucket's name.
    pub name: String,
    /// The prefix of all keys, without slashes at its ends; may be empty.
    pub prefix: String,
    /// The URL of a store other than Amazon's.
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
    /// The timeout until a response begins, and the longest pause within it.
    pub timeout: Duration,
    /// Creates the TLS configuration; called with `false` for a store over plain HTTP.
    pub tls: fn(bool) -> io::Result<rustls::ClientConfig>,
}

impl fmt::Debug for BucketOptions {
    /// Omits the secret key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BucketOptions").field("url", &self.url()).finish_non_exhaustive()
    }
}

impl BucketOptions {
    /// The bucket in the form of `tables.store`: `s3://BUCKET/PREFIX`.
    pub(crate) fn url(&self) -> String {
        match &*self.prefix {
            "" => format!("s3://{}", self.name),
            prefix => format!("s3://{}/{prefix}", self.name),
        }
    }
}
