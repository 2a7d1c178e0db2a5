//! Ground from a number: coasts, plains, hills and worn mountains without end.
//!
//! Owns the composition of the noise. [`Seeded::height_cm`] is a pure function of seed and point:
//! the same bytes on every machine, on any number of threads.

use protocol::ids::ContentHash;

use crate::lattice::Lattice;
use crate::noise::{Field, gullies, ridges, smoothstep, stream, waves, worn};
use crate::terrain::{Climate, Grid, Terrain};

/// Changes whenever the same seed gives other ground.
const GENERATION: u8 = 1;

/// The village square: levelled within this many metres of the origin.
const SQUARE_M: f64 = 80.0;
/// Where levelling ends and the land is as it came.
const SQUARE_BLEND_M: f64 = 200.0;
/// Least height of the square: dry at any tide a world may invent.
const SQUARE_HEIGHT_M: f64 = 6.0;
/// Mountains keep this far from the origin, where people arrive ...
const MOUNTAINS_FROM_M: f64 = 700.0;
/// ... and stand freely from here on.
const MOUNTAINS_FREE_M: f64 = 3_500.0;
/// How much land lies around the origin, in units of the continent noise.
const ORIGIN_LAND: f64 = 0.13;
/// The share of land elsewhere.
const LAND_BIAS: f64 = 0.10;
/// Within about this distance the origin's share of land rules.
const ORIGIN_REACH_M: f64 = 2_200.0;
/// Highest ridges above their foothills, in metres.
const MOUNTAIN_M: f64 = 980.0;
/// Gully wavelengths in metres, coarse to fine, each guided by the slope the last one left.
const GULLIES_M: [f64; 3] = [310.0, 142.0, 63.0];
/// Depth of a gully per metre of its wavelength, on steep ground.
const GULLY_DEPTH: f64 = 0.06;

/// Independent streams of noise.
const LAYERS: usize = 16;

/// Ground made from a seed.
#[derive(Clone, Copy, Debug)]
pub struct Seeded {
    seed: u64,
    // The seeds of the layers, mixed once.
    layers: [u64; LAYERS],
    // What makes the continent noise ORIGIN_LAND at the origin.
    shift: f64,
    // Height of the square in metres.
    square_m: f64,
}

impl Seeded {
    /// Returns the ground of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut ground = Self {
            seed,
            layers: core::array::from_fn(|layer| stream(seed, layer as u64)),
            shift: 0.0,
            square_m: 0.0,
        };
        ground.shift = ORIGIN_LAND - LAND_BIAS - ground.continent(0.0, 0.0).value;
        // The square lies as high as the land around it does on average.
        const AROUND: [(f64, f64); 9] = [
            (0.0, 0.0),
            (140.0, 0.0),
            (-140.0, 0.0),
            (0.0, 140.0),
            (0.0, -140.0),
            (99.0, 99.0),
            (-99.0, 99.0),
            (99.0, -99.0),
            (-99.0, -99.0),
        ];
        let mut lattice = ground.lattice(-140.0, -140.0, 140.0, 140.0);
        let sum: f64 =
            AROUND.iter().map(|&(x, z)| ground.carved(lattice.at(x, z), x, z).value).sum();
        drop(lattice);
        ground.square_m = (sum / AROUND.len() as f64).max(SQUARE_HEIGHT_M);
        ground
    }

    /// Returns the seed.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    const fn layer(&self, layer: usize) -> u64 {
        self.layers[layer]
    }

    /// The wide landforms of a rectangle in metres.
    fn lattice(
        &self,
        west: f64,
        north: f64,
        east: f64,
        south: f64,
    ) -> Lattice<impl Fn(f64, f64) -> Field> {
        Lattice::over(|x, z| self.landforms(x, z), west, north, east, south)
    }

    /// Height in metres at a point in metres, given the wide landforms there.
    fn height_m(&self, landforms: Field, x: f64, z: f64) -> f64 {
        let natural = self.carved(landforms, x, z);
        let far = (x * x + z * z).sqrt();
        let wild = smoothstep(SQUARE_M, SQUARE_BLEND_M, far);
        let ground = if wild < 1.0 {
            // A square keeps a tenth of its bumps, and never enough of them to reach the sea.
            let bumps = ((natural.value - self.square_m) * 0.1).clamp(-1.5, 1.5);
            self.square_m + bumps + (natural.value - self.square_m - bumps) * wild
        } else {
            natural.value
        };
        ground + self.grain(x, z, natural.steepness()) * (0.25 + 0.75 * wild)
    }

    /// Everything wider than a gully, with its slope.
    fn landforms(&self, x: f64, z: f64) -> Field {
        // Bent coordinates: nothing in nature follows a grid.
        let bend = |layer: usize| {
            let wide = waves(self.layer(layer), x, z, 2_100.0).value * 300.0;
            wide + waves(self.layer(layer + 7), x, z, 610.0).value * 75.0
        };
        let (bent_x, bent_z) = (x + bend(1), z + bend(2));
        let land = self.shifted_continent(bent_x, bent_z);
        let inland = land.step(0.02, 0.22);
        let hilly =
            (waves(self.layer(3), bent_x, bent_z, 2_600.0) + Field::flat(0.25)).step(0.0, 0.8);
        let rolling = worn(self.layer(4), bent_x, bent_z, 780.0, 4);
        let hills =
            rolling * (hilly * 38.0 + Field::flat(5.0)) * (inland * 0.85 + Field::flat(0.15));
        let lowland = coast(land) + hills;
        let rugged = self.ruggedness(bent_x, bent_z, x, z) * land.step(0.05, 0.32);
        if rugged.value <= 0.0 {
            return lowland;
        }
        let crests = ridges(self.layer(5), bent_x, bent_z, 2_900.0, 4);
        let body = worn(self.layer(6), bent_x, bent_z, 3_600.0, 2) * 0.35 + Field::flat(0.35);
        let mountains = (crests * 0.75 + body * 0.45 + rolling * 0.09) * rugged * MOUNTAIN_M;
        lowland + mountains
    }

    /// Below 0 is sea, above is land; 1 is far from any coast.
    fn continent(&self, x: f64, z: f64) -> Field {
        worn(self.layer(0), x, z, 6_400.0, 4)
    }

    fn shifted_continent(&self, x: f64, z: f64) -> Field {
        let near = 1.0 / (1.0 + (x * x + z * z) / (ORIGIN_REACH_M * ORIGIN_REACH_M));
        self.continent(x, z) + Field::flat(LAND_BIAS + self.shift * near)
    }

    /// Where mountains stand: 0 to 1.
    fn ruggedness(&self, bent_x: f64, bent_z: f64, x: f64, z: f64) -> Field {
        let far = (x * x + z * z).sqrt();
        let free = smoothstep(MOUNTAINS_FROM_M, MOUNTAINS_FREE_M, far);
        let ranges = waves(self.layer(7), bent_x, bent_z, 7_400.0);
        (ranges + Field::flat(0.18)).step(0.0, 0.75) * free
    }

    /// Cuts gullies into slopes, each set following the slope the coarser one left.
    fn carved(&self, mut land: Field, x: f64, z: f64) -> Field {
        for (layer, wavelength) in (10..).zip(GULLIES_M) {
            let steepness = land.steepness();
            let depth = wavelength
                * GULLY_DEPTH
                * smoothstep(0.06, 0.55, steepness)
                * smoothstep(1.0, 12.0, land.value);
            if depth <= 0.0 {
                continue;
            }
            let downhill = (land.east / steepness, land.south / steepness);
            let cut = gullies(self.layer(layer), x / wavelength, z / wavelength, downhill);
            land.value += cut.value * depth;
            land.east += cut.east * depth / wavelength;
            land.south += cut.south * depth / wavelength;
        }
        land
    }

    /// Small unevenness underfoot: centimetres on meadows, decimetres on slopes.
    fn grain(&self, x: f64, z: f64, steepness: f64) -> f64 {
        let rough = 0.10 + 0.9 * smoothstep(0.08, 0.9, steepness);
        let wide = waves(self.layer(13), x, z, 27.0).value;
        let fine = waves(self.layer(14), x, z, 9.0).value;
        rough * (wide * 1.1 + fine * 0.3)
    }
}

/// Turns the continent into metres: a shelf under the sea, flat beaches, a slow rise inland.
fn coast(land: Field) -> Field {
    let t = land.value;
    // The slope at the waterline is two fifths of the slope away from it.
    let soft = 0.02 / (0.02 + t * t);
    let reach = if t < 0.0 { 130.0 } else { 95.0 };
    let value = reach * t * (1.0 - 0.6 * soft);
    let derivative = reach * (1.0 - 0.6 * soft * (1.0 - 2.0 * t * t / (0.02 + t * t)));
    land.through(value, derivative)
}

impl Terrain for Seeded {
    fn height_cm(&self, x_cm: i32, z_cm: i32) -> i32 {
        let (west_cm, north_cm) = (x_cm, z_cm);
        let point = Grid { west_cm, north_cm, spacing_cm: 100, columns: 1, rows: 1 };
        self.heights_cm(point).first().copied().unwrap_or_default()
    }

    fn heights_cm(&self, grid: Grid) -> Vec<i32> {
        let metres = |cm: i32| f64::from(cm) / 100.0;
        let (east, south) = (grid.x(grid.columns), grid.z(grid.rows));
        let mut lattice =
            self.lattice(metres(grid.west_cm), metres(grid.north_cm), metres(east), metres(south));
        let points = grid.points().map(|(x, z)| (metres(x), metres(z)));
        let heights = points.map(|(x, z)| self.height_m(lattice.at(x, z), x, z));
        heights.map(|height| (height * 100.0 + 0.5).floor() as i32).collect()
    }

    fn climate(&self) -> Climate {
        Climate { seed: self.seed, tree_line_m: 430.0, snow_line_m: 640.0 }
    }

    fn describe(&self) -> String {
        format!("ground from seed {}", self.seed)
    }

    fn fingerprint(&self) -> ContentHash {
        ContentHash::of(format!("seeded ground {GENERATION}, seed {}", self.seed).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use protocol::ids::ChunkId;

    use super::*;
    use crate::Surface;

    fn metres(ground: &Seeded, x_m: i32, z_m: i32) -> f64 {
        f64::from(ground.height_cm(x_m * 100, z_m * 100)) / 100.0
    }

    /// The name of some chunks' heights and surfaces, free of how they are packed.
    fn digest(ground: &Seeded) -> String {
        let mut bytes = Vec::new();
        for (level, x, z) in [(0, 0, 0), (0, -70, 55), (2, 20, -13), (6, 1, 1), (6, -900, 700)] {
            let chunk = ground.chunk(ChunkId { level, x, z }).expect("in the world");
            chunk.grid().heights().iter().for_each(|height| bytes.extend(height.to_le_bytes()));
            bytes.extend(chunk.surface().iter().map(|&surface| surface as u8));
        }
        ContentHash::of(&bytes).to_string()[..16].to_owned()
    }

    #[test]
    fn a_seed_gives_this_ground_forever() {
        let digests = [1, 2, u64::MAX].map(|seed| digest(&Seeded::new(seed)));
        assert_eq!(digests, ["d17ef874af3530b3", "a023aa3d5a7adb6b", "9b4ded24b275832f"]);
    }

    #[test]
    fn threads_do_not_matter() {
        let ground = Seeded::new(77);
        let alone = digest(&ground);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| digest(&ground))).collect();
            for thread in threads {
                assert_eq!(thread.join().expect("no panic"), alone);
            }
        });
    }

    #[test]
    fn a_village_square_fits_at_the_origin_of_every_seed() {
        for seed in 0..60 {
            let ground = Seeded::new(seed);
            let square: Vec<f64> = (-8..=8)
                .flat_map(|x| (-8..=8).map(move |z| (x * 10, z * 10)))
                .filter(|(x, z)| x * x + z * z <= 80 * 80)
                .map(|(x, z)| metres(&ground, x, z))
                .collect();
            let lowest = square.iter().copied().fold(f64::MAX, f64::min);
            let highest = square.iter().copied().fold(f64::MIN, f64::max);
            assert!(4.0 < lowest, "seed {seed}: {lowest} m above the sea");
            assert!(highest - lowest < 4.0, "seed {seed}: {lowest} to {highest} m");
        }
    }

    #[test]
    fn people_can_walk_from_the_square() {
        // A metre that rises by more than 0.8 is too steep to climb; within 500 m hardly any is.
        for seed in 0..20 {
            let ground = Seeded::new(seed);
            let places = (-25..25).flat_map(|x| (-25..25).map(move |z| (x * 20, z * 20)));
            let steep = places.filter(|&(x, z)| {
                let here = metres(&ground, x, z);
                let rise = (metres(&ground, x + 1, z) - here).abs();
                0.8 < rise.max((metres(&ground, x, z + 1) - here).abs())
            });
            let steep = steep.count();
            assert!(steep < 50, "seed {seed}: {steep} of 2500 places");
        }
    }

    #[test]
    fn every_seed_has_plains_sea_and_mountains() {
        for seed in 0..12 {
            let ground = Seeded::new(seed);
            let grid = (-40..40).flat_map(|x| (-40..40).map(move |z| (x * 500, z * 500)));
            let heights: Vec<f64> = grid.map(|(x, z)| metres(&ground, x, z)).collect();
            let share = |test: &dyn Fn(f64) -> bool| {
                heights.iter().filter(|&&height| test(height)).count() * 100 / heights.len()
            };
            let (sea, high) = (share(&|height| height < 0.0), share(&|height| 300.0 < height));
            assert!((5..70).contains(&sea), "seed {seed}: {sea} % sea");
            assert!((2..50).contains(&high), "seed {seed}: {high} % mountains");
            let highest = heights.iter().copied().fold(f64::MIN, f64::max);
            assert!((500.0..1_600.0).contains(&highest), "seed {seed}: up to {highest} m");
        }
    }

    #[test]
    fn ground_has_no_jumps() {
        let ground = Seeded::new(4);
        for i in 0..60_000 {
            let (x, z) = (i * 37 - 1_000_000, i * 11 + 200_000);
            let step = ground.height_cm(x, z).abs_diff(ground.height_cm(x + 10, z));
            assert!(step < 60, "{step} cm in 10 cm at {x}, {z}");
        }
    }

    #[test]
    fn the_edges_of_the_world_are_ground_too() {
        let ground = Seeded::new(1);
        for corner in [(i32::MIN, i32::MIN), (i32::MAX, i32::MIN), (i32::MAX, i32::MAX)] {
            assert!(ground.height_cm(corner.0, corner.1).abs() < 200_000);
        }
    }

    #[test]
    fn the_shore_is_sand_and_the_sea_has_a_bed() {
        let chunk = Seeded::new(1).chunk(ChunkId { level: 6, x: -1, z: 0 }).expect("in the world");
        for (height, surface) in chunk.grid().heights().iter().zip(chunk.surface()) {
            assert_eq!(*height < 0, *surface == Surface::Bed);
        }
        assert!(chunk.surface().contains(&Surface::Sand));
    }
}
