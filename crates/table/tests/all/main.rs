//! Tests of the engine's public interface.

mod facts;
mod formats;
mod golden;
mod growing;
mod guess;
mod index;
mod kept;
mod packed;
mod pages;
mod reader;
mod reference;
mod support;
mod views;
