#![no_main]

#[path = "../src/table.rs"]
mod table;

libfuzzer_sys::fuzz_target!(|data: &[u8]| table::formats(data));
