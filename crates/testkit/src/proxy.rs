//! A TCP link with faults: it can be cut, or discard everything without a close.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// A proxy on its own port in front of a server.
///
/// Forwards until its state is changed. In the [`Self::black_hole`] state it keeps every connection open, accepts new
/// ones, and forwards nothing in either direction: to a socket it looks like a dead peer or a lost route.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    link: Arc<Link>,
    acceptor: Option<JoinHandle<()>>,
}

/// The shared state of a proxy's threads.
#[derive(Debug)]
struct Link {
    to: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    silent: bool,
    ended: bool,
    accepted: usize,
    /// Both ends of every connection, including closed ones.
    sockets: Vec<TcpStream>,
}

impl Link {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while the link is silent; `false` after the proxy was dropped.
    fn may_forward(&self) -> bool {
        let state = self.state();
        let state = self.changed.wait_while(state, |state| state.silent && !state.ended);
        !state.unwrap_or_else(PoisonError::into_inner).ended
    }

    fn change(&self, how: impl FnOnce(&mut State)) {
        how(&mut self.state());
        self.changed.notify_all();
    }
}

impl Proxy {
    /// Starts a proxy in front of `to` that forwards.
    ///
    /// # Panics
    /// When no port can be bound.
    pub fn to(to: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let link = Arc::new(Link { to, state: Mutex::default(), changed: Condvar::new() });
        let acceptor = std::thread::spawn({
            let link = Arc::clone(&link);
            move || accept(&listener, &link)
        });
        Self { addr, link, acceptor: Some(acceptor) }
    }

    /// The address of the proxy.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The port of the proxy.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// The number of accepted connections.
    pub fn accepted(&self) -> usize {
        self.link.state().accepted
    }

    /// Stops forwarding without closing any connection.
    pub fn black_hole(&self) {
        self.link.change(|state| state.silent = true);
    }

    /// Resumes forwarding, beginning with the buffered bytes.
    pub fn resume(&self) {
        self.link.change(|state| state.silent = false);
    }

    /// Closes every connection; new ones are accepted.
    pub fn cut(&self) {
        self.link.change(cut);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.link.change(|state| {
            state.ended = true;
            cut(state);
        });
        // Wakes the acceptor, which then ends.
        let _ = TcpStream::connect(self.addr);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn cut(state: &mut State) {
    for socket in state.sockets.drain(..) {
        // Fails if the socket is already closed.
        let _ = socket.shutdown(Shutdown::Both);
    }
}

fn accept(listener: &TcpListener, link: &Arc<Link>) {
    for client in listener.incoming() {
        if link.state().ended {
            return;
        }
        // If the server is not running, the connection is closed, as it would be without the proxy.
        let Ok(client) = client else { continue };
        let Ok(server) = TcpStream::connect(link.to) else { continue };
        let pair = [(&client, &server), (&server, &client)].map(|(from, to)| {
            let _ = from.set_nodelay(true);
            (from.try_clone().expect("a second handle"), to.try_clone().expect("a second handle"))
        });
        link.change(|state| {
            state.accepted += 1;
            state.sockets.extend([client, server]);
        });
        for (from, to) in pair {
            let link = Arc::clone(link);
            std::thread::spawn(move || forward(from, to, &link));
        }
    }
}

/// Copies one direction until either end closes.
fn forward(mut from: TcpStream, mut to: TcpStream, link: &Link) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from.read(&mut chunk) {
        if !link.may_forward() || to.write_all(&chunk[..n]).is_err() {
            break;
        }
    }
    // The end of this direction is forwarded as well, once the link forwards again.
    if link.may_forward() {
        let _ = to.shutdown(Shutdown::Write);
    }
}
