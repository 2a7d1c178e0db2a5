//! The client's outside: connections, keys and files. With the feature `client` only.
//!
//! - [`client`]: the asynchronous client, [`client::Client`]; [`assets`]: sharing and fetching.
//! - [`connection`]: one QUIC connection to a server whose identity is checked.
//! - [`tap`]: recording what is said.
//! - [`identity`]: a person's key; [`trust`]: whose servers are trusted; [`clock`]: the time.

pub mod assets;
pub mod client;
pub mod clock;
pub mod connection;
mod drive;
pub mod identity;
pub mod tap;
pub mod trust;

pub use assets::{AssetError, Assets, Fetched, Sharing};
pub use client::{Client, ClientEvent, ConnectError, ConnectOptions, GroundDecoder, View};
pub use identity::Identity;
pub use trust::ServerKey;

#[cfg(test)]
mod tests;
