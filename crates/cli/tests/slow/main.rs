//! Tests that take minutes, gigabytes or thousands of connections: `make test-slow`.

mod maps;
mod rebalance;
mod tables;

const TIDINGS: &str = env!("CARGO_BIN_EXE_tidings");
