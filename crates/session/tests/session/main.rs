//! Sessions and the hub, without sockets.

mod client;
mod filters;
mod limits;
mod line_port_users;
mod maps;
mod moving;
mod mqtt;
mod no_local;
mod plain;
mod polls;
mod properties;
mod pusher;
mod reads;
mod reconfigure;
mod recovery;
mod resp;
mod rights;
mod stomp;
mod test_hub;
mod transactions;
mod transports;
mod users;
