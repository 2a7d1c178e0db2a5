//! Units: what a number means, as types where values mix.
//!
//! The world's axes are x east, y up, z south (right-handed, as in glTF). Nothing here knows
//! about entities or messages.

use serde::{Deserialize, Serialize};

/// Ticks per second of a world that says nothing else.
pub const TICK_HZ_DEFAULT: u16 = 20;

/// A moment of world time: ticks since the world began. World time is this count and nothing else.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[rkyv(derive(Clone, Copy, Debug))]
pub struct Tick(pub u64);

impl Tick {
    /// Returns the tick after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Returns this tick moved later by `ticks`.
    #[must_use]
    pub const fn after(self, ticks: u64) -> Self {
        Self(self.0.saturating_add(ticks))
    }

    /// Returns how many ticks lie between `earlier` and this one, 0 if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the low 16 bits, which is how datagrams name a tick.
    #[must_use]
    pub const fn low(self) -> u16 {
        low_u16(self.0)
    }

    /// Returns the tick nearest to `near` whose low 16 bits are `low`.
    ///
    /// Right whenever the true tick lies within 32,767 of `near` (27 minutes at 20 Hz).
    #[must_use]
    pub fn expand(low: u16, near: Self) -> Self {
        Self(expand(low, near.0))
    }
}

/// Returns the number nearest to `near` whose low 16 bits are `low`, never below zero.
#[must_use]
pub fn expand(low: u16, near: u64) -> u64 {
    let offset = i64::from(low.wrapping_sub(low_u16(near)).cast_signed());
    near.checked_add_signed(offset).unwrap_or_else(|| u64::from(low))
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are what is asked for")]
const fn low_u16(number: u64) -> u16 {
    number as u16
}

/// A point of the world in whole centimetres: x east, y up from sea level, z south.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[rkyv(derive(Clone, Copy, Debug))]
pub struct Position {
    /// Centimetres east of the world's origin.
    pub x: i32,
    /// Centimetres above sea level.
    pub y: i32,
    /// Centimetres south of the world's origin.
    pub z: i32,
}

impl Position {
    /// Returns the point at these centimetres.
    #[must_use]
    pub const fn new(x: i32, y: i32, z: i32) -> Self {
        Self { x, y, z }
    }

    /// Returns the squared distance over the ground, in square centimetres.
    #[must_use]
    pub fn ground_distance_squared(self, other: Self) -> u64 {
        let x = u64::from(self.x.abs_diff(other.x));
        let z = u64::from(self.z.abs_diff(other.z));
        x.saturating_mul(x).saturating_add(z.saturating_mul(z))
    }

    /// Returns whether `other` is within `reach_cm` of this point over the ground.
    #[must_use]
    pub fn is_within(self, other: Self, reach_cm: u32) -> bool {
        self.ground_distance_squared(other) <= u64::from(reach_cm).pow(2)
    }
}

/// A heading: 65,536 steps to a full turn, 0 looks north (-z), growing clockwise seen from above
/// (16,384 looks east).
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[rkyv(derive(Clone, Copy, Debug))]
pub struct Yaw(pub u16);

impl Yaw {
    /// Looking north.
    pub const NORTH: Self = Self(0);
    /// Looking east.
    pub const EAST: Self = Self(0x4000);
    /// Looking south.
    pub const SOUTH: Self = Self(0x8000);
    /// Looking west.
    pub const WEST: Self = Self(0xC000);

    /// Returns the heading of the ground vector (`x` east, `z` south), north for the null vector.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "wraps around the circle on purpose")]
    pub fn towards(x: i32, z: i32) -> Self {
        let turns = libm::atan2(f64::from(x), -f64::from(z)) / core::f64::consts::TAU;
        Self(libm::round(turns * 65_536.0) as i32 as u16)
    }

    /// Returns the ground direction as (east, south), each in 1/32,767.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "sines of magnitude <= 32,767 fit")]
    pub fn direction(self) -> (i32, i32) {
        let angle = f64::from(self.0) / 65_536.0 * core::f64::consts::TAU;
        let east = libm::round(libm::sin(angle) * 32_767.0) as i32;
        let south = libm::round(-libm::cos(angle) * 32_767.0) as i32;
        (east, south)
    }

    /// Returns the nearest of 256 headings (1.4 degrees apart), which is what others are shown.
    #[must_use]
    pub fn coarse(self) -> u8 {
        self.0.wrapping_add(0x80).to_be_bytes()[0]
    }

    /// Returns the heading that a coarse one stands for.
    #[must_use]
    pub const fn from_coarse(coarse: u8) -> Self {
        Self((coarse as u16) << 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_survives_its_low_bits() {
        for near in [0_u64, 5, 40_000, 65_535, 65_536, 1 << 40] {
            for offset in [-30_000_i64, -1, 0, 1, 30_000] {
                let Some(tick) = near.checked_add_signed(offset) else { continue };
                assert_eq!(Tick::expand(Tick(tick).low(), Tick(near)), Tick(tick));
            }
        }
    }

    #[test]
    fn headings_point_where_they_say() {
        assert_eq!(Yaw::towards(0, -100), Yaw::NORTH);
        assert_eq!(Yaw::towards(100, 0), Yaw::EAST);
        assert_eq!(Yaw::towards(0, 100), Yaw::SOUTH);
        assert_eq!(Yaw::towards(-100, 0), Yaw::WEST);
        assert_eq!(Yaw::EAST.direction(), (32_767, 0));
        assert_eq!(Yaw::NORTH.direction(), (0, -32_767));
    }

    #[test]
    fn a_coarse_heading_is_within_one_degree() {
        for yaw in 0..=u16::MAX {
            let shown = Yaw::from_coarse(Yaw(yaw).coarse()).0;
            assert!(shown.wrapping_sub(yaw).cast_signed().unsigned_abs() <= 0x80);
        }
    }
}
