//! The host.
pub mod config;
pub mod io;
pub mod status;
pub mod store;
pub mod admission;
pub mod identity;
pub mod token;
