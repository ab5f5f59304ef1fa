//! Real dependencies for tests: a Redis server, the program itself, clients, and faults on demand.
//!
//! All types are guards: the processes and files that they have started or created are removed on drop, also when the
//! test panics. There are no fixed waits; every wait is for a condition with a deadline, and a passed deadline is a
//! panic with the name of the condition. The crate depends on no other crate of the workspace, so that each of them may
//! use it.
//!
//! | guard | purpose |
//! |---|---|
//! | [`RedisServer`] | a real `redis-server` on a free port, to kill and restart |
//! | [`RedisCluster`] | several of them that form a cluster, with replicas to be promoted and slots to be moved |
//! | [`PostgresServer`] | a PostgreSQL server with a database, to kill and restart |
//! | [`S3Server`] | an S3 server with a bucket |
//! | [`RespClient`] | a blocking client for it, and for the server's own RESP port |
//! | [`Tidings`] | the built program, with its addresses, its memory and its exit code |
//! | [`LineClient`] | a blocking client of the line port |
//! | [`HttpResponse`] | the response to an HTTP request; [`get_http`], [`post_http`] and [`send_http`] make one, [`metric`] reads `/metrics` |
//! | [`Proxy`] | a TCP link that can be cut, or stop forwarding without a close |

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

mod cluster;
mod http;
mod line;
mod postgres;
mod proxy;
mod redis;
mod resp;
mod s3;
mod tidings;

pub use cluster::RedisCluster;
pub use http::{HttpResponse, connect_http, get_http, metric, parse_metric, post_http, send_http};
pub use line::LineClient;
pub use postgres::PostgresServer;
pub use proxy::Proxy;
pub use redis::RedisServer;
pub use resp::{Reply, RespClient};
pub use rustix::process::Signal;
pub use s3::S3Server;
pub use tidings::{Builder, Tidings};

/// The deadline of operations that should complete at once. Generous: it only costs time when a test fails, and the
/// machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The interval of checks of a condition.
const GLANCE: Duration = Duration::from_millis(2);

/// The folder of a test tool that `make test-tools` has installed: below the folder that the environment variable
/// `TEST_TOOLS` names, or below `.test-tools` in the repository.
///
/// The variable does not begin with `TIDINGS_`: such names are options of the program, which refuses unknown ones.
///
/// # Panics
/// When the tool is not there.
#[must_use]
pub fn test_tool(name: &str) -> PathBuf {
    let tools = std::env::var_os("TEST_TOOLS").map(PathBuf::from);
    let tools = tools.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.test-tools"));
    let tool = tools.join(name);
    assert!(tool.exists(), "{} is missing: run `make test-tools` once", tool.display());
    tool
}

/// A TCP port on the loopback address without a listener.
///
/// It is below the range from which the kernel chooses the ports of outgoing connections, so that none of those takes
/// it while a server on it is restarted.
///
/// # Panics
/// When a thousand consecutive ports are in use.
pub fn free_port() -> u16 {
    (0..1_000)
        .map(|_| fastrand::u16(10_000..32_000))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("a free port among a thousand")
}

/// Waits until `condition` is true, and checks it every few milliseconds.
///
/// # Panics
/// When it is not true within `deadline`; the message contains `what`.
pub fn wait_until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !condition() {
        assert!(Instant::now() < end, "not within {deadline:?}: {what}");
        std::thread::sleep(GLANCE);
    }
}
