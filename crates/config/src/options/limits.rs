//! Limits by address and by user.

use super::GIB;
use crate::group::group;
use crate::setting::{bytes, count};

group! {
    /// Limits of one address and of one user.
    pub struct LimitsOptions {}
    groups {
        /// Limits of one address on this server.
        address: AddressLimitsOptions;
        /// Limits of one user on this server.
        user: UserLimitsOptions;
    }
}

group! {
    /// Limits of one address on this server: an IPv4 address, or the first 64 bits of an IPv6 address. See
    /// `trusted_proxies` where clients come through a proxy. Clients over a Unix socket have no address.
    pub struct AddressLimitsOptions {
        /// Most client connections. A further one is closed with code 3013. 0 is no limit.
        connections: usize = "0", count(0, 10_000_000), reload;
        /// Most new client connections per second, with bursts of the same number. A further one is closed with code
        /// 3013. 0 is no limit.
        connection_rate: usize = "0", count(0, 10_000_000), reload;
        /// Most commands per second, over all connections and protocols of the address, with bursts of the same number.
        /// Every line, RESP command or message of the client protocol is a command, except `EXIT`, `QUIT` and replies
        /// to pings. A further one is answered with the temporary error 111. Backends that have sent the API key are
        /// not limited. 0 is no limit.
        commands: usize = "0", count(0, 10_000_000), reload;
        /// Most publications per second. A further one is answered with error 111. 0 is no limit.
        publications: usize = "0", count(0, 10_000_000), reload;
        /// Most bytes of commands per second. A command that is larger than the remaining budget is carried out, and
        /// the budget becomes negative; further commands are answered with error 111. 0 is no limit.
        bytes: usize = "0", bytes(0, 1024 * GIB), reload;
    }
}

group! {
    /// Limits of one user on this server, over all of its connections. Anonymous clients are limited by their address
    /// alone.
    pub struct UserLimitsOptions {
        /// Most connections. A further one is closed with code 3504, after which clients do not reconnect. 0 is no
        /// limit. With `client.user_connection_limit` the smaller one applies.
        connections: usize = "0", count(0, 10_000_000), reload;
        /// Most new connections per second, with bursts of the same number. A further one is closed with code 3013,
        /// after which clients reconnect later. 0 is no limit.
        connection_rate: usize = "0", count(0, 10_000_000), reload;
        /// Most commands per second, counted as for `limits.address.commands`. 0 is no limit.
        commands: usize = "0", count(0, 10_000_000), reload;
        /// Most publications per second. A further one is answered with error 111. 0 is no limit.
        publications: usize = "0", count(0, 10_000_000), reload;
        /// Most bytes of commands per second, counted as for `limits.address.bytes`. 0 is no limit.
        bytes: usize = "0", bytes(0, 1024 * GIB), reload;
    }
}
