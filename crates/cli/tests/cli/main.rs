//! The program from outside: every command as a process, against a real server.

mod bench;
mod connect;
mod publish;
mod reference;
mod resources;
mod serve;
mod subscribe;
mod terminal;
mod token;
mod tool;
