//! Phases 1 to 3: inputs, movement, and things that change by themselves.

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::ids::{ChunkId, EntityId};
use protocol::input::InputDatagram;
use protocol::message::server::Being;
use protocol::motion::{self, Body, Mode};
use protocol::state::{EntityState, flags};
use protocol::units::{Position, expand};
use worldgen::chunk::Chunk;

use super::Shard;
use super::batch::{Counts, StepOutput, Whereabouts};
use super::entities::Owner;

/// Ticks between two looks at the ground around one avatar.
const GROUND_TICKS: u64 = 8;

/// How near a neighbour's avatar is when ground is asked for it: five seconds at a run before it is
/// handed over at the earliest, an errand across the border aside.
const COMING_CM: i32 = 2_500;

/// Chunks of ground to each side of an avatar: 128 m, twelve seconds at a run.
const GROUND_CHUNKS: i32 = 2;

/// Ticks between two looks at ground to let go: 30 s at 20 Hz.
const FORGET_TICKS: u64 = 600;

/// Chunks below which none is let go: 21 KB each, 43 MB.
const GROUND_KEPT: usize = 2_048;

impl Shard {
    /// Takes in what a client sent for its avatar.
    pub(super) fn take_in(&mut self, avatar: EntityId, datagram: &InputDatagram) {
        // The avatar may have left in this very tick; that is no error.
        let Some(avatar) = self.avatars.get_mut(&avatar) else { return };
        let newest = expand(datagram.head.newest, avatar.inputs.newest());
        avatar.inputs.take_in(newest, datagram.inputs());
    }

    /// Moves every avatar by one input.
    pub(super) fn move_avatars(&mut self, counts: &mut Counts) {
        for avatar in self.avatars.values_mut() {
            let waiting = avatar.inputs.waiting();
            let input = avatar.inputs.take();
            if waiting > 0 {
                counts.inputs_applied += 1;
            } else if avatar.viewer.is_some() {
                counts.inputs_missed += 1;
            }
            avatar.body = motion::step(&avatar.body, input, &self.ground, &self.rules.motion);
            let Some(slot) = self.entities.slot(avatar.id) else { continue };
            let Some(entity) = self.entities.get_mut(slot) else { continue };
            entity.state = avatar.body.state();
            if avatar.viewer.is_none() {
                entity.state.flags |= flags::AWAY;
            }
        }
    }

    /// Puts an avatar somewhere else, on the ground if that is known.
    pub(super) fn place(&mut self, avatar: EntityId, position: Position) {
        let height = self.ground.heights.height_cm(position.x, position.z);
        let Some(avatar) = self.avatars.get_mut(&avatar) else { return };
        let y = height.map_or(position.y, |height| height.max(position.y));
        avatar.body = Body::standing(Position { y, ..position }, avatar.body.yaw);
    }

    /// Asks for the ground around avatars that is not there, each avatar's in its turn, and for that
    /// under their feet at once: also around those of neighbours, who are handed over with their
    /// next steps and must not stop for it.
    pub(super) fn want_ground(&mut self, output: &mut StepOutput) {
        let is_near = |at: Position| self.region.distance_cm(at) <= COMING_CM;
        let coming = self.entities.iter().filter(|(_, entity)| {
            entity.owner != Owner::Here
                && matches!(entity.about.being, Being::Avatar { .. })
                && is_near(entity.state.position)
        });
        let coming = coming.map(|(_, entity)| (entity.id, entity.state.position));
        let here = self.avatars.values().map(|avatar| (avatar.id, avatar.body.position()));
        for (id, at) in here.chain(coming) {
            let here = ChunkId::at(0, at.x, at.z);
            if !(self.tick.0 + id.0).is_multiple_of(GROUND_TICKS) {
                if !self.ground.heights.contains(here) {
                    output.wanted.push((self.region.index, here, 0));
                }
                continue;
            }
            for z in here.z - GROUND_CHUNKS..=here.z + GROUND_CHUNKS {
                for x in here.x - GROUND_CHUNKS..=here.x + GROUND_CHUNKS {
                    let chunk = ChunkId { level: 0, x, z };
                    if !self.ground.heights.contains(chunk) {
                        let far = x.abs_diff(here.x).max(z.abs_diff(here.z)) * 64;
                        output.wanted.push((self.region.index, chunk, far));
                    }
                }
            }
        }
    }

    /// Lets go of ground that nobody is near, when there is much of it.
    pub(super) fn forget_far_ground(&mut self) {
        if !self.tick.0.is_multiple_of(FORGET_TICKS) || self.ground.heights.len() < GROUND_KEPT {
            return;
        }
        let near: BTreeSet<(i32, i32)> = self
            .avatars
            .values()
            .flat_map(|avatar| {
                let at = avatar.body.position();
                let here = ChunkId::at(0, at.x, at.z);
                let span = -2 * GROUND_CHUNKS..=2 * GROUND_CHUNKS;
                span.clone().flat_map(move |z| span.clone().map(move |x| (here.x + x, here.z + z)))
            })
            .collect();
        self.ground.heights.retain(|chunk| near.contains(&(chunk.x, chunk.z)));
    }

    /// Lays ground, and lifts what would be under it.
    pub(super) fn lay_ground(&mut self, chunk: Arc<Chunk>) {
        if !self.ground.heights.insert(chunk) {
            return;
        }
        for avatar in self.avatars.values_mut() {
            let at = avatar.body.position();
            let Some(height) = self.ground.heights.height_cm(at.x, at.z) else { continue };
            if at.y < height && avatar.body.mode != Mode::Fly {
                avatar.body = Body::standing(Position { y: height, ..at }, avatar.body.yaw);
            }
        }
    }

    /// Brings what bodies run into in line with an entity, one of ours or a neighbour's ghost: who
    /// stands in the margin across the border is moved here and must not walk through what is there.
    pub(super) fn sync_pillar(&mut self, id: EntityId) {
        let pillar = self.entities.by_id(id).and_then(|entity| match entity.about.being {
            Being::Avatar { .. } => None,
            Being::Thing { kind, .. } => {
                let EntityState { position, flags, .. } = entity.state;
                self.rules.book.kind(kind)?.pillar(position, flags)
            }
        });
        if self.pillars_of.get(&id).copied() == pillar {
            return;
        }
        if let Some(before) = self.pillars_of.remove(&id) {
            self.ground.pillars.remove(before);
        }
        if let Some(pillar) = pillar {
            self.ground.pillars.insert(pillar);
            self.pillars_of.insert(id, pillar);
        }
    }

    /// Returns where every avatar is, by id.
    pub fn whereabouts(&self) -> impl Iterator<Item = Whereabouts> + '_ {
        self.avatars.values().map(|avatar| Whereabouts::of(avatar.id, avatar.person, &avatar.body))
    }
}
