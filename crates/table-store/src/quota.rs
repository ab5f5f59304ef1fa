//! Limits of the uploads of one requester.

use std::sync::Arc;

/// The most concurrent uploads of all requesters together.
pub const MAX_UPLOADS: usize = 64;

/// The limits of one requester.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The requester: `user:ann`, `address:192.0.2.1`; empty for a requester without limits.
    pub key: Arc<str>,
    /// The most bytes of tables.
    pub bytes: u64,
    /// The option that sets [`Self::bytes`].
    pub bytes_option: &'static str,
    /// The most concurrent uploads.
    pub uploads: usize,
    /// The option that sets [`Self::uploads`].
    pub uploads_option: &'static str,
}

impl Quota {
    /// For backends, and for clients without a known address.
    pub fn unlimited() -> Self {
        Self {
            key: "".into(),
            bytes: u64::MAX,
            bytes_option: "tables.max_total",
            uploads: MAX_UPLOADS,
            uploads_option: "tables.user_upload_limit",
        }
    }
}
