//! Fetching a key set, bounded in bytes and in time.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue};
use http::{Request, Uri};
use http_body_util::Full;

use tidings_outbound::{Outbound, OutboundError, TlsError};

/// Longest time of a fetch, from the name resolution to the last byte.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest body, in bytes. A set of twenty RSA keys with their certificates takes some 60 KiB.
const MAX_BODY: usize = 256 << 10;

/// The URL of a set. Displays without its query, which may contain a secret.
pub(super) struct Endpoint {
    uri: Uri,
    outbound: Outbound,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        tidings_outbound::write_address(&self.uri, f)
    }
}

impl Endpoint {
    /// Prepares to fetch from `uri`, the value of the option `option`.
    ///
    /// # Errors
    /// [`TlsError`] for an `https` address when TLS cannot be set up.
    pub(super) fn new(uri: &Uri, option: &str) -> Result<Self, TlsError> {
        // The time between fetches is longer than a connection would be kept.
        let outbound = Outbound::new(uri, option, Duration::ZERO)?;
        Ok(Self { uri: uri.clone(), outbound })
    }

    /// The body of a 200.
    ///
    /// # Errors
    /// [`OutboundError`], at the latest after [`TIMEOUT`].
    pub(super) async fn get(&self) -> Result<Bytes, OutboundError> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = self.uri.clone();
        let accepted = HeaderValue::from_static("application/jwk-set+json, application/json");
        request.headers_mut().insert(ACCEPT, accepted);
        self.outbound.send(request, TIMEOUT, MAX_BODY).await
    }
}
