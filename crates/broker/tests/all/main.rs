//! Requirements on both brokers. The Redis broker runs against a real `redis-server` that is killed, disconnected and
//! stopped.

mod bounds;
mod cluster;
mod ending;
mod functions;
mod loss;
mod maps;
mod maps_model;
mod maps_redis;
mod memory;
mod node;
mod publishing;
mod receiving;
mod recovery;
mod refusing;
mod register;
mod retained;
mod secrets;
mod sentinel;
mod sessions_groups;
mod sessions_model;
mod sharing;
mod state;
mod throughput;
mod tls;
mod wills;
