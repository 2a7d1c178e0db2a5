//! A stream of random numbers that follows from a seed (`SplitMix64`).
//!
//! Every part of a simulated world, and every client of a crowd, draws from a stream of its own, so
//! that a change in one leaves what the others do as it was. It knows nothing of what is drawn.

use protocol::units::Position;

/// The stream; what it grows from is its state.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// Returns the stream of one part of a world that grows from `seed`.
    #[must_use]
    pub const fn of_part(seed: u64, part: u64) -> Self {
        let mut root = Self(seed ^ part.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        Self(root.draw())
    }

    /// Returns the stream of one client of a crowd under `seed`.
    #[must_use]
    pub const fn of_client(seed: u64, client: u64) -> Self {
        Self(seed ^ client.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// Returns the next number.
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number below `bound`, which is not 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    /// Returns a number from `low` to below `high`.
    pub const fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low)
    }

    /// Returns a number from `-reach` to `reach`.
    pub fn within(&mut self, reach: i32) -> i32 {
        let width = u64::from(reach.unsigned_abs()) * 2 + 1;
        i32::try_from(self.below(width)).unwrap_or(0) - reach
    }

    /// Returns whether a chance of one in `bound` came true.
    pub const fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    /// Returns an index into something of `length` items, which is not 0.
    pub const fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// Returns whether something happens that does so `permille` times of a thousand.
    pub const fn is(&mut self, permille: u64) -> bool {
        self.below(1_000) < permille
    }

    /// Returns one of several.
    pub const fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    /// Returns `length` random bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.draw().to_le_bytes()[0]).collect()
    }

    /// Returns a place on the ground, at most `half_cm` from the middle along each axis.
    pub fn place(&mut self, half_cm: i32) -> Position {
        let width = u64::from(half_cm.unsigned_abs()) * 2;
        let mut along = || i32::try_from(self.below(width)).unwrap_or(0) - half_cm;
        Position::new(along(), 0, along())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_stream_it_always_gave() {
        // Seeds stand in docs and issues: what they lead to must not change.
        assert_eq!(Dice(0).draw(), 0xE220_A839_7B1D_CDAF);
        let mut parts = [Dice::of_part(38, 1), Dice::of_part(38, 2), Dice::of_client(38, 1)];
        let drawn = parts.each_mut().map(Dice::draw);
        assert_eq!(drawn, [0x5E9C_54EE_AF27_E8E0, 0x9EBB_7537_9749_F1CE, 0xB867_7EF8_DE17_555C]);
    }

    #[test]
    fn numbers_stay_in_range() {
        let mut dice = Dice(1);
        assert!((0..1_000).all(|_| dice.within(5).abs() <= 5));
        assert!((0..1_000).all(|_| (3..9).contains(&dice.between(3, 9))));
    }
}
