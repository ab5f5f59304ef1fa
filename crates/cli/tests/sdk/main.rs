//! The unchanged SDKs of Centrifugo run common scenarios against the program. The scenarios are in
//! `tests/clients/centrifuge`; here servers are started for them, and their links are cut. Codes that no SDK causes are
//! caused by scripted clients.

mod application;
mod codes;
mod grpc;
mod javascript;
mod mqtt;
mod mqtt_exchanges;
mod mqtt_redis;
mod mqtt_restart;
mod mqtt_sessions;
mod mqtt_shared;
mod pusher;
mod python;
mod stomp;
mod test_servers;
