//! The simulator: whole worlds in one thread, with faults, from a seed.
//!
//! - [`queue`]: time. [`plan`]: what goes wrong when.
//! - [`scene`]: what the world is like. [`walker`], [`wish`]: its clients.
//! - [`host`]: the server's pure cores in the gateway's order. [`process`]: those that run shards.
//! - [`network`]: the ways between.
//! - [`truth`], [`keeping`], [`tally`]: what is so. [`eyes`]: what is seen.
//! - [`breaks`]: known bugs to find. [`figures`]: what is counted. [`world`]: all of it together.

pub mod breaks;
pub mod eyes;
pub mod figures;
pub mod host;
pub mod keeping;
pub mod network;
pub mod plan;
pub mod process;
pub mod queue;
pub mod scene;
pub mod tally;
pub mod truth;
pub mod walker;
pub mod wish;
pub mod world;
