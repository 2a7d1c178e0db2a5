//! A stream of random numbers that grows from a seed.
//!
//! Every part of a simulated world draws from a stream of its own, so that a change in one part
//! leaves what the others do as it was. It knows nothing of what is drawn.

use protocol::units::Position;

/// A stream of random numbers (`SplitMix64`).
#[derive(Clone, Debug)]
pub struct Stream(u64);

impl Stream {
    /// Returns the stream that grows from `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the stream of one part of a world that grows from `seed`.
    #[must_use]
    pub const fn of(seed: u64, part: u64) -> Self {
        let mut root = Self(seed ^ part.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        Self(root.draw())
    }

    /// Returns the next number.
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`, which is at least 1.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    /// Returns a number from `low` to below `high`.
    pub const fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low)
    }

    /// Returns whether a chance of one in `bound` came true.
    pub const fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    /// Returns a place on the ground, at most `half_cm` from the middle along each axis.
    pub fn place(&mut self, half_cm: i32) -> Position {
        let width = u64::from(half_cm.unsigned_abs()) * 2;
        let mut along = || i32::try_from(self.below(width)).unwrap_or(0) - half_cm;
        Position::new(along(), 0, along())
    }
}
