//! What may never happen, looked for after every tick and when all is at rest.

use std::collections::BTreeMap;

use protocol::replica::Correction;
use protocol::units::Tick;
use server::hosting::Place;

use super::super::eyes::Sights;
use super::super::host::{self, Host};
use super::super::truth::{Check, Seat};
use super::super::walker::{Stage, Walker};
use super::{TICK_US, World};

/// Ticks after a disturbance in which a client's prediction may be set right.
const STEADY_TICKS: u64 = 60;

/// How long a client may go by an old pace of the world after it changed.
const PACE_TOLD_US: u64 = 1_500_000;

/// How long an input that came too late may show.
const REPEATED_US: u64 = 500_000;

impl World {
    /// Checks that a prediction that nothing disturbs needs no correction.
    pub(super) fn check_correction(
        &mut self,
        index: usize,
        tick: Tick,
        correction: Option<Correction>,
    ) -> Check {
        let now_us = self.queue.now_us();
        let (Some(correction), Some(host)) = (correction, &self.host) else { return Ok(()) };
        let walker = &self.walkers[index];
        let Some(seat) = walker.avatar.and_then(|own| host.truth.at(tick, own)) else {
            return Ok(());
        };
        let steady_us = STEADY_TICKS * TICK_US;
        let is_steady = self.qualities[index].is_even()
            && self.disturbed_us[index] + steady_us < now_us
            && self.repeated_us[index] + REPEATED_US < now_us
            && self.slow_us + steady_us < now_us
            && host.truth.is_calm(seat.region, tick, STEADY_TICKS);
        if !is_steady {
            return Ok(());
        }
        self.figures.predictions += 1;
        if correction.cm == 0.0 {
            return Ok(());
        }
        Err(format!(
            "{} was set right by {:.1} cm at tick {} though nothing disturbed it",
            walker.name(),
            correction.cm,
            tick.0
        ))
    }

    /// Returns the longest that something is under way between a client and the server, in ticks.
    pub(super) fn way_ticks(&self, index: usize) -> u32 {
        let us = 2 * self.qualities[index].control_us_max();
        u32::try_from(us / TICK_US).unwrap_or(u32::MAX) + 1
    }

    pub(super) fn check_tick(&mut self) -> Check {
        let now_us = self.queue.now_us();
        let Some(host) = &self.host else { return Ok(()) };
        let tick = host.tick;
        host.truth.check_stacks(tick)?;
        for (avatar, region) in host.seats() {
            host.truth.check_owned(avatar, region, tick)?;
        }
        // What other processes did in this tick is known with the next.
        let tick = Tick(tick.0.saturating_sub(1));
        let sights = Sights::of(&host.truth, tick);
        for index in 0..self.walkers.len() {
            let way_ticks = self.way_ticks(index);
            let walker = &mut self.walkers[index];
            let seat = walker.avatar.and_then(|own| host.truth.at(tick, own));
            let is_undisturbed =
                walker.stage == Stage::In && self.disturbed_us[index] + 500_000 < now_us;
            let is_calm = |seat: &Seat| host.truth.is_calm(seat.region, tick, 20);
            let Some(seat) = seat.filter(|seat| is_undisturbed && is_calm(seat)) else {
                self.eyes[index].blink();
                walker.excuse();
                continue;
            };
            if self.disk_trouble_us + 1_000_000 < now_us {
                walker.wait(tick, way_ticks)?;
            } else {
                walker.excuse();
            }
            let known_us = walker.replica.as_ref().map(|replica| replica.clock().tick_us());
            let is_told = known_us.is_none_or(|known_us| known_us.abs_diff(self.pace_us.0) <= 1);
            if !is_told && host.is_pace_steady() && self.pace_us.1 + PACE_TOLD_US < now_us {
                return Err(format!(
                    "{} thinks that a tick takes {known_us:?} us, and it takes {}",
                    walker.name(),
                    self.pace_us.0
                ));
            }
            self.eyes[index].look(walker, seat.position, &sights, way_ticks)?;
        }
        Ok(())
    }

    /// Checks, when all has been at rest for a while, that everyone and everything agrees.
    pub(super) fn check_end(&mut self) -> Check {
        let Some(host) = &self.host else { return Err("the server did not come back".into()) };
        if !host.is_settled() {
            return Err("what was done does not come to rest on the disk".into());
        }
        host.truth.check_store(&host::stored_things(&host.store)?)?;
        for region in host.regions.indices() {
            if host.hosting.place(region) != Some(Place::Here) && self.processes.is_empty() {
                return Err(format!("region {} runs nowhere", region.0));
            }
        }
        for walker in &self.walkers {
            if walker.stage != Stage::In {
                return Err(format!("{} is not in the world", walker.name()));
            }
            if 0 < walker.unanswered() {
                return Err(format!("{} waits for an answer for ever", walker.name()));
            }
            self.check_picture(host, walker)?;
        }
        Ok(())
    }

    pub(super) fn check_picture(&self, host: &Host, walker: &Walker) -> Check {
        let (Some(own), Some(replica)) = (walker.avatar, &walker.replica) else {
            return Err(format!("{} sees nothing", walker.name()));
        };
        let known: BTreeMap<_, u32> =
            replica.log().holding.iter().map(|thing| (thing.id, thing.count)).collect();
        let held = host.truth.keeping.held_by(walker.person);
        if known != held {
            return Err(format!("{} thinks it holds {known:?}, and holds {held:?}", walker.name()));
        }
        let tick = Tick(host.tick.0.saturating_sub(1));
        let Some(here) = host.truth.at(tick, own) else {
            return Err(format!("{} is nowhere", walker.name()));
        };
        for entity in replica.entities() {
            let Some(seat) = host.truth.at(tick, entity.id) else { continue };
            if seat.position != entity.newest().1.position {
                return Err(format!(
                    "{} at {:?} sees {} at {:?}, and it stands at {:?}",
                    walker.name(),
                    here.position,
                    entity.id,
                    entity.newest().1.position,
                    seat.position
                ));
            }
        }
        Ok(())
    }
}
