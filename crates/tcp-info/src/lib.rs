//! The numbers that the kernel keeps about a TCP connection (tcp(7), `TCP_INFO`).
//!
//! The kernel counts the bytes of each connection anyway, so the server stores none for connections that are not looked
//! at: 16 bytes less for each of a million. No crate that is a dependency here offers this option of a socket without unsafe
//! code.
//!
//! Invariant: the unsafe code is one call of `getsockopt(2)` with a buffer and its size.

use std::os::fd::AsFd;

/// Numbers since the beginning of a connection. Bytes include HTTP heads and TLS records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// Received bytes.
    pub received: u64,
    /// Sent bytes that the peer has acknowledged.
    pub acknowledged: u64,
    /// Smoothed round-trip time in microseconds.
    pub rtt: u32,
}

/// The numbers of a connection; `None` for a socket that is not TCP, and on systems other than Linux.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "getsockopt has no safe wrapper for this option")]
pub fn tcp_info(socket: &impl AsFd) -> Option<TcpInfo> {
    use std::mem::MaybeUninit;
    use std::os::fd::AsRawFd as _;

    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    let socket = socket.as_fd();
    // SAFETY: the descriptor is open while it is borrowed. The kernel writes at most `length` bytes into the buffer, which
    // has that size, and `length` outlives the call.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if status != 0 {
        return None;
    }
    // SAFETY: all fields are integers, for which every pattern of bits is valid. Those that an older kernel does not write
    // are zero.
    let info = unsafe { info.assume_init() };
    Some(TcpInfo {
        received: info.tcpi_bytes_received,
        acknowledged: info.tcpi_bytes_acked,
        rtt: info.tcpi_rtt,
    })
}

/// The numbers of a connection; `None` for a socket that is not TCP, and on systems other than Linux.
#[cfg(not(target_os = "linux"))]
pub fn tcp_info(_: &impl AsFd) -> Option<TcpInfo> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn bytes_in_both_directions_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let mut client =
            TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (mut server, _) = listener.accept().expect("a connection");
        client.write_all(&[1; 1_000]).expect("a write");
        server.read_exact(&mut [0; 1_000]).expect("a read");
        server.write_all(&[1; 300]).expect("a write");
        client.read_exact(&mut [0; 300]).expect("a read");
        // An acknowledgement over loopback is processed before the peer can read.
        let info = tcp_info(&server).expect("numbers");
        assert_eq!((info.received, info.acknowledged), (1_000, 300));
        assert!(info.rtt > 0);
    }

    #[test]
    fn a_socket_of_another_kind_has_no_numbers() {
        let (one, _other) = UnixStream::pair().expect("a pair");
        assert_eq!(tcp_info(&one), None);
    }
}
