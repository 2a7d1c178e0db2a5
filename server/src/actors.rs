//! The actors of a server: who tells whom what.
//!
//! | actor | in | out |
//! |---|---|---|
//! | [`gateway::GatewayActor`] | `Knock` (lobby), `Reacted` and `Gone` (session), `Stepped` (shard), `ChunkReady` (generator), `Order` (operator) | `Step` (shard), `NeedChunk` (generator), `Mute` (session) |
//! | [`shard::ShardActor`] | `Step` (gateway) | `Stepped` (gateway) |
//! | [`session::SessionActor`] | `Said` and `Broke` (streams), `Mute` (gateway) | `Reacted` and `Gone` (gateway) |
//!
//! The generator is `worldgen`'s. Nobody looks up anybody: each is given its neighbours.

pub mod gateway;
pub mod session;
pub mod shard;
