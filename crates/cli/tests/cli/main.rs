//! The program from outside: every command as a process, against a real server.

mod bench;
mod connect;
mod publish;
mod reference;
mod serve;
mod subscribe;
mod terminal;
mod tool;
