//! Tests of the program as a process: every command against a real server.

mod bench;
mod book;
mod cluster;
mod connect;
mod doctor;
mod encrypted;
mod examples;
mod library;
mod library_examples;
mod logs;
mod nginx;
mod nodes;
mod proxies;
mod publish;
mod reads;
mod rebalance;
mod recovery;
mod reference;
mod resources;
mod serve;
mod share;
mod subscribe;
mod terminal;
mod tls;
mod token;
mod tool;
