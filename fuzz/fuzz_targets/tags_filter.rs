#![no_main]

#[path = "../src/tags_filter.rs"]
mod tags_filter;

libfuzzer_sys::fuzz_target!(|data: &[u8]| tags_filter::filters(data));
