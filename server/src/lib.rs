//! The host.
pub mod status;
pub mod store;
