//! The outside world: files, sockets, clocks. Everything here can fail and says so.

pub mod admin;
pub mod assets;
pub mod audit;
pub mod batched;
pub mod clock;
pub mod command;
pub mod files;
pub mod forget;
pub mod host;
pub mod http;
pub mod keys;
pub mod launch;
pub mod link;
pub mod lobby;
pub mod operator;
pub mod png;
pub mod quic;
pub mod record;
pub mod recovery;
pub mod rng;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod transport;
pub mod worker;
