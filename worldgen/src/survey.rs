//! Ground from measured elevation: true metres around an origin on Earth.
//!
//! Owns the projection, the smooth surface between samples and what lies beyond the tile. It is
//! never asked to read a file ([`io::dem`](crate::io::dem)).

use protocol::ids::ContentHash;

use crate::noise::{Field, cubic, smoothstep, stream, waves, worn};
use crate::terrain::{Climate, Terrain};
use crate::tile::Tile;

/// Changes whenever the same tile gives other ground.
const GENERATION: u8 = 1;
/// The seed of detail between samples: the same tile is the same ground in every world.
const DETAIL_SEED: u64 = 0x00EC_0DE7;
/// Beyond the tile, land falls to the sea over this many metres ...
const SHORE_M: f64 = 3_000.0;
/// ... and ten more for every metre of height, so that no slope exceeds 15 %.
const SHORE_M_PER_M: f64 = 10.0;
/// Depth of the sea far beyond the tile.
const OUTER_DEPTH_M: f64 = 45.0;
/// An origin is chosen where the ground within this many metres ...
const LEVEL_M: f64 = 150.0;
/// ... rises by no more than this share ...
const LEVEL_SLOPE: f64 = 0.04;
/// ... and lies this high above the sea.
const DRY_M: f64 = 4.0;
/// Around the origin the added detail fades out: a village square stands there.
const SQUARE_M: f64 = 80.0;
/// Where the detail is whole again.
const SQUARE_BLEND_M: f64 = 200.0;

/// A point on Earth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geo {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

/// The wanted origin lies outside the tile.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "the origin {latitude}, {longitude} lies outside the tile, which covers latitude {south} to \
     {} and longitude {west} to {}", south + 1, west + 1
)]
pub struct OutsideTile {
    latitude: f64,
    longitude: f64,
    south: i32,
    west: i32,
}

/// Ground from one tile of measured elevation, around an origin.
#[derive(Clone, Debug)]
pub struct Survey {
    tile: Tile,
    origin: Geo,
    // Samples per metre eastward and southward, and the sample under the origin.
    columns_per_m: f64,
    rows_per_m: f64,
    column: f64,
    row: f64,
    fingerprint: ContentHash,
}

impl Survey {
    /// Returns the ground of `tile` around `origin`; `content` names the tile's bytes.
    ///
    /// # Errors
    /// When the origin lies outside the tile; who chose it is at fault.
    pub fn around(tile: Tile, content: ContentHash, origin: Geo) -> Result<Self, OutsideTile> {
        let Geo { latitude, longitude } = origin;
        let (south, west) = tile.corner();
        let (up, right) = (latitude - f64::from(south), longitude - f64::from(west));
        if !(0.0..=1.0).contains(&up) || !(0.0..=1.0).contains(&right) {
            return Err(OutsideTile { latitude, longitude, south, west });
        }
        let samples = (tile.edge() - 1) as f64;
        let (north_m, east_m) = metres_per_degree(latitude);
        let identity = format!("survey {GENERATION} of {content} around {latitude} {longitude}");
        Ok(Self {
            origin,
            columns_per_m: samples / east_m,
            rows_per_m: samples / north_m,
            column: right * samples,
            row: (1.0 - up) * samples,
            fingerprint: ContentHash::of(identity.as_bytes()),
            tile,
        })
    }

    /// Returns the ground of `tile` around the dry and level place nearest to its centre; around
    /// the centre itself if there is none.
    #[must_use]
    pub fn of(tile: Tile, content: ContentHash) -> Self {
        let (south, west) = tile.corner();
        let geo = |up: f64, right: f64| Geo {
            latitude: f64::from(south) + up,
            longitude: f64::from(west) + right,
        };
        let around = |tile: Tile, origin: Geo| {
            Self::around(tile, content, origin).expect("the origin was chosen inside the tile")
        };
        let middle = around(tile, geo(0.5, 0.5));
        let Some((column, row)) = middle.level_place() else { return middle };
        let samples = (middle.tile.edge() - 1) as f64;
        let origin = geo(1.0 - row as f64 / samples, column as f64 / samples);
        around(middle.tile, origin)
    }

    /// Returns the point on Earth under the world's origin.
    #[must_use]
    pub const fn origin(&self) -> Geo {
        self.origin
    }

    /// The sample nearest to the middle whose surroundings are dry and level.
    fn level_place(&self) -> Option<(i64, i64)> {
        let middle = self.tile.edge() as i64 / 2;
        // Rings of whole samples, nearest first; the tile's rim is left out.
        let rings = 0..middle - 8;
        rings.flat_map(move |ring| ring_around(middle, ring)).find(|&(column, row)| {
            let at = |right: f64, down: f64| {
                let column = column as f64 + right * self.columns_per_m;
                self.surface(column, row as f64 + down * self.rows_per_m).value
            };
            let reach = LEVEL_M;
            let here = at(0.0, 0.0);
            let around = [at(reach, 0.0), at(-reach, 0.0), at(0.0, reach), at(0.0, -reach)];
            let level = |height: &f64| (height - here).abs() <= reach * LEVEL_SLOPE;
            DRY_M <= here && around.iter().all(level)
        })
    }

    fn height_m(&self, x: f64, z: f64) -> f64 {
        let (column, row) = (self.column + x * self.columns_per_m, self.row + z * self.rows_per_m);
        let last = (self.tile.edge() - 1) as f64;
        let (inner_column, inner_row) = (column.clamp(0.0, last), row.clamp(0.0, last));
        let east = (column - inner_column) / self.columns_per_m;
        let south = (row - inner_row) / self.rows_per_m;
        let outside = (east * east + south * south).sqrt();
        if outside <= 0.0 {
            let mut land = self.surface(inner_column, inner_row);
            land.east *= self.columns_per_m;
            land.south *= self.rows_per_m;
            return land.value + self.detail(land, x, z);
        }
        let land = self.beyond(inner_column, inner_row, outside);
        land + self.beyond_detail(x, z, outside) * smoothstep(-OUTER_DEPTH_M, 10.0, land)
    }

    /// The smooth surface through the samples, with its slope per sample.
    fn surface(&self, column: f64, row: f64) -> Field {
        let (left, top) = (column.floor(), row.floor());
        let (along, along_slope) = cubic(column - left);
        let (down, down_slope) = cubic(row - top);
        let mut sum = Field::default();
        for (j, offset) in (-1..=2).enumerate() {
            let (mut line, mut line_slope) = (0.0, 0.0);
            for (i, right) in (-1..=2).enumerate() {
                let sample = self.tile.sample(left as i64 + right, top as i64 + offset);
                line += f64::from(sample) * along[i];
                line_slope += f64::from(sample) * along_slope[i];
            }
            sum.value += line * down[j];
            sum.east += line_slope * down[j];
            sum.south += line * down_slope[j];
        }
        sum
    }

    /// What the radar could not see: broken slopes and unevenness underfoot, none of it at the
    /// waterline and next to none on the square.
    fn detail(&self, land: Field, x: f64, z: f64) -> f64 {
        let steep = smoothstep(0.05, 0.7, land.steepness());
        let rocky = worn(stream(DETAIL_SEED, 1), x, z, 74.0, 4).value * 6.0 * steep;
        let bumps = worn(stream(DETAIL_SEED, 2), x, z, 31.0, 2).value * 0.2;
        let shore = smoothstep(0.2, 3.0, land.value.abs());
        let far = (x * x + z * z).sqrt();
        (rocky + bumps) * shore * (0.15 + 0.85 * smoothstep(SQUARE_M, SQUARE_BLEND_M, far))
    }

    /// Beyond the tile: the height of its rim, averaged ever wider, sinking to the sea.
    fn beyond(&self, column: f64, row: f64, outside: f64) -> f64 {
        const SPREAD: [f64; 5] = [-0.8, -0.4, 0.0, 0.4, 0.8];
        let last = (self.tile.edge() - 1) as f64;
        let taps = SPREAD.map(|share| {
            let reach = share * outside * self.rows_per_m;
            let along = (column + reach).clamp(0.0, last);
            let down = (row + reach).clamp(0.0, last);
            // One of the two coordinates is an edge; the other walks along it.
            let at_side = column <= 0.0 || last <= column;
            if at_side { self.surface(column, down).value } else { self.surface(along, row).value }
        });
        let rim = taps.iter().sum::<f64>() / SPREAD.len() as f64;
        let sunk = smoothstep(0.0, SHORE_M + SHORE_M_PER_M * rim.abs(), outside);
        rim + (-OUTER_DEPTH_M - rim) * sunk
    }

    fn beyond_detail(&self, x: f64, z: f64, outside: f64) -> f64 {
        let grown = smoothstep(0.0, 2_500.0, outside);
        let wide = waves(stream(DETAIL_SEED, 5), x, z, 900.0).value * 18.0;
        (wide + waves(stream(DETAIL_SEED, 6), x, z, 260.0).value * 4.0) * grown
    }
}

/// The samples `ring` away from the middle, in a fixed order.
fn ring_around(middle: i64, ring: i64) -> impl Iterator<Item = (i64, i64)> {
    (-ring..=ring).flat_map(move |along| {
        let sides = [(along, -ring), (along, ring), (-ring, along), (ring, along)];
        sides.map(|(right, down)| (middle + right, middle + down))
    })
}

/// Metres per degree northward and eastward at a latitude on the WGS 84 ellipsoid.
fn metres_per_degree(latitude: f64) -> (f64, f64) {
    let angle = latitude * core::f64::consts::PI / 180.0;
    let cosine = |times: f64| libm::cos(angle * times);
    let north = 111_132.92 - 559.82 * cosine(2.0) + 1.175 * cosine(4.0);
    let east = 111_412.84 * cosine(1.0) - 93.5 * cosine(3.0) + 0.118 * cosine(5.0);
    // At the pole a degree has no width; a metre keeps the division sound.
    (north, east.max(1.0))
}

impl Terrain for Survey {
    fn height_cm(&self, x_cm: i32, z_cm: i32) -> i32 {
        let metres = self.height_m(f64::from(x_cm) / 100.0, f64::from(z_cm) / 100.0);
        (metres * 100.0 + 0.5).floor() as i32
    }

    fn climate(&self) -> Climate {
        // Trees end near 4,000 m at the equator and at the sea at 70 degrees.
        let share = self.origin.latitude.abs() / 70.0;
        let tree_line_m = (4_000.0 * (1.0 - share * share)).max(30.0);
        Climate { seed: DETAIL_SEED, tree_line_m, snow_line_m: tree_line_m + 700.0 }
    }

    fn describe(&self) -> String {
        let side = |degrees: f64, positive: char, negative: char| {
            let sign = if degrees < 0.0 { negative } else { positive };
            format!("{:.4}{sign}", degrees.abs())
        };
        let Geo { latitude, longitude } = self.origin;
        let (north, east) = (side(latitude, 'N', 'S'), side(longitude, 'E', 'W'));
        format!("measured ground around {north} {east}")
    }

    fn fingerprint(&self) -> ContentHash {
        self.fingerprint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tile::tests::synthetic;

    fn tile() -> Tile {
        Tile::parse("N10E020.hgt", &synthetic()).expect("a tile")
    }

    fn survey(latitude: f64, longitude: f64) -> Survey {
        let hash = ContentHash::of(b"synthetic");
        Survey::around(tile(), hash, Geo { latitude, longitude }).expect("inside")
    }

    #[test]
    fn a_metre_is_a_metre() {
        // Known lengths of a degree: at the equator and at 45 degrees north.
        let check = |latitude: f64, north: f64, east: f64| {
            let (n, e) = metres_per_degree(latitude);
            assert!((n - north).abs() < 1.0 && (e - east).abs() < 1.0, "{n} {e}");
        };
        check(0.0, 110_574.3, 111_319.5);
        check(45.0, 111_131.8, 78_846.8);
        // Half the tile eastward rises by half the tile's columns.
        let survey = survey(10.5, 20.5);
        let half_degree_cm = (metres_per_degree(10.5).1 * 25.0) as i32;
        let rise = survey.height_cm(half_degree_cm, 30_000) - survey.height_cm(0, 30_000);
        assert!((rise - 15_000).abs() < 700, "{rise}");
    }

    #[test]
    fn the_sea_is_sea_and_stays_level_above_its_bed() {
        let survey = survey(10.5, 20.1);
        assert!(survey.height_cm(0, 0) < -3_000);
        let chunk = survey.chunk(protocol::ids::ChunkId { level: 0, x: 0, z: 0 });
        let bed = |chunk: crate::Chunk| {
            chunk.surface().iter().all(|&surface| surface == crate::Surface::Bed)
        };
        assert!(chunk.is_some_and(bed));
    }

    #[test]
    fn people_arrive_on_dry_and_level_ground() {
        // The middle of this tile is level enough; sea begins 200 samples to the west.
        let survey = Survey::of(tile(), ContentHash::of(b"synthetic"));
        let heights: Vec<i32> = (-8..=8)
            .flat_map(|x| (-8..=8).map(move |z| (x, z)))
            .map(|(x, z)| survey.height_cm(x * 1_000, z * 1_000))
            .collect();
        assert!(heights.iter().all(|height| (400..).contains(height)));
        let spread = heights.iter().max().unwrap() - heights.iter().min().unwrap();
        assert!(spread < 900, "{spread} cm");
    }

    #[test]
    fn beyond_the_tile_land_falls_gently_to_the_sea() {
        let survey = survey(10.5, 20.5);
        // From the tile's highest rim eastward for 40 km, in steps of 50 m.
        let (from_cm, step_cm) = ((metres_per_degree(10.5).1 * 50.0) as i32 - 10_000, 5_000);
        let heights: Vec<i32> =
            (0..800).map(|i| survey.height_cm(from_cm + i * step_cm, 30_000)).collect();
        assert!(heights[0] > 30_000 && heights[799] < -1_000);
        let steepest = heights.windows(2).map(|pair| pair[0].abs_diff(pair[1])).max();
        assert!(steepest < Some(1_500), "{steepest:?} cm in 50 m");
        for far in [i32::MIN, i32::MAX] {
            assert!(survey.height_cm(far, far) < 0);
        }
    }

    #[test]
    fn an_origin_outside_the_tile_is_refused() {
        let check = |latitude: f64, longitude: f64| {
            let origin = Geo { latitude, longitude };
            Survey::around(tile(), ContentHash::of(b""), origin)
                .map(|_| ())
                .map_err(|e| e.to_string())
        };
        assert_eq!(check(11.0, 21.0), Ok(()));
        let expected = "the origin 11.5, 20 lies outside the tile, which covers latitude 10 to 11 \
                        and longitude 20 to 21";
        assert_eq!(check(11.5, 20.0), Err(expected.to_owned()));
        assert!(check(f64::NAN, 20.0).is_err());
    }
}
