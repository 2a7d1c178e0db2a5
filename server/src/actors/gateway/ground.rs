//! Ground: asked of the generator for shards and for clients, laid and sent as it comes.

use std::collections::BTreeSet;

use protocol::ids::ChunkId;
use protocol::message::ServerMessage;
use protocol::message::server::Chunk;
use tracing::debug;
use worldgen::actors::generator::{Cancel, CancelAll, ChunkReady, NeedChunk};
use worldgen::demand::Requester;

use super::GatewayActor;
use crate::region::RegionIndex;
use crate::shard::batch::Command;
use crate::shard::viewer::ClientKey;

/// Who asks on behalf of shards; clients' keys begin at 1.
const SHARDS: Requester = Requester(0);

/// Which ground shards wait for.
#[derive(Debug, Default)]
pub struct Laid {
    asked: BTreeSet<(ChunkId, RegionIndex)>,
}

impl GatewayActor {
    /// Asks for the ground that shards want under their avatars.
    pub(super) fn want_ground(&mut self, wanted: &mut Vec<(RegionIndex, ChunkId, u32)>) {
        for (region, chunk, distance_m) in wanted.drain(..) {
            self.ground.asked.insert((chunk, region));
            let need = NeedChunk { chunk, requester: SHARDS, distance_m };
            if self.outfit.generator.try_send(need).is_err() {
                debug!(%chunk, "the generator is busy; the shard asks again");
            }
        }
    }

    /// Asks for the ground that a client wants, and cancels what it wants no more.
    pub(super) fn ask_ground(&mut self, client: ClientKey, chunks: &[ChunkId]) {
        let Some(place) = self.clients.get_mut(&client) else { return };
        let requester = Requester(client.0);
        let wanted: BTreeSet<ChunkId> = chunks.iter().copied().collect();
        for &chunk in place.wanted.difference(&wanted) {
            // An answer that is already under way is harmless.
            self.outfit.generator.try_send(Cancel { chunk, requester }).unwrap_or_default();
        }
        for (rank, &chunk) in (0_u32..).zip(chunks) {
            if place.wanted.insert(chunk) {
                // The client's order is the order of need.
                let need = NeedChunk { chunk, requester, distance_m: rank * 32 };
                if self.outfit.generator.try_send(need).is_err() {
                    place.wanted.remove(&chunk);
                }
            }
        }
        place.wanted.retain(|chunk| wanted.contains(chunk));
    }

    /// Forgets what a client wanted.
    pub(super) fn forget_ground(&self, client: ClientKey) {
        let requester = Requester(client.0);
        if self.outfit.generator.try_send(CancelAll { requester }).is_err() {
            debug!("the generator is busy; it makes some ground in vain");
        }
    }

    /// Lays new ground under shards and sends it to the clients that want it.
    pub(super) fn lay(&mut self, ready: &ChunkReady) {
        let mut head = None;
        for &requester in &ready.wanted_by {
            if requester == SHARDS {
                self.lay_under_shards(ready);
                continue;
            }
            let client = ClientKey(requester.0);
            let Some(place) = self.clients.get_mut(&client) else { continue };
            if !place.wanted.remove(&ready.chunk) {
                continue;
            }
            let head = head.get_or_insert_with(|| chunk_head(ready)).clone();
            let bytes = std::sync::Arc::clone(&ready.bytes);
            place.line.send_chunk(head, bytes);
        }
    }

    fn lay_under_shards(&mut self, ready: &ChunkReady) {
        let asked: Vec<_> = self
            .ground
            .asked
            .range((ready.chunk, RegionIndex(0))..=(ready.chunk, RegionIndex(u16::MAX)))
            .copied()
            .collect();
        for (chunk, region) in asked {
            self.ground.asked.remove(&(chunk, region));
            let decoded = std::sync::Arc::clone(&ready.decoded);
            self.routes.push(region, Command::Ground(decoded));
        }
    }
}

fn chunk_head(ready: &ChunkReady) -> Vec<u8> {
    let length = u32::try_from(ready.bytes.len()).unwrap_or(u32::MAX);
    let head = Chunk { id: ready.chunk, hash: ready.hash, length };
    let mut bytes = Vec::new();
    ServerMessage::from(head).write(&mut bytes);
    bytes
}
