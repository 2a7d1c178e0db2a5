//! Phases 5 and 6: ghosts for the neighbours, announcements, and the frames of the tick.

use protocol::cache;
use protocol::delta::{FrameHead, OwnBody};
use protocol::ids::EntityId;
use protocol::input::InputDatagram;

use super::avatar::Avatar;
use super::batch::{Letter, StepOutput};
use super::ghosts::GhostBatch;
use super::viewer::{REFRESH_TICKS, Viewer};
use super::{MARGIN_CM, Shard};
use crate::region::RegionIndex;

impl Shard {
    pub(super) fn hear_ghosts(&mut self, batch: GhostBatch) {
        let from = batch.from;
        let entered = batch.entered.iter().map(|(id, ..)| *id);
        let moved = batch.moved.iter().map(|(id, _)| *id);
        let mut told: Vec<EntityId> =
            batch.left.iter().copied().chain(entered).chain(moved).collect();
        if batch.is_whole {
            told.extend(self.pillars_of.keys());
        }
        if let Some(border) = self.borders.iter_mut().find(|border| border.region.index == from) {
            border.hear(batch, self.tick, self.rules.motion.hz, &mut self.entities);
        }
        for id in told {
            self.sync_pillar(id);
        }
    }

    pub(super) fn tell_anew(&mut self, region: RegionIndex) {
        for border in self.borders.iter_mut().filter(|border| border.region.index == region) {
            border.forget();
        }
    }

    pub(super) fn show_ghosts(&mut self, output: &mut StepOutput) {
        for border in &mut self.borders {
            if let Some(batch) = border.tell((self.region.index, self.tick), &self.entities) {
                output.ghosts.push((border.region.index, batch));
            }
        }
    }

    pub(super) fn rebuild_grid(&mut self) {
        let band = self.rules.view_cm + 2 * MARGIN_CM;
        let square = (
            self.region.west.saturating_sub(band),
            self.region.north.saturating_sub(band),
            self.region.width.saturating_add(2 * band),
        );
        let places = self.entities.iter().map(|(slot, entity)| (slot, entity.state.position));
        self.grid.rebuild(square, places);
    }

    /// Serves one viewer after the other: takes in what has arrived of its frames, lets it look
    /// around when its turn comes, a quarter of them each tick, and writes its frame.
    ///
    /// A viewer's memory so comes to the cache once, and is asked for while those before have their
    /// turns.
    pub(super) fn serve_viewers(
        &mut self,
        inputs: &[(EntityId, InputDatagram)],
        (pace_permille, budget_bytes): (u16, usize),
        output: &mut StepOutput,
    ) {
        self.changes.note(self.tick, &self.entities);
        let mut heard: Vec<&(EntityId, InputDatagram)> = inputs.iter().collect();
        heard.sort_by_key(|(avatar, _)| *avatar);
        let mut heard = heard.into_iter().peekable();
        let mut avatars: Vec<&mut Avatar> = self.avatars.values_mut().collect();
        for index in 0..avatars.len() {
            // What points to the next thing must be there before that can be asked for.
            avatars.get(index + 6).into_iter().for_each(|avatar| cache::prefetch(&**avatar));
            let ahead = |turns: usize| avatars.get(index + turns)?.viewer.as_deref();
            ahead(4).into_iter().for_each(cache::prefetch::<Viewer>);
            ahead(2).into_iter().for_each(Viewer::prefetch);
            let avatar = &mut *avatars[index];
            while heard.next_if(|(heard, _)| *heard < avatar.id).is_some() {}
            let Some(viewer) = &mut avatar.viewer else { continue };
            while let Some((_, datagram)) = heard.next_if(|(heard, _)| *heard == avatar.id) {
                viewer.acknowledge(&datagram.head, datagram.lost());
            }
            let body = &avatar.body;
            if (self.tick.0 + viewer.client.0).is_multiple_of(REFRESH_TICKS) {
                let sight = (avatar.id, body.position(), self.rules.view_cm);
                let all = (&self.entities, &self.changes);
                let scratch = &mut self.scratch;
                let announce = viewer.look_around(sight, self.tick, &self.grid, all, scratch);
                if let Some(announce) = announce {
                    let to = viewer.client;
                    output.letters.push(Letter { to, message: announce.into(), after: None });
                }
            }
            let own = OwnBody {
                at: body.at,
                velocity: body.velocity,
                mode: body.mode as u8,
                cooldown: 0,
            };
            let head = FrameHead {
                tick: self.tick,
                acked_input: protocol::units::Tick(avatar.inputs.applied()).low(),
                own,
                is_dilated: pace_permille != 1_000,
                budget_bytes,
            };
            let shown = (&self.entities, &self.changes);
            let frame = viewer.frame(&head, shown, &mut self.scratch);
            output.frame_bytes.extend_from_slice(frame);
            output.frames.push((viewer.client, output.frame_bytes.len()));
        }
    }
}
