//! The outside world: files, sockets, clocks. Everything here can fail and says so.

pub mod admin;
pub mod assets;
pub mod clock;
pub mod command;
pub mod files;
pub mod host;
pub mod http;
pub mod keys;
pub mod launch;
pub mod lobby;
pub mod operator;
pub mod png;
pub mod quic;
pub mod rng;
pub mod store;
pub mod telemetry;
pub mod tls;
