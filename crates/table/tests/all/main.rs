//! What the engine promises, tested from outside.

mod facts;
mod golden;
mod growing;
mod guess;
mod index;
mod kept;
mod packed;
mod pages;
mod reader;
mod support;
mod views;
