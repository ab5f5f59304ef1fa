#![no_main]

#[path = "../src/fossil.rs"]
mod fossil;

libfuzzer_sys::fuzz_target!(|data: &[u8]| fossil::deltas(data));
