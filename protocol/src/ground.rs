//! The ground as movement sees it: heights, slopes and what blocks the way.
//!
//! [`Ground`] is asked by shard, viewer, bots and simulator alike. Where the heights come from
//! (a generator, a file, a received chunk) is the business of who implements it.

use std::collections::BTreeMap;

/// The height of the ground, anywhere.
pub trait Ground {
    /// Returns the height in 1/256 cm above sea level at the ground point (`x`, `z`) in 1/256 cm,
    /// or nothing where the ground is not known (yet).
    fn height(&self, x: i64, z: i64) -> Option<i64>;

    /// Returns the solid uprights that could touch a body within `reach_cm` of (`x_cm`, `z_cm`).
    fn pillars(&self, _x_cm: i32, _z_cm: i32, _reach_cm: i32) -> &[Pillar] {
        &[]
    }

    /// Takes in what a frame tells of the entity of `handle`: a door that opened blocks no more.
    /// Ground that follows no frames has nothing to do.
    fn see(&mut self, _handle: u16, _flags: u8) {}
}

/// A solid upright cylinder: a trunk, a post, a well.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct Pillar {
    /// Centre east, in centimetres.
    pub x: i32,
    /// Centre south, in centimetres.
    pub z: i32,
    /// Radius in centimetres.
    pub radius: i32,
    /// Top in centimetres above sea level; a body above it passes.
    pub top: i32,
}

/// Width of a cell of [`Pillars`] in centimetres.
const CELL_CM: i32 = 800;

/// How far from a body a pillar may matter, in centimetres: one step at full speed, and a body.
const TOUCH_CM: i32 = 600;

/// Solid uprights by place: what [`Ground::pillars`] answers from.
#[derive(Clone, Debug, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Pillars {
    #[rkyv(with = rkyv::with::AsVec)]
    cells: BTreeMap<(i32, i32), Vec<Pillar>>,
}

impl Pillars {
    /// Puts a pillar in.
    pub fn insert(&mut self, pillar: Pillar) {
        for cell in Self::cells_of(pillar) {
            let pillars = self.cells.entry(cell).or_default();
            // In one order on both ends, whoever was told of which first: where a body touches
            // two, the first counts.
            let place = pillars.partition_point(|other| *other < pillar);
            pillars.insert(place, pillar);
        }
    }

    /// Takes one such pillar out.
    pub fn remove(&mut self, pillar: Pillar) {
        for cell in Self::cells_of(pillar) {
            let Some(pillars) = self.cells.get_mut(&cell) else { continue };
            if let Some(index) = pillars.iter().position(|&other| other == pillar) {
                pillars.remove(index);
            }
            if pillars.is_empty() {
                self.cells.remove(&cell);
            }
        }
    }

    /// Returns the pillars that could touch a body at (`x_cm`, `z_cm`) in one step.
    #[must_use]
    pub fn near(&self, x_cm: i32, z_cm: i32) -> &[Pillar] {
        let cell = (x_cm.div_euclid(CELL_CM), z_cm.div_euclid(CELL_CM));
        self.cells.get(&cell).map_or(&[], Vec::as_slice)
    }

    /// Returns every cell in which a body could touch `pillar`.
    fn cells_of(pillar: Pillar) -> impl Iterator<Item = (i32, i32)> {
        let reach = pillar.radius.clamp(0, CELL_CM).saturating_add(TOUCH_CM);
        let span = move |cm: i32| {
            let (low, high) = (cm.saturating_sub(reach), cm.saturating_add(reach));
            low.div_euclid(CELL_CM)..=high.div_euclid(CELL_CM)
        };
        span(pillar.z).flat_map(move |z| span(pillar.x).map(move |x| (x, z)))
    }
}

/// A level plain, for tests and for worlds without ground.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain {
    /// Height everywhere, in centimetres above sea level.
    pub height_cm: i32,
}

impl Ground for Plain {
    fn height(&self, _: i64, _: i64) -> Option<i64> {
        Some(i64::from(self.height_cm) * 256)
    }
}

/// Samples per edge of a chunk; neighbouring chunks share their edge samples.
pub const CHUNK_SAMPLES: usize = 65;

/// Heights of one chunk, in centimetres above sea level.
///
/// 65 x 65 samples, row-major, north-west corner first (rows go south), evenly spaced over the
/// chunk's width: 1 m apart at level 0, where ground is walked on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeightGrid {
    heights: Box<[i32]>,
}

impl HeightGrid {
    /// Returns the grid of these heights, nothing unless there are exactly 65 x 65.
    #[must_use]
    pub fn new(heights: Box<[i32]>) -> Option<Self> {
        (heights.len() == CHUNK_SAMPLES * CHUNK_SAMPLES).then_some(Self { heights })
    }

    /// Returns the heights in order.
    #[must_use]
    pub fn heights(&self) -> &[i32] {
        &self.heights
    }

    /// Returns the height of sample (`column`, `row`) in centimetres; indices past the edge give
    /// the edge.
    #[must_use]
    #[inline]
    pub fn sample(&self, column: usize, row: usize) -> i32 {
        let last = CHUNK_SAMPLES - 1;
        let index = row.min(last) * CHUNK_SAMPLES + column.min(last);
        self.heights.get(index).copied().unwrap_or_default()
    }

    /// Returns the height in 1/256 cm at (`x`, `z`) in 1/256 cm from the corner of a chunk of
    /// `level`, by bilinear interpolation in whole numbers.
    #[must_use]
    #[inline]
    pub fn height_at(&self, x: i64, z: i64, level: u8) -> i64 {
        let spacing = (100 * 256) << u32::from(level.min(crate::ids::ChunkId::LEVEL_MAX));
        let last = i64::try_from(CHUNK_SAMPLES - 1).unwrap_or(0) * spacing;
        let (x, z) = (x.clamp(0, last), z.clamp(0, last));
        let column = usize::try_from(x / spacing).unwrap_or(0);
        let row = usize::try_from(z / spacing).unwrap_or(0);
        let (fx, fz) = (x % spacing, z % spacing);
        let at = |column, row| i64::from(self.sample(column, row)) * 256;
        let north = at(column, row) * (spacing - fx) + at(column + 1, row) * fx;
        let south = at(column, row + 1) * (spacing - fx) + at(column + 1, row + 1) * fx;
        (north / spacing * (spacing - fz) + south / spacing * fz) / spacing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slope() -> HeightGrid {
        let heights = (0..CHUNK_SAMPLES * CHUNK_SAMPLES).map(|i| (i % CHUNK_SAMPLES) as i32 * 50);
        HeightGrid::new(heights.collect()).expect("65 x 65")
    }

    #[test]
    fn a_point_between_samples_lies_between_their_heights() {
        let grid = slope();
        assert_eq!(grid.height_at(0, 0, 0), 0);
        assert_eq!(grid.height_at(100 * 256, 0, 0), 50 * 256);
        assert_eq!(grid.height_at(150 * 256, 777, 0), 75 * 256);
        assert_eq!(grid.height_at(64 * 100 * 256, 0, 0), 64 * 50 * 256);
    }

    #[test]
    fn past_the_edge_the_edge_holds() {
        assert_eq!(slope().height_at(-5, -5, 0), 0);
        assert_eq!(slope().height_at(i64::MAX, i64::MAX, 0), 64 * 50 * 256);
    }

    #[test]
    fn a_pillar_is_found_from_all_around_until_it_goes() {
        let pillar = Pillar { x: 795, z: -3, radius: 40, top: 900 };
        let mut pillars = Pillars::default();
        pillars.insert(pillar);
        for (x, z) in [(795, -3), (805, 4), (300, 300), (1_300, -400)] {
            assert_eq!(pillars.near(x, z), [pillar], "from {x}, {z}");
        }
        assert!(pillars.near(5_000, 0).is_empty());
        pillars.remove(pillar);
        assert!(pillars.near(795, -3).is_empty());
        assert!(pillars.cells.is_empty());
    }

    #[test]
    fn pillars_are_found_in_one_order_however_they_came() {
        let at = |x, z| Pillar { x, z, radius: 40, top: 900 };
        let all = [at(-30, 5), at(20, -9), at(20, 8)];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut pillars = Pillars::default();
            order.iter().for_each(|&index| pillars.insert(all[index]));
            assert_eq!(pillars.near(0, 0), all);
        }
    }

    #[test]
    fn a_grid_of_another_size_is_refused() {
        assert_eq!(HeightGrid::new(vec![0; 4_224].into_boxed_slice()), None);
    }
}
