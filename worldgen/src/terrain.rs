//! What every source of ground can do, and how a chunk is sampled from it.
//!
//! Owns the [`Terrain`] trait and the choice of surface from height, slope and climate. It is
//! never asked where heights come from ([`seed`](crate::seed), [`survey`](crate::survey)).

use protocol::ground::{CHUNK_SAMPLES, HeightGrid};
use protocol::ids::{ChunkId, ContentHash};

use crate::chunk::{Chunk, Surface, is_in_world};
use crate::limits::{HEIGHT_CM_MAX, SAMPLES};
use crate::noise::{stream, worn};

/// Height of the sea in every world.
pub const SEA_LEVEL_CM: i32 = 0;

/// A source of ground: heights everywhere, the same for the same point, on any thread.
pub trait Terrain: Send + Sync {
    /// Returns the height at (`x_cm` east, `z_cm` south) of the origin, in centimetres above sea
    /// level; below sea level is the bed of the sea.
    fn height_cm(&self, x_cm: i32, z_cm: i32) -> i32;

    /// Returns the heights of `columns` x `rows` points `spacing_cm` apart, row by row from the
    /// north-west one at (`west_cm`, `north_cm`): those of [`Terrain::height_cm`], made together.
    ///
    /// Points beyond the range of a [`Position`](protocol::units::Position) repeat its edge.
    fn heights_cm(&self, grid: Grid) -> Vec<i32> {
        grid.points().map(|(x, z)| self.height_cm(x, z)).collect()
    }

    /// Returns at which heights trees and snow begin and end.
    fn climate(&self) -> Climate;

    /// Returns one line for people: what this ground is.
    fn describe(&self) -> String;

    /// Returns the name of this ground: equal names mean equal chunks, so caches can be shared
    /// between runs and never between worlds.
    fn fingerprint(&self) -> ContentHash;

    /// Returns the chunk `id`, nothing if it lies outside the world.
    ///
    /// Every level samples the heights at its own spacing, so that chunks of one level
    /// share their edges exactly. Level `n` rounds to `1 << n` cm: less than anyone sees at that
    /// distance, and much less to send.
    fn chunk(&self, id: ChunkId) -> Option<Chunk> {
        sample(self, id)
    }
}

/// Evenly spaced points of the ground, row by row from the north-west.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Centimetres east of the origin of the first column.
    pub west_cm: i32,
    /// Centimetres south of the origin of the first row.
    pub north_cm: i32,
    /// Centimetres between neighbours.
    pub spacing_cm: i32,
    /// Points per row.
    pub columns: u32,
    /// How many rows.
    pub rows: u32,
}

impl Grid {
    /// Returns the centimetres east of a column, at most what an `i32` holds.
    #[must_use]
    pub fn x(self, column: u32) -> i32 {
        self.west_cm.saturating_add(self.spacing_cm.saturating_mul(column as i32))
    }

    /// Returns the centimetres south of a row, at most what an `i32` holds.
    #[must_use]
    pub fn z(self, row: u32) -> i32 {
        self.north_cm.saturating_add(self.spacing_cm.saturating_mul(row as i32))
    }

    /// Returns the points in order.
    pub fn points(self) -> impl Iterator<Item = (i32, i32)> {
        (0..self.rows)
            .flat_map(move |row| (0..self.columns).map(move |column| (self.x(column), self.z(row))))
    }
}

/// Heights at which the cover of the ground changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Climate {
    /// Which hills carry trees and where edges fray.
    pub seed: u64,
    /// Trees end here, in metres.
    pub tree_line_m: f64,
    /// Snow stays from here on, in metres.
    pub snow_line_m: f64,
}

/// Samples with one more on every side, for the slopes along the edges.
const APRON: usize = CHUNK_SAMPLES + 2;

fn sample(terrain: &(impl Terrain + ?Sized), id: ChunkId) -> Option<Chunk> {
    if !is_in_world(id) {
        return None;
    }
    let spacing_cm = 100 << id.level;
    let (west, north) = id.corner_cm();
    let grid = Grid {
        west_cm: west.saturating_sub(spacing_cm),
        north_cm: north.saturating_sub(spacing_cm),
        spacing_cm,
        columns: APRON as u32,
        rows: APRON as u32,
    };
    let at = |index: usize| (grid.x((index % APRON) as u32), grid.z((index / APRON) as u32));
    let high: Vec<i32> =
        terrain.heights_cm(grid).into_iter().map(|height| rounded(height, id.level)).collect();
    let climate = terrain.climate();
    let mut heights = Vec::with_capacity(SAMPLES);
    let mut surface = Vec::with_capacity(SAMPLES);
    for row in 1..=CHUNK_SAMPLES {
        for index in row * APRON + 1..=row * APRON + CHUNK_SAMPLES {
            let east = f64::from(high[index + 1] - high[index - 1]);
            let south = f64::from(high[index + APRON] - high[index - APRON]);
            let slope = (east * east + south * south).sqrt() / f64::from(2 * spacing_cm);
            heights.push(high[index]);
            surface.push(climate.surface(at(index), high[index], slope));
        }
    }
    let grid = HeightGrid::new(heights.into_boxed_slice())?;
    Chunk::new(id, grid, surface.into_boxed_slice()).ok()
}

fn rounded(height_cm: i32, level: u8) -> i32 {
    let step = 1 << level;
    let clamped = height_cm.clamp(-HEIGHT_CM_MAX, HEIGHT_CM_MAX);
    // The clamp is a multiple of every step, so rounding never leaves it.
    (clamped + step / 2).div_euclid(step) * step
}

impl Climate {
    /// Returns what covers the ground at a point in centimetres, given its height and slope
    /// (rise over run).
    #[must_use]
    pub fn surface(&self, (x_cm, z_cm): (i32, i32), height_cm: i32, slope: f64) -> Surface {
        let height_m = f64::from(height_cm) / 100.0;
        if height_cm < SEA_LEVEL_CM {
            return Surface::Bed;
        }
        if height_m < 0.7 && slope < 0.2 {
            return Surface::Sand;
        }
        let (x, z) = (f64::from(x_cm) / 100.0, f64::from(z_cm) / 100.0);
        // Patches some 500 m wide, with frayed edges.
        let patch = worn(stream(self.seed, 90), x, z, 520.0, 3).value;
        let frayed_m = height_m + patch * 0.12 * self.tree_line_m;
        let steep = slope + patch * 0.08;
        let snowy = self.snow_line_m < frayed_m;
        let alpine = self.tree_line_m < frayed_m;
        match () {
            () if snowy && steep < 0.95 => Surface::Snow,
            () if 0.85 < steep => Surface::Rock,
            () if alpine && 0.5 < steep => Surface::Scree,
            () if 0.68 < steep => Surface::Scree,
            () if alpine => Surface::Grass,
            () if 0.06 < patch + (slope - 0.12) * 0.6 && 3.0 < height_m => Surface::Forest,
            () if height_m < 1.2 && slope < 0.1 => Surface::Sand,
            () => Surface::Grass,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ramp;

    impl Terrain for Ramp {
        fn height_cm(&self, x_cm: i32, z_cm: i32) -> i32 {
            x_cm / 4 + z_cm / 8
        }

        fn climate(&self) -> Climate {
            Climate { seed: 1, tree_line_m: 500.0, snow_line_m: 800.0 }
        }

        fn describe(&self) -> String {
            "a ramp".into()
        }

        fn fingerprint(&self) -> ContentHash {
            ContentHash::of(b"ramp")
        }
    }

    #[test]
    fn neighbours_of_one_level_share_their_edge() {
        for level in 0..=ChunkId::LEVEL_MAX {
            let chunk = |x, z| Ramp.chunk(ChunkId { level, x, z }).expect("in the world");
            let (here, east, south) = (chunk(-1, 2), chunk(0, 2), chunk(-1, 3));
            for i in 0..CHUNK_SAMPLES {
                assert_eq!(here.grid().sample(64, i), east.grid().sample(0, i));
                assert_eq!(here.grid().sample(i, 64), south.grid().sample(i, 0));
                assert_eq!(here.surface()[i * 65 + 64], east.surface()[i * 65]);
            }
        }
    }

    #[test]
    fn levels_agree_where_their_samples_meet() {
        let fine = Ramp.chunk(ChunkId { level: 0, x: 0, z: 0 }).expect("in the world");
        let coarse = Ramp.chunk(ChunkId { level: 3, x: 0, z: 0 }).expect("in the world");
        for i in 0..8 {
            let (near, far) = (fine.grid().sample(8 * i, 8), coarse.grid().sample(i, 1));
            assert!(near.abs_diff(far) <= 4, "{near} and {far}");
        }
    }

    #[test]
    fn there_is_no_ground_outside_the_world() {
        assert_eq!(Ramp.chunk(ChunkId { level: 0, x: i32::MAX, z: 0 }), None);
        assert_eq!(Ramp.chunk(ChunkId { level: 7, x: 0, z: 0 }), None);
        let corner = ChunkId::at(0, i32::MIN + 6_400, i32::MAX - 6_400);
        assert!(Ramp.chunk(corner).is_some());
    }

    #[test]
    fn height_and_slope_choose_the_surface() {
        let check = |height_m: i32, slope: f64, expected: Surface| {
            assert_eq!(Ramp.climate().surface((0, 0), height_m * 100, slope), expected);
        };
        check(-1, 0.0, Surface::Bed);
        check(0, 0.0, Surface::Sand);
        check(50, 0.0, Surface::Grass);
        check(50, 0.8, Surface::Scree);
        check(50, 1.5, Surface::Rock);
        check(700, 0.1, Surface::Grass);
        check(1_200, 0.1, Surface::Snow);
        check(1_200, 1.5, Surface::Rock);
    }
}
