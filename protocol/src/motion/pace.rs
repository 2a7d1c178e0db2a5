//! How bodies move in one world: the numbers an operator sets, and their working form.
//!
//! [`MotionRules`] is what is configured and sent. A body never sees it raw: [`Pace`] holds the
//! same numbers in 1/256 cm, each within the range that keeps a step bounded.

use serde::{Deserialize, Serialize};

use crate::units::TICK_HZ_DEFAULT;

/// Parts of a centimetre that movement counts in.
pub const SUB: i64 = 256;

/// The fastest any rules let a body go, in cm/s: what [`EntityState`](crate::state::EntityState)
/// can show (8,188), less room for falling and pushing at once.
pub const SPEED_CM_S_MAX: u16 = 5_000;

/// The slowest tick movement is worked out for: below it a step would need too many substeps.
pub const HZ_MIN: u16 = 10;

/// The fastest tick movement is worked out for: above it a slow walk rounds to nothing.
pub const HZ_MAX: u16 = 240;

/// The steepest slope that can be walkable, rise per thousand of run (80 degrees).
pub const SLOPE_PERMILLE_MAX: u16 = 5_671;

/// Half the width of the widest world in cm (10,000 km): well inside a position's range.
pub const HALF_WIDTH_CM_MAX: i32 = 1_000_000_000;

/// How bodies move here. Both ends of a connection must use the same.
///
/// Any numbers are safe: those out of range act as the nearest in range.
#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(default, deny_unknown_fields)]
pub struct MotionRules {
    /// Steps per second, [`HZ_MIN`] to [`HZ_MAX`].
    pub hz: u16,
    /// Walking speed in cm/s.
    pub walk_cm_s: u16,
    /// Running speed in cm/s.
    pub run_cm_s: u16,
    /// Swimming speed in cm/s.
    pub swim_cm_s: u16,
    /// Flying speed in cm/s.
    pub fly_cm_s: u16,
    /// Upward speed of a jump in cm/s.
    pub jump_cm_s: u16,
    /// How fast a fall gets faster, in cm/s per second.
    pub gravity_cm_s2: u16,
    /// How fast a body on the ground changes its speed, in cm/s per second.
    pub acceleration_cm_s2: u16,
    /// The same in the air.
    pub air_acceleration_cm_s2: u16,
    /// The steepest slope that can be walked up, rise per thousand of run.
    pub slope_permille: u16,
    /// The highest ledge that is stepped onto without jumping, in cm.
    pub step_cm: u16,
    /// Height of the water's surface, in cm.
    pub sea_level_cm: i32,
    /// Whether bodies may fly.
    pub fly: bool,
    /// Half the world's width in cm: bodies stay within it east, west, north and south.
    pub half_width_cm: i32,
    /// The greatest height of a body above sea level, in cm.
    pub ceiling_cm: i32,
}

impl Default for MotionRules {
    fn default() -> Self {
        Self {
            hz: TICK_HZ_DEFAULT,
            walk_cm_s: 180,
            run_cm_s: 520,
            swim_cm_s: 160,
            fly_cm_s: 1_200,
            // With this gravity: 70 cm high, 0.6 s long; real gravity feels like the moon.
            jump_cm_s: 460,
            gravity_cm_s2: 1_500,
            // Full running speed in a fifth of a second.
            acceleration_cm_s2: 2_600,
            air_acceleration_cm_s2: 500,
            // 48 degrees.
            slope_permille: 1_110,
            step_cm: 40,
            sea_level_cm: 0,
            fly: false,
            half_width_cm: 10_000_000,
            ceiling_cm: 500_000,
        }
    }
}

/// [`MotionRules`] in 1/256 cm and seconds, every number in range.
#[derive(Clone, Debug)]
pub struct Pace {
    pub hz: i64,
    pub walk: i64,
    pub run: i64,
    pub swim: i64,
    pub fly: i64,
    pub jump: i64,
    /// Change of speed in one step.
    pub gravity: i64,
    pub acceleration: i64,
    pub air_acceleration: i64,
    pub slope_permille: i64,
    pub step: i64,
    pub sea: i64,
    pub may_fly: bool,
    pub edge: i64,
    pub ceiling: i64,
}

impl Pace {
    /// Returns the working form of `rules`.
    pub fn of(rules: &MotionRules) -> Self {
        let hz = i64::from(rules.hz.clamp(HZ_MIN, HZ_MAX));
        let speed = |cm_s: u16| i64::from(cm_s.min(SPEED_CM_S_MAX)) * SUB;
        let per_step = |cm_s2: u16| i64::from(cm_s2) * SUB / hz;
        let height = |cm: i32| i64::from(cm) * SUB;
        Self {
            hz,
            walk: speed(rules.walk_cm_s),
            run: speed(rules.run_cm_s),
            swim: speed(rules.swim_cm_s),
            fly: speed(rules.fly_cm_s),
            jump: speed(rules.jump_cm_s),
            gravity: per_step(rules.gravity_cm_s2),
            acceleration: per_step(rules.acceleration_cm_s2),
            air_acceleration: per_step(rules.air_acceleration_cm_s2),
            slope_permille: i64::from(rules.slope_permille.min(SLOPE_PERMILLE_MAX)),
            step: i64::from(rules.step_cm) * SUB,
            sea: height(rules.sea_level_cm),
            may_fly: rules.fly,
            edge: height(rules.half_width_cm.clamp(100, HALF_WIDTH_CM_MAX)),
            ceiling: height(rules.ceiling_cm),
        }
    }

    /// The greatest speed along the ground and along the vertical.
    pub const SPEED_MAX: i64 = SPEED_CM_S_MAX as i64 * SUB;
}

/// Returns the length of the ground vector (`x`, `z`).
pub fn length(x: i64, z: i64) -> i64 {
    let square = x.saturating_mul(x).saturating_add(z.saturating_mul(z));
    square.isqrt()
}

/// Returns (`x`, `z`) shortened to `limit` if it is longer.
pub fn shorten((x, z): (i64, i64), limit: i64) -> (i64, i64) {
    // The square is compared first: most vectors need no root.
    if x.saturating_mul(x).saturating_add(z.saturating_mul(z)) <= limit.saturating_mul(limit) {
        return (x, z);
    }
    let length = length(x, z).max(1);
    (x * limit / length, z * limit / length)
}

/// Returns `from` moved towards `to` by `most` at the most.
pub fn approach(from: (i64, i64), to: (i64, i64), most: i64) -> (i64, i64) {
    let (x, z) = shorten((to.0 - from.0, to.1 - from.1), most);
    (from.0 + x, from.1 + z)
}
