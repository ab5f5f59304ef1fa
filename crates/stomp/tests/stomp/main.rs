//! Properties of the codec, and its fuzz target as an ordinary test.

mod fuzz_corpus;
mod properties;
