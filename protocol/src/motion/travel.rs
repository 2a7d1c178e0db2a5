//! Moving over the ground: short substeps that slide along what they must not enter.
//!
//! Heights of jumping, swimming and flying bodies are the business of the modes.

use super::pace::{Pace, SUB, length};
use super::site::{RADIUS_CM, Site, Slope};
use crate::ground::Ground;

/// The longest substep: a body's radius, so that not even a thread is stepped over.
const SUBSTEP: i64 = RADIUS_CM as i64 * SUB;

/// Substeps of one step: the greatest speed at the slowest tick goes 17 radii.
const SUBSTEPS_MAX: i64 = 17;

/// Tries per substep: straight on, then along the contour.
const TRIES: usize = 2;

/// A body under way.
#[derive(Clone, Copy, Debug)]
pub struct Journey {
    pub x: i64,
    pub z: i64,
    /// Height of the feet.
    pub feet: i64,
    /// What carries it, or would.
    pub floor: i64,
    /// Slope of the terrain below.
    pub slope: Slope,
    pub velocity: (i64, i64),
    /// Whether the feet follow the floor.
    pub grounded: bool,
    /// How far the floor may fall away in a substep before the feet leave it.
    pub snap: i64,
}

/// Whether a slope is too steep to stand on.
pub fn is_steep(slope: Slope, pace: &Pace) -> bool {
    let square = slope.0.saturating_mul(slope.0).saturating_add(slope.1.saturating_mul(slope.1));
    pace.slope_permille * pace.slope_permille < square
}

impl Journey {
    /// Returns the body one step further at its velocity, as far as the way is free.
    pub fn advance<G: Ground + ?Sized>(mut self, site: &Site<'_, G>, pace: &Pace) -> Self {
        if self.velocity == (0, 0) {
            return self;
        }
        let (limit, (x, z)) = (SUBSTEP * pace.hz, self.velocity);
        // One substep, the usual case, needs no root.
        let is_short = x * x + z * z < limit * limit;
        let substeps = if is_short { 1 } else { (length(x, z) / limit + 1).min(SUBSTEPS_MAX) };
        for _ in 0..substeps {
            if !self.substep(site, pace, substeps * pace.hz) {
                self.velocity = (0, 0);
                break;
            }
        }
        self
    }

    /// Moves by one substep, the velocity's `part`th; returns whether the way was free.
    fn substep<G: Ground + ?Sized>(&mut self, site: &Site<'_, G>, pace: &Pace, part: i64) -> bool {
        (0..TRIES).any(|_| match self.try_move(site, pace, part) {
            Tried::Moved => true,
            Tried::Uphill(slope) => {
                self.turn_along_contour(slope);
                false
            }
            Tried::Blocked => false,
        })
    }

    fn try_move<G: Ground + ?Sized>(
        &mut self,
        site: &Site<'_, G>,
        pace: &Pace,
        part: i64,
    ) -> Tried {
        let x = (self.x + self.velocity.0 / part).clamp(-pace.edge, pace.edge);
        let z = (self.z + self.velocity.1 / part).clamp(-pace.edge, pace.edge);
        let Some(place) = site.clear(x, z, self.feet) else { return Tried::Blocked };
        let (x, z) = self.bounded_push(place.x, place.z, pace);
        let was_blocked = || site.is_blocked(self.x, self.z, self.feet);
        if place.away.is_some() && site.is_blocked(x, z, self.feet) && !was_blocked() {
            return Tried::Blocked;
        }
        let Some(floor) = site.floor(x, z, self.feet) else { return Tried::Blocked };
        let slope = site.slope(x, z);
        let rise = floor - self.feet;
        // Level ground, the usual case, needs no root.
        let run = if rise == 0 { 0 } else { length(x - self.x, z - self.z) };
        let ledge = (run * pace.slope_permille / 1_000).max(site.step);
        let is_terrain = site.is_terrain(x, z, floor);
        if 0 < rise && (ledge < rise || is_terrain && is_steep(slope, pace)) {
            return Tried::Uphill(slope);
        }
        if let Some(away) = place.away {
            self.turn_from(away);
        }
        if 0 < rise || self.grounded && -rise <= self.snap.max(2 * run) {
            self.feet = floor;
        } else {
            self.grounded &= rise == 0;
        }
        (self.x, self.z, self.floor) = (x, z, floor);
        self.slope = if is_terrain { slope } else { (0, 0) };
        Tried::Moved
    }

    /// Returns the place a push leads to: one that began inside a pillar is led out gently.
    fn bounded_push(&self, x: i64, z: i64, pace: &Pace) -> (i64, i64) {
        let (east, south) = super::pace::shorten((x - self.x, z - self.z), 3 * SUBSTEP);
        let bound = |place: i64| place.clamp(-pace.edge, pace.edge);
        (bound(self.x + east), bound(self.z + south))
    }

    /// Takes away the part of the velocity that leads up `slope`.
    fn turn_along_contour(&mut self, (east, south): Slope) {
        let square = east * east + south * south;
        let upward = self.velocity.0 * east + self.velocity.1 * south;
        if square == 0 || upward <= 0 {
            return;
        }
        // A hair more than the upward part, so that rounding leads down rather than up.
        self.velocity.0 -= upward * east / square + east.signum();
        self.velocity.1 -= upward * south / square + south.signum();
    }

    /// Takes away the part of the velocity that leads into a pillar.
    fn turn_from(&mut self, (x, z, apart): (i64, i64, i64)) {
        let outward = (self.velocity.0 * x + self.velocity.1 * z) / apart;
        if outward < 0 {
            self.velocity.0 -= outward * x / apart;
            self.velocity.1 -= outward * z / apart;
        }
    }
}

/// What came of a substep.
enum Tried {
    Moved,
    /// The way leads up too steeply here.
    Uphill(Slope),
    Blocked,
}
