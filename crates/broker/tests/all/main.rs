//! The brokers keep their promises, the Redis one against a real `redis-server` that is killed, cut off and
//! silenced.

mod bounds;
mod cluster;
mod ending;
mod functions;
mod loss;
mod memory;
mod node;
mod publishing;
mod receiving;
mod recovery;
mod refusing;
mod register;
mod secrets;
mod sentinel;
mod sharing;
mod state;
mod throughput;
mod tls;
