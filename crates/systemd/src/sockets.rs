//! Socket activation: listeners that systemd has bound and passes to the server (sd_listen_fds(3)).
//!
//! `FileDescriptorName=tcp` or `http` in the socket unit assigns a socket to the line port or to the HTTP port. Passed sockets
//! replace the configured addresses of their port (`tcp.listen`, `http.listen`), and are subject to the same checks.
//!
//! Invariant: every socket that systemd passes is used, or the start fails and names it: connections to a socket that no
//! server accepts would wait for ever.

use std::os::fd::AsFd;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;
use thiserror::Error;
use tidings_server::{PassedListener, PassedListeners};

use super::{Variable, is_addressed_to, number};

/// A passed socket that the server cannot use, and why.
#[derive(Debug, Error)]
#[error("socket activation: {0}")]
pub struct SocketError(String);

/// Takes the sockets that are passed to the process `pid`; none when `LISTEN_PID` is another process.
///
/// Removes `LISTEN_PID` and `LISTEN_FDS` from the environment, so it must run before any thread is started.
///
/// # Errors
/// A socket without a usable name, of a kind that the server cannot serve, or that does not listen.
pub fn take(variable: Variable<'_>, pid: u32) -> Result<PassedListeners, SocketError> {
    let mut passed = PassedListeners::default();
    if !is_addressed_to(variable, "LISTEN_PID", pid) || number(variable, "LISTEN_FDS").is_none() {
        return Ok(passed);
    }
    let names = variable("LISTEN_FDNAMES").unwrap_or_default().to_string_lossy().into_owned();
    let mut names = names.split(':');
    let mut sockets = ListenFd::from_env();
    for index in 0..sockets.len() {
        let name = names.next().unwrap_or_default();
        let port = match name {
            "tcp" => &mut passed.tcp,
            "http" => &mut passed.http,
            _ => {
                return Err(SocketError(format!(
                    "socket {index} is named '{name}'; its unit must have FileDescriptorName=tcp or \
                     FileDescriptorName=http"
                )));
            }
        };
        let listener = listener(&mut sockets, index)
            .map_err(|reason| SocketError(format!("socket {index} ('{name}') {reason}")))?;
        port.push(listener);
    }
    Ok(passed)
}

fn listener(sockets: &mut ListenFd, index: usize) -> Result<PassedListener, &'static str> {
    // A failed attempt leaves the socket in its place.
    if let Ok(Some(listener)) = sockets.take_tcp_listener(index) {
        return accepts(&listener).map(|()| PassedListener::Tcp(listener));
    }
    if let Ok(Some(listener)) = sockets.take_unix_listener(index) {
        return accepts(&listener).map(|()| PassedListener::Unix(listener));
    }
    Err("is neither a TCP nor a Unix stream socket: its unit must have ListenStream=")
}

fn accepts(socket: &impl AsFd) -> Result<(), &'static str> {
    match socket_acceptconn(socket) {
        Ok(true) => Ok(()),
        _ => Err("does not listen: its unit must not have Accept=yes"),
    }
}

/// The addresses of listeners, as an option for listeners has them.
///
/// # Errors
/// A socket without an address of its own, such as an abstract Unix socket.
pub fn addresses(listeners: &[PassedListener]) -> Result<Vec<String>, SocketError> {
    let address =
        |listener: &PassedListener| listener.address().map_err(|error| SocketError(error.to_string()));
    listeners.iter().map(address).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn sockets_of_another_process_are_left_alone() {
        let variable = |name: &str| match name {
            "LISTEN_PID" => Some("8".into()),
            "LISTEN_FDS" => Some("1".into()),
            _ => None,
        };
        assert!(take(&variable, 7).expect("no sockets").is_empty());
        assert!(take(&|_| None, 7).expect("no sockets").is_empty());
    }

    #[test]
    fn a_passed_listener_is_named_as_in_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a socket");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = tcp.local_addr().unwrap().to_string();
        let unix = UnixListener::bind(&path).unwrap();
        let found = addresses(&[PassedListener::Tcp(tcp), PassedListener::Unix(unix)]).expect("addresses");
        assert_eq!(found, [at, format!("unix:{}", path.display())]);
    }
}
