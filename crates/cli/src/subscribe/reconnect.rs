//! Connections of protocols that recover nothing: pings, and another connection after a loss.

use std::time::Duration;

use tidings_client::Backoff;
use tokio::time::{Instant, sleep};

use super::{FollowError, MAX_DELAY};
use crate::failure::print_notice;

/// Time without data from the server after which a ping is sent.
pub(super) const PING_AFTER: Duration = Duration::from_secs(15);
/// The timeout of a response to a subscription or a ping.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// After a connection of at least this duration, the first reconnect is immediate.
const STABLE_TIME: Duration = Duration::from_secs(10);

/// Calls `connection` until it ends without an error. It is called again after a loss, with a delay.
///
/// # Errors
/// An error that is permanent.
pub(super) async fn with_reconnects(
    mut connection: impl AsyncFnMut() -> Result<(), FollowError>,
) -> Result<(), FollowError> {
    let mut backoff = Backoff::new(MAX_DELAY);
    loop {
        let started = Instant::now();
        let error = match connection().await {
            Ok(()) => return Ok(()),
            Err(FollowError::Server(error)) if error.is_retryable() => error,
            Err(ended) => return Err(ended),
        };
        if started.elapsed() >= STABLE_TIME {
            backoff.reset();
        }
        let wait = backoff.wait();
        print_notice(format_args!("{error}; trying again in {:.2} s", wait.as_secs_f64()));
        sleep(wait).await;
    }
}
