//! The binary among real parts: official clients, real servers, readers and Prometheus. One slow test binary.
//!
//! A part that is missing fails the test that needs it, with the command that installs it; nothing is skipped.

#[path = "../sources/mod.rs"]
mod sources;
#[path = "../support/mod.rs"]
mod support;

mod aggregate;
mod bad_disk;
mod bad_input;
mod bad_upstream;
mod brokers;
mod chaos;
mod check;
mod clients_http;
mod clients_wrap;
mod counting;
mod crash;
mod damage;
mod drain;
mod erasure;
mod first_sse;
mod harness;
mod history_files;
mod hostile_client;
mod hostile_upstream;
mod idle;
mod install;
mod kafka;
mod kafka_state;
mod metrics;
mod model;
mod observe;
mod policy;
mod protection;
mod readers;
mod reload;
mod reports;
mod results;
mod roles;
mod sdk_flows;
mod snapshot;
mod snippets;
mod soak;
mod two_wraps;
