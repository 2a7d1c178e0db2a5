//! Phases 5 and 6: ghosts for the neighbours, announcements, and the frames of the tick.

use protocol::delta::{FrameHead, OwnBody};
use protocol::ids::EntityId;
use protocol::units::Position;

use super::batch::{Letter, StepOutput};
use super::ghosts::GhostBatch;
use super::viewer::REFRESH_TICKS;
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
            if let Some(batch) =
                border.tell((self.region.index, self.tick), &self.entities, &self.sent_over)
            {
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

    /// Lets every viewer look around when its turn comes, a quarter of them each tick.
    pub(super) fn look_around(&mut self, output: &mut StepOutput) {
        for avatar in self.avatars.values_mut() {
            let Some(viewer) = &mut avatar.viewer else { continue };
            if !(self.tick.0 + viewer.client.0).is_multiple_of(REFRESH_TICKS) {
                continue;
            }
            let here: Position = avatar.body.position();
            let sight = (avatar.id, here, self.rules.view_cm);
            let announce =
                viewer.look_around(sight, self.tick, &self.grid, &self.entities, &mut self.scratch);
            if let Some(announce) = announce {
                let to = viewer.client;
                output.letters.push(Letter { to, message: announce.into(), after: None });
            }
        }
    }

    pub(super) fn write_frames(
        &mut self,
        pace_permille: u16,
        budget_bytes: usize,
        output: &mut StepOutput,
    ) {
        self.changes.note(self.tick, &self.entities);
        for avatar in self.avatars.values_mut() {
            let Some(viewer) = &mut avatar.viewer else { continue };
            let body = &avatar.body;
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
