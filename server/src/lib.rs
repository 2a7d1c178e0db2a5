//! The host: shards, sessions, QUIC, storage, admission, operations.
//!
//! It wires the other crates together and is the only one that opens sockets to players or the
//! store. Reading order:
//! - [`region`], [`shard`]: the world in regions, each stepped as a pure function.
//! - [`hosting`], [`link`]: shards in other processes; [`division`], [`balance`]: regions that
//!   are split and merged.
//! - [`switchboard`], [`requests`], [`post`], [`dilation`], [`session`], [`people`], [`places`],
//!   [`departures`], [`roll`], [`rows`]: the gateway's pure parts.
//! - [`admission`], [`token`], [`ticket`], [`identity`]: who may come in.
//! - [`config`], [`status`], [`directory`]: what operators set and see.
//! - [`assets`]: what people share, and for whom.
//! - [`wire`]: explains recorded sessions; [`recording`]: records a world's steps, and replays them.
//! - [`store`]: what is kept; [`actors`]: who routes; [`io`]: the outside world.

pub mod actors;
pub mod admission;
pub mod assets;
pub mod audit;
pub mod balance;
pub mod capabilities;
pub mod config;
pub mod departures;
pub mod dilation;
pub mod directory;
pub mod division;
pub mod guests;
pub mod hosting;
pub mod identity;
pub mod io;
pub mod link;
pub mod people;
pub mod places;
pub mod post;
pub mod recording;
pub mod region;
pub mod requests;
pub mod roll;
pub mod rows;
pub mod session;
pub mod shard;
pub mod status;
pub mod store;
pub mod switchboard;
pub mod ticket;
pub mod token;
pub mod wire;

/// The id of no world: a server that hosts none lets nobody in.
pub const NO_WORLD: protocol::ids::WorldId = protocol::ids::WorldId(0);
pub mod admin;
pub mod cli;
pub mod world;
