//! Real dependencies for tests: a Redis of one's own, the program itself, clients, and faults on demand.
//!
//! Everything here is a guard: processes and files that it has started or made are gone after its drop, also when the
//! test panics. Nothing waits for a fixed time; every wait is for a condition with a deadline, and a deadline that
//! passes is a panic which names the condition. The crate depends on no other crate of the workspace, so that each of
//! them may use it.
//!
//! | guard | is |
//! |---|---|
//! | [`RedisServer`] | a real `redis-server` on a free port, to kill and restart |
//! | [`RedisCluster`] | several of them that form a cluster, with replicas to be promoted and slots to be moved |
//! | [`S3Server`] | a server that speaks S3, with a bucket |
//! | [`RespClient`] | a blocking client for it, and for the server's own RESP port |
//! | [`Tidings`] | the built program, with its addresses, its memory and its exit code |
//! | [`LineClient`] | a blocking client of the line port |
//! | [`HttpResponse`] | the response to an HTTP request; [`get_http`], [`post_http`] and [`send_http`] make one, [`metric`] reads `/metrics` |
//! | [`Proxy`] | a TCP link that can be cut, or go silent without a word |

use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

mod cluster;
mod http;
mod line;
mod proxy;
mod redis;
mod resp;
mod s3;
mod tidings;

pub use cluster::RedisCluster;
pub use http::{HttpResponse, connect_http, get_http, metric, parse_metric, post_http, send_http};
pub use line::LineClient;
pub use proxy::Proxy;
pub use redis::RedisServer;
pub use resp::{Reply, RespClient};
pub use rustix::process::Signal;
pub use s3::S3Server;
pub use tidings::{Builder, Tidings};

/// How long anything may take that ought to happen at once. Generous: it only costs time when a test fails, and
/// the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long to wait between two looks at a condition.
const GLANCE: Duration = Duration::from_millis(2);

/// A TCP port on the loopback address without a listener.
///
/// It is taken from below the range from which the kernel draws the ports of outgoing connections, so that none of
/// those takes it while a server on it is being restarted.
///
/// # Panics
/// When a thousand ports in a row are taken.
pub fn free_port() -> u16 {
    (0..1_000)
        .map(|_| fastrand::u16(10_000..32_000))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("a free port among a thousand")
}

/// Waits until `condition` holds, looking every few milliseconds.
///
/// # Panics
/// When it does not hold within `deadline`; the message names `what` was waited for.
pub fn wait_until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !condition() {
        assert!(Instant::now() < end, "not within {deadline:?}: {what}");
        std::thread::sleep(GLANCE);
    }
}
