//! What stands under and around a body: support, slope and uprights.
//!
//! A [`Site`] is asked, it never moves anybody.

use super::pace::{SUB, length};
use crate::ground::{Ground, Pillar};

/// Half the width of a body, in cm.
pub const RADIUS_CM: i32 = 30;

/// How far past the rim of a low pillar a body still stands on it, in cm: half its own radius.
const RIM_CM: i32 = 15;

/// Half the length over which a slope is measured: that of a body, so that no pebble is a wall.
const PROBE: i64 = RADIUS_CM as i64 * SUB;

/// Pillars looked at in one step: a body's reach holds some tens even in a thicket.
const PILLARS_MAX: usize = 128;

/// Passes in which a body is moved out of the pillars it touches: two settle a corner.
const PASSES: usize = 3;

/// Bound of ground heights (40,000 km), so that no sum of them overflows.
const HEIGHT_MAX: i64 = 1 << 40;

/// The steepest slope told apart, in thousandths: a wall, with room to square it.
const SLOPE_MAX: i64 = 1_000_000;

/// A slope along east and south, in thousandths.
pub type Slope = (i64, i64);

/// A pillar in 1/256 cm.
struct Upright {
    x: i64,
    z: i64,
    radius: i64,
    top: i64,
}

impl From<&Pillar> for Upright {
    fn from(pillar: &Pillar) -> Self {
        Self {
            x: i64::from(pillar.x) * SUB,
            z: i64::from(pillar.z) * SUB,
            radius: i64::from(pillar.radius.clamp(0, 10_000)) * SUB,
            top: i64::from(pillar.top) * SUB,
        }
    }
}

/// A place that keeps clear of pillars, and the directions away from those it touched.
pub struct Clear {
    pub x: i64,
    pub z: i64,
    /// The last touched pillar's outward direction and its length.
    pub away: Option<(i64, i64, i64)>,
}

/// The ground and the pillars within reach of one step.
pub struct Site<'a, G: ?Sized> {
    pub ground: &'a G,
    pub pillars: &'a [Pillar],
    /// The highest ledge that is no obstacle.
    pub step: i64,
}

impl<G: Ground + ?Sized> Site<'_, G> {
    /// Returns the height that carries a body whose feet are at `feet`; nothing where the
    /// ground is unknown.
    pub fn floor(&self, x: i64, z: i64, feet: i64) -> Option<i64> {
        let mut floor = self.terrain(x, z)?;
        for pillar in self.uprights().filter(|pillar| pillar.top <= feet + self.step) {
            let reach = pillar.radius + i64::from(RIM_CM) * SUB;
            if floor < pillar.top && within(x - pillar.x, z - pillar.z, reach) {
                floor = pillar.top;
            }
        }
        Some(floor)
    }

    /// Returns whether `floor` is the terrain itself rather than a pillar's top.
    pub fn is_terrain(&self, x: i64, z: i64, floor: i64) -> bool {
        self.pillars.is_empty() || self.terrain(x, z) == Some(floor)
    }

    /// Returns the slope of the terrain; unknown neighbours count as level.
    pub fn slope(&self, x: i64, z: i64) -> Slope {
        let rise = |low: Option<i64>, high: Option<i64>| match (low, high) {
            (Some(low), Some(high)) => {
                ((high - low) * 1_000 / (2 * PROBE)).clamp(-SLOPE_MAX, SLOPE_MAX)
            }
            _ => 0,
        };
        let east = rise(self.terrain(x - PROBE, z), self.terrain(x + PROBE, z));
        let south = rise(self.terrain(x, z - PROBE), self.terrain(x, z + PROBE));
        (east, south)
    }

    /// Returns the nearest place to (`x`, `z`) that touches no pillar; nothing if a few pushes
    /// find none.
    pub fn clear(&self, x: i64, z: i64, feet: i64) -> Option<Clear> {
        let mut place = Clear { x, z, away: None };
        if self.pillars.is_empty() {
            return Some(place);
        }
        for _ in 0..PASSES {
            let Some(pillar) = self.touched(place.x, place.z, feet) else { return Some(place) };
            let (mut x, mut z) = (place.x - pillar.x, place.z - pillar.z);
            if x == 0 && z == 0 {
                (x, z) = (1, 0);
            }
            // A little outside, so that rounding does not leave it touching.
            let reach = pillar.radius + i64::from(RADIUS_CM) * SUB + 2;
            let apart = length(x, z).max(1);
            place.x = pillar.x + x * reach / apart;
            place.z = pillar.z + z * reach / apart;
            place.away = Some((x, z, apart));
        }
        self.touched(place.x, place.z, feet).is_none().then_some(place)
    }

    /// Returns whether a body at (`x`, `z`) stands in a pillar.
    pub fn is_blocked(&self, x: i64, z: i64, feet: i64) -> bool {
        self.touched(x, z, feet).is_some()
    }

    fn touched(&self, x: i64, z: i64, feet: i64) -> Option<Upright> {
        self.uprights().find(|pillar| {
            let reach = pillar.radius + i64::from(RADIUS_CM) * SUB;
            feet + self.step < pillar.top && within(x - pillar.x, z - pillar.z, reach - 1)
        })
    }

    fn uprights(&self) -> impl Iterator<Item = Upright> {
        self.pillars.iter().take(PILLARS_MAX).map(Upright::from)
    }

    fn terrain(&self, x: i64, z: i64) -> Option<i64> {
        self.ground.height(x, z).map(|height| height.clamp(-HEIGHT_MAX, HEIGHT_MAX))
    }
}

fn within(x: i64, z: i64, reach: i64) -> bool {
    x.abs() <= reach && z.abs() <= reach && x * x + z * z <= reach * reach
}
