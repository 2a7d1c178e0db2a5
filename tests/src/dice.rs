//! A stream of random numbers that follows from a seed (`SplitMix64`).

/// The stream; what it grows from is its state.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
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
}
