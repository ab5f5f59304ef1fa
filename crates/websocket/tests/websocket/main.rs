//! Frames and their compression against other implementations, and the fuzz target as an ordinary test.

mod deflate;
mod fuzz_corpus;
mod tungstenite;
