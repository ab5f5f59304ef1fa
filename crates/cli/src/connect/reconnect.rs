//! Delays and attempts of reconnecting in an interactive session.

use std::time::Duration;

use tidings_client::Server;
use tidings_client::stream::{Incoming, Outgoing};
use tokio::time::sleep;

use super::begin;

/// The shortest delay without a request of the server; up to as much again is added at random.
const DELAY: Duration = Duration::from_millis(500);
/// The longest delay between two attempts, and the longest that a server may request.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// The delay before the next attempt, after the server closed a connection with this last line. `None` when the server
/// forbids reconnecting: an error outside of 3000–3499, the codes that require clients to reconnect.
pub(super) fn delay(last_line: &[u8]) -> Option<Duration> {
    let random = || DELAY + DELAY.mul_f64(fastrand::f64());
    let Some(error) = last_line.strip_prefix(b"ERROR ") else { return Some(random()) };
    let text = String::from_utf8_lossy(error);
    let code: u16 = text.split(' ').next()?.parse().ok()?;
    if !(3000..3500).contains(&code) {
        return None;
    }
    let (_, asked) = text.rsplit_once("reconnect in ").unwrap_or_default();
    let seconds = asked.strip_suffix(" s").and_then(|seconds| seconds.parse().ok());
    let asked = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Some(asked.map_or_else(random, |asked| asked.min(MAX_DELAY)))
}

/// Connects after `delay`, and retries with increasing delays until it succeeds.
pub(super) async fn reconnect(server: Server, mut delay: Duration) -> (Incoming, Outgoing) {
    loop {
        sleep(delay).await;
        if let Ok(connection) = begin(&server).await {
            return connection;
        }
        delay = (delay * 2).clamp(DELAY, MAX_DELAY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_s_last_line_determines_whether_and_when_to_reconnect() {
        assert_eq!(delay(b"ERROR 3001 shutdown, reconnect in 3.2 s"), Some(Duration::from_millis(3200)));
        assert_eq!(delay(b"ERROR 3001 shutdown, reconnect in 99999 s"), Some(MAX_DELAY));
        for line in [&b"ERROR 3001 shutdown"[..], b"ERROR 3001 shutdown, reconnect in -1 s", b"PONG", b""] {
            let wait = delay(line).expect("to reconnect");
            assert!((DELAY..=2 * DELAY).contains(&wait), "{wait:?}");
        }
        for line in
            [&b"ERROR 3500 invalid token"[..], b"ERROR 107 bad request", b"ERROR 111 connection limit: 5"]
        {
            assert_eq!(delay(line), None);
        }
    }
}
