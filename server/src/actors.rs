//! The actors of a server: who tells whom what.
//!
//! | actor | in | out |
//! |---|---|---|
//! | [`gateway::GatewayActor`] | `Knock` (lobby), `Reacted` and `Gone` (session), `Stepped` and `PackedUp` (shard, link), `Join`, `Depart` and `LinkLost` (link), `ChunkReady` (generator), `Order` (operator) | `Step` and `Pack` (shard), `NeedChunk` (generator), `Mute` (session) |
//! | [`shard::ShardActor`] | `Step` and `Pack` (gateway) | `Stepped` and `PackedUp` (gateway) |
//! | [`remote::RemoteShardActor`] | `Step` and `Pack` (gateway) | frames (link), `LinkLost` (gateway) |
//! | [`uplink::Uplink`], in a process that runs shards | `Stepped` and `PackedUp` (shard) | frames (link) |
//! | [`session::SessionActor`] | `Said` and `Broke` (streams), `Mute` (gateway) | `Reacted` and `Gone` (gateway) |
//!
//! The generator is `worldgen`'s. Nobody looks up anybody: each is given its neighbours.

pub mod gateway;
pub mod remote;
pub mod session;
pub mod shard;
pub mod uplink;
