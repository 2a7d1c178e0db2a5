//! Ground: asked of the generator for shards and for clients, laid and sent as it comes.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use protocol::ids::ChunkId;
use protocol::message::ServerMessage;
use protocol::message::server::Chunk;
use tracing::debug;
use worldgen::actors::generator::{CancelAll, ChunkReady, NeedChunk};
use worldgen::chunk::is_in_world;
use worldgen::demand::Requester;

use super::GatewayActor;
use crate::region::RegionIndex;
use crate::shard::batch::Command;
use crate::shard::viewer::ClientKey;

/// Who asks on behalf of shards; clients' keys begin at 1.
const SHARDS: Requester = Requester(0);

/// Ticks between two times that a client's wishes are passed on: 250 ms at 20 Hz.
const ASK_TICKS: u64 = 5;

/// Wishes of one client passed on at a time.
const ASKED_MAX: usize = 64;

/// Chunks on their way to one client: 64 of 1.5 KB are a tenth of a second at 8 Mbit/s.
const SENDING_MAX: usize = 64;

/// The ground one client wants.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Which chunks, and how urgently: 0 is first.
    chunks: BTreeMap<ChunkId, u32>,
    /// How many are on their way.
    sending: Rc<Cell<usize>>,
}

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

    /// Forgets what regions wanted that are no more: those that have their places ask themselves.
    pub(super) fn forget_asked(&mut self, gone: &[RegionIndex]) {
        self.ground.asked.retain(|(_, region)| !gone.contains(region));
    }

    /// Takes note of the ground that a client wants, most urgent first, instead of all before.
    pub(super) fn ask_ground(&mut self, client: ClientKey, chunks: &[ChunkId]) {
        self.forget_ground(client);
        let Some(place) = self.clients.get_mut(&client) else { return };
        let known = (0..).zip(chunks.iter().copied()).filter(|&(_, chunk)| is_in_world(chunk));
        place.wanted.chunks = known.map(|(rank, chunk)| (chunk, rank)).collect();
        self.ask_for(client);
    }

    /// Asks again for what clients still want, each client's in its turn.
    pub(super) fn ask_again(&mut self) {
        let turn = self.now().0;
        let waiting = self.clients.iter().filter(|(client, place)| {
            (turn + client.0).is_multiple_of(ASK_TICKS) && !place.wanted.chunks.is_empty()
        });
        let clients: Vec<ClientKey> = waiting.map(|(&client, _)| client).collect();
        for client in clients {
            self.ask_for(client);
        }
    }

    /// Asks for the most urgent ground of one client; what comes from memory comes at once.
    fn ask_for(&self, client: ClientKey) {
        let Some(place) = self.clients.get(&client) else { return };
        let requester = Requester(client.0);
        let mut urgent: Vec<(u32, ChunkId)> =
            place.wanted.chunks.iter().map(|(&chunk, &rank)| (rank, chunk)).collect();
        urgent.sort_unstable();
        for (rank, chunk) in urgent.into_iter().take(ASKED_MAX) {
            // The client's order is the order of need.
            let need = NeedChunk { chunk, requester, distance_m: rank * 32 };
            if self.outfit.generator.try_send(need).is_err() {
                debug!(%chunk, "the generator is busy; it is asked again");
                return;
            }
        }
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
            // What a slow client does not take yet stays wanted.
            if place.wanted.sending.get() >= SENDING_MAX
                || place.wanted.chunks.remove(&ready.chunk).is_none()
            {
                continue;
            }
            let head = head.get_or_insert_with(|| chunk_head(ready)).clone();
            let bytes = std::sync::Arc::clone(&ready.bytes);
            place.line.send_chunk(head, bytes, &place.wanted.sending);
        }
    }

    fn lay_under_shards(&mut self, ready: &ChunkReady) {
        let asked: Vec<_> = self
            .ground
            .asked
            .range((ready.chunk, RegionIndex(0))..=(ready.chunk, RegionIndex(u32::MAX)))
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
