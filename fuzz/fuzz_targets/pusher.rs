#![no_main]

#[path = "../src/pusher.rs"]
mod pusher;

libfuzzer_sys::fuzz_target!(|data: &[u8]| pusher::messages(data));
