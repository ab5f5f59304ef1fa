//! The ready-made SDKs of Centrifugo, unchanged, live their everyday life against the program. What they do is in
//! `tests/clients/centrifuge`, a scenario each; here servers are started for them, and their links are cut. What no SDK
//! provokes, clients do that are made for it: every code of the protocol.

mod codes;
mod javascript;
mod python;
mod stomp;
mod world;
