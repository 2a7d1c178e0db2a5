//! The outside world: files, sockets, clocks. Everything here can fail and says so.

pub mod keys;
pub mod store;
pub mod clock;
pub mod rng;
pub mod telemetry;
pub mod host;
pub mod http;
pub mod files;
pub mod tls;
pub mod lobby;
pub mod quic;
pub mod admin;
pub mod launch;
pub mod operator;
pub mod png;
pub mod command;
