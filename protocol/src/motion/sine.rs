//! Directions in whole numbers: the same bits on every machine, and cheap.
//!
//! A quarter wave is worked out while compiling. Nothing here knows about bodies.

use crate::units::Yaw;

/// Length of a direction: what [`Yaw::direction`] uses too.
pub const UNIT: i64 = 32_767;

/// Samples of the quarter wave, one every 64 steps of yaw, both ends included.
const SAMPLES: usize = 257;

static QUARTER: [i16; SAMPLES] = quarter();

/// Returns the ground direction of `yaw` as (east, south), each in 1/[`UNIT`].
pub fn direction(yaw: Yaw) -> (i64, i64) {
    (sine(yaw.0), -sine(yaw.0.wrapping_add(Yaw::EAST.0)))
}

/// Returns the sine of `turn` (65,536 to a circle) in 1/[`UNIT`].
fn sine(turn: u16) -> i64 {
    let within = turn & 0x3FFF;
    let along = if turn & 0x4000 == 0 { within } else { 0x4000 - within };
    let (index, rest) = (usize::from(along >> 6), i64::from(along & 63));
    let low = QUARTER.get(index).copied().map_or(0, i64::from);
    let high = QUARTER.get(index + 1).copied().map_or(low, i64::from);
    let size = low + ((high - low) * rest + 32) / 64;
    if turn & 0x8000 == 0 { size } else { -size }
}

/// Returns the sines of the first quarter by Taylor's series in 40-bit fractions.
#[expect(clippy::cast_possible_truncation, reason = "sines of magnitude <= 32,767 fit")]
#[expect(clippy::indexing_slicing, reason = "runs while compiling, where a miss stops the build")]
const fn quarter() -> [i16; SAMPLES] {
    const BITS: u32 = 40;
    /// A quarter turn, pi / 2, in 1 / 2^40.
    const RIGHT_ANGLE: i128 = 1_727_108_826_178;
    let mut sines = [0; SAMPLES];
    let mut index = 0;
    while index < SAMPLES {
        let angle = RIGHT_ANGLE * index as i128 / (SAMPLES as i128 - 1);
        let square = (angle * angle) >> BITS;
        let (mut term, mut sum, mut power) = (angle, angle, 1);
        while power < 19 {
            term = -((term * square) >> BITS) / ((power + 1) * (power + 2));
            sum += term;
            power += 2;
        }
        sines[index] = ((sum * UNIT as i128 + (1 << (BITS - 1))) >> BITS) as i16;
        index += 1;
    }
    sines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_agree_with_the_exact_ones() {
        for turn in 0..=u16::MAX {
            let (east, south) = direction(Yaw(turn));
            let exact = Yaw(turn).direction();
            assert!((east - i64::from(exact.0)).abs() <= 1, "{turn}: {east}, {exact:?}");
            assert!((south - i64::from(exact.1)).abs() <= 1, "{turn}: {south}, {exact:?}");
        }
    }
}
