//! Notifications to systemd (sd_notify(3)): readiness, reloads, the stop, and the watchdog.
//!
//! Invariants: a notification never fails the server and never blocks it for longer than [`SEND_TIMEOUT`]; the watchdog
//! notification comes from a task of the server's runtime, so a runtime that no longer runs tasks sends none.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::{Variable, is_addressed_to, number};

/// Longest time that one notification may take: systemd reads its socket late when the machine is busy.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// The notification socket of the service manager, if there is one.
#[derive(Debug)]
pub struct Notifier {
    target: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// The socket in `NOTIFY_SOCKET`, and the watchdog interval for the process `pid`. A socket that cannot be used is
    /// logged as a warning.
    pub fn from_environment(variable: Variable<'_>, pid: u32) -> Self {
        let target = variable("NOTIFY_SOCKET").and_then(|name| match open(name.as_bytes()) {
            Ok(target) => Some(target),
            Err(error) => {
                warn!(%error, socket = %name.display(), "systemd cannot be notified");
                None
            }
        });
        // Without WATCHDOG_PID the interval is for every process of the service (sd_watchdog_enabled(3)).
        let is_own = variable("WATCHDOG_PID").is_none() || is_addressed_to(variable, "WATCHDOG_PID", pid);
        let watchdog = number(variable, "WATCHDOG_USEC").filter(|usec| *usec > 0 && is_own);
        Self { target, watchdog: watchdog.map(Duration::from_micros) }
    }

    /// The server is ready, after its start or after a reload. `status` is the line that `systemctl status` shows.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", status.replace('\n', " ")));
    }

    /// A reload begins; [`Self::ready`] ends it. The time is required for units of `Type=notify-reload`.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let usec = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// The stop begins and takes at most `limit`, for which systemd waits even if `TimeoutStopSec=` is shorter.
    pub fn stopping(&self, limit: Duration) {
        self.send(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", limit.as_micros()));
    }

    /// Sends the watchdog notification at half of the configured interval, for ever; without a watchdog it waits for ever.
    pub async fn run_watchdog(&self) {
        let Some(limit) = self.watchdog else { return std::future::pending().await };
        let mut ticks = interval(limit / 2);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.send("WATCHDOG=1");
        }
    }

    fn send(&self, state: &str) {
        let Some((socket, address)) = &self.target else { return };
        if let Err(error) = socket.send_to_addr(state.as_bytes(), address) {
            warn!(%error, state, "systemd cannot be notified");
        }
    }
}

/// Opens a socket for an address as `NOTIFY_SOCKET` has it: an absolute path, or `@` and an abstract name.
fn open(name: &[u8]) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name {
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn notifier(variables: &[(&str, OsString)]) -> Notifier {
        let variable = |name: &str| Some(variables.iter().find(|(known, _)| *known == name)?.1.clone());
        Notifier::from_environment(&variable, 7)
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).expect("a notification");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn states_reach_a_socket_with_a_path_and_one_with_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("tidings-test-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (socket, at) in [(by_path, path.into_os_string()), (by_name, format!("@{name}").into())] {
            let notifier = notifier(&[("NOTIFY_SOCKET", at)]);
            notifier.ready("tcp 127.0.0.1:1\nhttp 127.0.0.1:2");
            assert_eq!(received(&socket), "READY=1\nSTATUS=tcp 127.0.0.1:1 http 127.0.0.1:2");
            notifier.reloading();
            let reloading = received(&socket);
            let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("a time");
            assert!(usec.parse::<u64>().unwrap() > 0, "{reloading}");
            notifier.stopping(Duration::from_secs(10));
            assert_eq!(received(&socket), "STOPPING=1\nEXTEND_TIMEOUT_USEC=10000000");
        }
    }

    #[test]
    fn the_watchdog_is_for_this_process_only() {
        let watchdog = |pid: Option<&str>| {
            let mut variables = vec![("WATCHDOG_USEC", OsString::from("5000000"))];
            variables.extend(pid.map(|pid| ("WATCHDOG_PID", OsString::from(pid))));
            notifier(&variables).watchdog
        };
        assert_eq!(watchdog(None), Some(Duration::from_secs(5)));
        assert_eq!(watchdog(Some("7")), Some(Duration::from_secs(5)));
        assert_eq!(watchdog(Some("8")), None);
        assert_eq!(notifier(&[("WATCHDOG_USEC", "0".into())]).watchdog, None);
        assert_eq!(notifier(&[]).watchdog, None);
    }

    #[test]
    fn a_socket_that_is_gone_or_of_another_kind_stops_nothing() {
        for at in ["/nowhere/notify", "vsock:2:1", ""] {
            notifier(&[("NOTIFY_SOCKET", at.into())]).ready("");
        }
    }
}
