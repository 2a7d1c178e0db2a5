//! Randomness of the operating system: for keys, nonces and seeds, and for nothing else.
//!
//! Worlds draw from seeded streams of their own; a recorded run never comes here.

use ring::rand::{SecureRandom as _, SystemRandom};

/// Returns bytes that nobody can guess.
///
/// # Panics
/// When the operating system has no randomness to give: no key made then could be trusted.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        assert_ne!(random::<32>(), random::<32>());
    }
}
