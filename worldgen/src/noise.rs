//! Noise that is the same on every machine: hashed lattices and plain arithmetic.
//!
//! Every function here uses only `+ - * /` and `sqrt` on `f64`, which IEEE 754 fixes to
//! the bit. It knows nothing of metres or mountains.

use std::ops::{Add, Mul, Sub};

/// A height and its slope: a value with its derivatives east (`x`) and south (`z`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Field {
    /// The value.
    pub value: f64,
    /// How fast it grows eastward.
    pub east: f64,
    /// How fast it grows southward.
    pub south: f64,
}

impl Field {
    /// Returns the field that is `value` everywhere.
    #[must_use]
    pub const fn flat(value: f64) -> Self {
        Self { value, east: 0.0, south: 0.0 }
    }

    /// Returns this field through a function with this `value` and `derivative` here.
    #[must_use]
    pub fn through(self, value: f64, derivative: f64) -> Self {
        Self { value, east: self.east * derivative, south: self.south * derivative }
    }

    /// Returns the steepness: rise over run, whatever the direction.
    #[must_use]
    pub fn steepness(self) -> f64 {
        (self.east * self.east + self.south * self.south).sqrt()
    }

    /// Returns 0 below `low`, 1 above `high` and a smooth step between.
    #[must_use]
    pub fn step(self, low: f64, high: f64) -> Self {
        let t = (self.value - low) / (high - low);
        if t <= 0.0 {
            return Self::flat(0.0);
        }
        if 1.0 <= t {
            return Self::flat(1.0);
        }
        self.through(t * t * (3.0 - 2.0 * t), 6.0 * t * (1.0 - t) / (high - low))
    }

    /// Returns the ridge of this field: near 1 where it is 0, falling to 0 at 1 and -1. The crest
    /// is a little round, so that the slope turns over it without a jump.
    #[must_use]
    pub fn ridge(self) -> Self {
        const ROUND: f64 = 0.04;
        let away = (self.value * self.value + ROUND * ROUND).sqrt();
        let height = (1.0 - away).max(0.0);
        self.through(height * height, -2.0 * height * self.value / away)
    }
}

impl Add for Field {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            value: self.value + other.value,
            east: self.east + other.east,
            south: self.south + other.south,
        }
    }
}

impl Sub for Field {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + other * -1.0
    }
}

impl Mul<f64> for Field {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        Self { value: self.value * factor, east: self.east * factor, south: self.south * factor }
    }
}

impl Mul for Field {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        Self {
            value: self.value * other.value,
            east: self.east * other.value + self.value * other.east,
            south: self.south * other.value + self.value * other.south,
        }
    }
}

/// Returns 0 below `low`, 1 above `high` and a smooth step between.
#[must_use]
pub fn smoothstep(low: f64, high: f64, at: f64) -> f64 {
    Field::flat(at).step(low, high).value
}

/// Returns the Catmull-Rom weights of four samples and their derivatives, `t` of the way from the second to
/// the third.
#[must_use]
pub fn cubic(t: f64) -> ([f64; 4], [f64; 4]) {
    let (t2, t3) = (t * t, t * t * t);
    let value = [
        0.5 * (-t3 + 2.0 * t2 - t),
        0.5 * (3.0 * t3 - 5.0 * t2 + 2.0),
        0.5 * (-3.0 * t3 + 4.0 * t2 + t),
        0.5 * (t3 - t2),
    ];
    let slope = [
        0.5 * (-3.0 * t2 + 4.0 * t - 1.0),
        0.5 * (9.0 * t2 - 10.0 * t),
        0.5 * (-9.0 * t2 + 8.0 * t + 1.0),
        0.5 * (3.0 * t2 - 2.0 * t),
    ];
    (value, slope)
}

/// Returns the seed of the stream `layer` of `seed`; streams do not resemble each other.
#[must_use]
pub const fn stream(seed: u64, layer: u64) -> u64 {
    mix(seed ^ mix(layer.wrapping_add(0x9E37_79B9_7F4A_7C15)))
}

const fn mix(mut bits: u64) -> u64 {
    bits ^= bits >> 32;
    bits = bits.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    bits ^= bits >> 32;
    bits = bits.wrapping_mul(0xD6E8_FEB8_6659_FD93);
    bits ^ (bits >> 32)
}

/// Random bits of a lattice point; the high bits are the good ones.
const fn lattice(seed: u64, x: i64, z: i64) -> u64 {
    let x = x.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let z = z.cast_unsigned().wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
    let bits = seed ^ x ^ z.rotate_left(32);
    (bits ^ (bits >> 29)).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

/// The seed of one octave of a sum; the lattice mixes what this leaves alike.
const fn octave_seed(seed: u64, octave: u64) -> u64 {
    seed.wrapping_add(octave.wrapping_mul(0xA076_1D64_78BD_642F))
}

/// The largest whole number up to `x`. Without a function call on any machine, unlike `floor`.
fn whole(x: f64) -> (i64, f64) {
    let cut = x as i64;
    let below = if x < cut as f64 { cut - 1 } else { cut };
    (below, x - below as f64)
}

/// Sixteen directions around the circle, none along an axis.
const DIRECTIONS: [(f64, f64); 16] = {
    let [a, b, c, d] = [0.980_785_280_4, 0.195_090_322_0, 0.831_469_612_3, 0.555_570_233_0];
    [
        (a, b),
        (c, d),
        (d, c),
        (b, a),
        (-b, a),
        (-d, c),
        (-c, d),
        (-a, b),
        (-a, -b),
        (-c, -d),
        (-d, -c),
        (-b, -a),
        (b, -a),
        (d, -c),
        (c, -d),
        (a, -b),
    ]
};

/// Returns gradient noise at (`x`, `z`): about -1 to 1, 0 on average, one bump per unit.
#[must_use]
pub fn bumps(seed: u64, x: f64, z: f64) -> Field {
    let ((column, fx), (row, fz)) = (whole(x), whole(z));
    let corner = |right: i64, down: i64| {
        let hash = lattice(seed, column.wrapping_add(right), row.wrapping_add(down));
        let (east, south) = DIRECTIONS[(hash >> 60) as usize];
        let value = east * (fx - right as f64) + south * (fz - down as f64);
        Field { value, east, south }
    };
    let (a, b, c, d) = (corner(0, 0), corner(1, 0), corner(0, 1), corner(1, 1));
    let (u, du) = fade(fx);
    let (v, dv) = fade(fz);
    let (ab, ac, twist) = (b - a, c - a, a - b - c + d);
    let mut sum = a + ab * u + ac * v + twist * (u * v);
    sum.east += du * (ab.value + twist.value * v);
    sum.south += dv * (ac.value + twist.value * u);
    // The extremes of unit gradients are sqrt(1/2).
    sum * 1.414
}

fn fade(t: f64) -> (f64, f64) {
    (t * t * t * (t * (t * 6.0 - 15.0) + 10.0), 30.0 * t * t * (t - 1.0) * (t - 1.0))
}

/// Returns noise with bumps `wavelength` metres apart at the point (`x`, `z`) in metres.
#[must_use]
pub fn waves(seed: u64, x: f64, z: f64, wavelength: f64) -> Field {
    let field = bumps(seed, x / wavelength, z / wavelength);
    Field { east: field.east / wavelength, south: field.south / wavelength, ..field }
}

/// Noise turned by a number of eighths and a bit, so that octaves share no axis.
fn turned(seed: u64, x: f64, z: f64, wavelength: f64, octave: u64) -> Field {
    const TURNS: [(f64, f64); 4] = [(0.8, 0.6), (0.28, 0.96), (-0.352, 0.936), (-0.8432, 0.5376)];
    let (cosine, sine) = TURNS[(octave & 3) as usize];
    let (along, across) = (x * cosine + z * sine, z * cosine - x * sine);
    let field = waves(octave_seed(seed, octave), along, across, wavelength);
    let (east, south) = (field.east, field.south);
    Field {
        value: field.value,
        east: east * cosine - south * sine,
        south: south * cosine + east * sine,
    }
}

/// Returns a sum of `octaves` of noise, each half as wide and high, about -1 to 1. Steep places
/// get less of the fine octaves: slopes are smooth and flats are rough, as weather leaves them.
#[must_use]
pub fn worn(seed: u64, x: f64, z: f64, wavelength: f64, octaves: u64) -> Field {
    let mut sum = Field::default();
    let (mut width, mut share, mut east, mut south) = (wavelength, 0.5, 0.0, 0.0);
    for octave in 0..octaves {
        let field = turned(seed, x, z, width, octave);
        east += field.east * width * share;
        south += field.south * width * share;
        sum = sum + field * (share / (1.0 + east * east + south * south));
        width *= 0.493;
        share *= 0.5;
    }
    sum * 1.3
}

/// Returns ridges: 0 to 1, sharp crests about `wavelength` metres apart. Only crests carry
/// further crests, so valley floors stay calm.
#[must_use]
pub fn ridges(seed: u64, x: f64, z: f64, wavelength: f64, octaves: u64) -> Field {
    let mut sum = Field::default();
    let (mut width, mut share, mut carried) = (wavelength, 0.5, Field::flat(1.0));
    for octave in 0..octaves {
        let crest = turned(seed, x, z, width, octave).ridge() * carried;
        sum = sum + crest * share;
        carried = crest.step(0.05, 0.9);
        width *= 0.47;
        share *= 0.46;
    }
    sum
}

/// Returns gullies: -1 to 1, furrows one unit apart that run along the `downhill` direction.
///
/// Every cell of a jittered lattice holds a wave across the slope; overlapping cells blend, so
/// furrows fork and merge where the direction turns.
#[must_use]
pub fn gullies(seed: u64, x: f64, z: f64, downhill: (f64, f64)) -> Field {
    /// Cells beyond the eight neighbours are at least this far, squared: 1.25 units.
    const REACH_SQUARED: f64 = 1.5625;
    let ((column, fx), (row, fz)) = (whole(x), whole(z));
    let across = (-downhill.1, downhill.0);
    let (mut height, mut turn, mut weight) = (0.0, 0.0, 1e-9);
    for (right, down) in NEIGHBOURS {
        let hash = lattice(seed, column.wrapping_add(right), row.wrapping_add(down));
        // Each cell's point lies in the middle half of the cell.
        let jitter = |bits: u64| 0.25 + (bits & 0xFFFF) as f64 * (0.5 / 65_536.0);
        let east = fx - right as f64 - jitter(hash >> 48);
        let south = fz - down as f64 - jitter(hash >> 32);
        let near = 1.0 - (east * east + south * south) / REACH_SQUARED;
        if 0.0 < near {
            let share = near * near * near;
            let (cosine, sine) = wave(east * across.0 + south * across.1);
            height += cosine * share;
            turn += sine * share;
            weight += share;
        }
    }
    let slope = -core::f64::consts::TAU * turn / weight;
    Field { value: height / weight, east: slope * across.0, south: slope * across.1 }
}

const NEIGHBOURS: [(i64, i64); 9] =
    [(-1, -1), (0, -1), (1, -1), (-1, 0), (0, 0), (1, 0), (-1, 1), (0, 1), (1, 1)];

/// Cosine and sine of `turns`, from parabolas: within 6 % and the same everywhere.
fn wave(turns: f64) -> (f64, f64) {
    let arch = |turns: f64| {
        let t = whole(turns + 0.5).1 - 0.5;
        16.0 * t * (0.5 - t.abs())
    };
    (arch(turns + 0.25), arch(turns))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares the stated slope with the difference of neighbouring values.
    fn check_slope(noise: impl Fn(f64, f64) -> Field, tolerance: f64) {
        const STEP: f64 = 1e-5;
        for i in 0..500 {
            let (x, z) = (f64::from(i) * 0.371 - 70.0, f64::from(i) * -0.213 + 20.0);
            let here = noise(x, z);
            let east = (noise(x + STEP, z).value - here.value) / STEP;
            let south = (noise(x, z + STEP).value - here.value) / STEP;
            assert!((east - here.east).abs() < tolerance, "east at {x}, {z}");
            assert!((south - here.south).abs() < tolerance, "south at {x}, {z}");
        }
    }

    #[test]
    fn slopes_are_those_of_the_values() {
        check_slope(|x, z| bumps(7, x, z), 1e-3);
        check_slope(|x, z| waves(7, x, z, 3.0), 1e-3);
        check_slope(|x, z| bumps(7, x, z).step(-0.5, 0.5) * bumps(8, x, z), 1e-3);
        check_slope(|x, z| ridges(7, x, z, 4.0, 3), 1e-2);
        check_slope(|x, z| turned(7, x, z, 3.0, 2), 1e-3);
    }

    #[test]
    fn noise_fills_its_range_and_no_more() {
        let values: Vec<f64> = (0..40_000)
            .map(|i| bumps(3, f64::from(i) * 0.137, f64::from(i) * 0.071).value)
            .collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        assert!(mean.abs() < 0.02, "mean {mean}");
        assert!(values.iter().all(|value| value.abs() <= 1.0));
        assert!(values.iter().any(|value| 0.7 < *value));
    }

    #[test]
    fn far_points_are_as_good_as_near_ones() {
        let far = bumps(3, 2.1e7 + 0.25, -2.1e7 - 0.5);
        assert!(far.value.is_finite() && far.value != bumps(3, 0.25, 0.5).value);
    }

    #[test]
    fn gullies_run_downhill() {
        // Along the slope the furrow stays, across it the furrow ends.
        let (mut along, mut across) = (0.0, 0.0);
        for i in 0..500 {
            let (x, z) = (f64::from(i) * 0.737, f64::from(i) * 0.311);
            let here = gullies(5, x, z, (0.0, 1.0)).value;
            along += (gullies(5, x, z + 0.2, (0.0, 1.0)).value - here).abs();
            across += (gullies(5, x + 0.2, z, (0.0, 1.0)).value - here).abs();
        }
        assert!(along * 3.0 < across, "along {along}, across {across}");
    }
}
