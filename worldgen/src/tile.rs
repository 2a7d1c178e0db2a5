//! One tile of measured elevation: parsed, its gaps filled, its sea given a bed.
//!
//! Owns the samples of one degree by one degree in the layout of the Shuttle Radar Topography
//! Mission: rows from north to south, big-endian 16-bit metres, -32768 where nothing was measured.
//! It knows nothing of files ([`io::dem`](crate::io::dem)) or of worlds ([`survey`](crate::survey)).

use std::collections::VecDeque;

/// What marks a sample that was not measured.
const VOID: i16 = -32_768;
/// Land on Earth lies between these heights in metres; anything else is a fault of the radar.
const MEASURED_M: std::ops::RangeInclusive<i16> = -500..=9_000;
/// Area of water from which on it is sea and not a fault, in shares of the tile: about 0.5 km2.
const SEA_SHARE: usize = 24_000;
/// The sea bed falls this much per metre from the shore ...
const BED_SLOPE: f32 = 0.03;
/// ... down to this depth in metres.
const BED_DEPTH_M: f32 = 45.0;
/// Least height of dry land: what the radar saw at or below 0 without being sea.
const LAND_M: f32 = 0.5;
/// Metres between rows of a tile with 1201 rows.
const METRES_PER_DEGREE: f32 = 111_120.0;
/// The widest gap a radar shadow leaves, halved, with room to spare.
const GAP_REACH_M: f32 = 8_000.0;
/// Rounds that smooth what was filled, at every layer of the filling.
const SMOOTHING_ROUNDS: usize = 12;

/// Bytes or a name that make no tile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTile {
    /// The name does not say where the tile lies.
    #[error(
        "\"{name}\" does not name a tile: expected its south-west corner first, such as N43E007.hgt"
    )]
    Name {
        /// Name given.
        name: String,
    },
    /// Neither of the two sizes there are.
    #[error(
        "a tile is 2884802 bytes (1201 x 1201 samples) or 25934402 bytes (3601 x 3601), not {got}"
    )]
    Size {
        /// Bytes given.
        got: usize,
    },
    /// Nothing was measured.
    #[error("the tile holds no measured sample")]
    Empty,
}

/// Elevation of one degree by one degree, without gaps.
#[derive(Clone, Debug)]
pub struct Tile {
    // 1201 or 3601.
    edge: usize,
    south: i32,
    west: i32,
    // Metres, row-major from the north-west; negative only under the sea.
    heights: Box<[f32]>,
}

impl Tile {
    /// Returns the tile that `bytes` hold; `name` begins with its south-west corner (`N43E007`).
    ///
    /// # Errors
    /// When the name or the size is not that of a tile, or nothing was measured.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, BadTile> {
        let (south, west) =
            corner(name).ok_or_else(|| BadTile::Name { name: name.chars().take(60).collect() })?;
        let edge = match bytes.len() {
            2_884_802 => 1_201,
            25_934_402 => 3_601,
            got => return Err(BadTile::Size { got }),
        };
        let heights = repaired(measured(bytes), edge).ok_or(BadTile::Empty)?;
        Ok(Self { edge, south, west, heights })
    }

    /// Returns whether `name` begins with a south-west corner, as a tile's name must.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        corner(name).is_some()
    }

    /// Returns the latitude and longitude of the south-west corner in whole degrees.
    #[must_use]
    pub const fn corner(&self) -> (i32, i32) {
        (self.south, self.west)
    }

    /// Returns how many samples lie along an edge.
    #[must_use]
    pub const fn edge(&self) -> usize {
        self.edge
    }

    /// Returns the height in metres of a sample counted from the north-west; indices past an edge
    /// give the edge.
    #[must_use]
    pub fn sample(&self, column: i64, row: i64) -> f32 {
        let last = self.edge as i64 - 1;
        let (column, row) = (column.clamp(0, last) as usize, row.clamp(0, last) as usize);
        self.heights[row * self.edge + column]
    }
}

fn corner(name: &str) -> Option<(i32, i32)> {
    let degrees = |sign: &str, positive: &str, negative: &str, digits: &str, max: i32| {
        let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
        let value: i32 = digits.parse().ok().filter(|value| all_digits && *value <= max)?;
        match sign.to_ascii_uppercase() {
            sign if sign == positive => Some(value),
            sign if sign == negative => Some(-value),
            _ => None,
        }
    };
    let south = degrees(name.get(0..1)?, "N", "S", name.get(1..3)?, 90)?;
    let west = degrees(name.get(3..4)?, "E", "W", name.get(4..7)?, 180)?;
    ((-90..90).contains(&south) && (-180..180).contains(&west)).then_some((south, west))
}

fn measured(bytes: &[u8]) -> Vec<Option<i16>> {
    let samples = bytes.chunks_exact(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]]));
    samples
        .map(|height| (height != VOID && MEASURED_M.contains(&height)).then_some(height))
        .collect()
}

/// What lies at a sample.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Land,
    Sea,
    Gap,
}

fn repaired(measured: Vec<Option<i16>>, edge: usize) -> Option<Box<[f32]>> {
    let mut kinds = kinds(&measured, edge);
    let is_gap: Vec<bool> = kinds.iter().map(|&kind| kind == Kind::Gap).collect();
    if is_gap.iter().all(|&gap| gap) {
        return None;
    }
    close_gaps(&mut kinds, edge);
    let known = measured.iter().zip(&kinds).map(|(height, kind)| match (kind, height) {
        (Kind::Sea, _) => Some(0.0),
        (_, Some(height)) => Some(f32::from(*height).max(LAND_M)),
        (_, None) => None,
    });
    let mut heights = filled(known.collect(), edge);
    let spacing = METRES_PER_DEGREE / (edge - 1) as f32;
    for (height, steps) in heights.iter_mut().zip(steps_to_shore(&kinds, edge)) {
        if 0.0 < steps {
            *height = -(steps * spacing * BED_SLOPE).min(BED_DEPTH_M);
        }
    }
    Some(heights.into_boxed_slice())
}

/// The samples beside `at`, fewer along the edges.
fn beside(at: usize, edge: usize) -> impl Iterator<Item = usize> {
    let (column, row) = (at % edge, at / edge);
    let west = (0 < column).then(|| at - 1);
    let east = (column + 1 < edge).then(|| at + 1);
    let north = (0 < row).then(|| at - edge);
    let south = (row + 1 < edge).then(|| at + edge);
    [west, east, north, south].into_iter().flatten()
}

/// Sorts samples into land, sea (wide water at or below 0) and gaps.
fn kinds(measured: &[Option<i16>], edge: usize) -> Vec<Kind> {
    let is_low = |at: usize| measured[at].is_some_and(|height| height <= 0);
    let least = measured.len() / SEA_SHARE;
    let mut kinds: Vec<Kind> =
        measured.iter().map(|h| if h.is_some() { Kind::Land } else { Kind::Gap }).collect();
    let mut seen = vec![false; measured.len()];
    let mut water = Vec::new();
    for start in 0..measured.len() {
        if seen[start] || !is_low(start) {
            continue;
        }
        water.clear();
        water.push(start);
        seen[start] = true;
        let mut next = 0;
        while let Some(&at) = water.get(next) {
            next += 1;
            for neighbour in beside(at, edge) {
                if is_low(neighbour) && !seen[neighbour] {
                    seen[neighbour] = true;
                    water.push(neighbour);
                }
            }
        }
        if least <= water.len() {
            for &at in &water {
                kinds[at] = Kind::Sea;
            }
        }
    }
    kinds
}

/// A gap is what its nearest measured sample is: gaps over water are sea. Far from any, nothing
/// is known at all, and the land ends there as it does at the tile's rim.
fn close_gaps(kinds: &mut [Kind], edge: usize) {
    let reach = (GAP_REACH_M * (edge - 1) as f32 / METRES_PER_DEGREE) as u32;
    let is_rim = |at: &usize| {
        kinds[*at] != Kind::Gap && beside(*at, edge).any(|near| kinds[near] == Kind::Gap)
    };
    let rim = (0..kinds.len()).filter(is_rim).map(|at| (at, 0));
    let mut frontier: VecDeque<(usize, u32)> = rim.collect();
    while let Some((at, steps)) = frontier.pop_front() {
        for near in beside(at, edge) {
            if kinds[near] == Kind::Gap {
                kinds[near] = if steps < reach { kinds[at] } else { Kind::Sea };
                frontier.push_back((near, steps + 1));
            }
        }
    }
}

/// Fills unknown heights from averages over ever wider squares, then smooths what was filled.
fn filled(known: Vec<Option<f32>>, edge: usize) -> Vec<f32> {
    let mut layers = vec![(known, edge)];
    while let Some((finer, width)) = layers.last()
        && 1 < *width
    {
        let coarser = (coarser(finer, *width), width.div_ceil(2));
        layers.push(coarser);
    }
    // The coarsest layer is one sample, the mean of all; from there each layer fills the finer.
    let mut heights: Vec<f32> = Vec::new();
    let mut width_above = 1;
    while let Some((layer, width)) = layers.pop() {
        let above = |at: usize| {
            let index = (at / width / 2) * width_above + (at % width) / 2;
            heights.get(index).copied().unwrap_or_default()
        };
        heights = layer.iter().enumerate().map(|(at, h)| h.unwrap_or_else(|| above(at))).collect();
        width_above = width;
        smooth(&mut heights, &layer, width);
    }
    heights
}

fn smooth(heights: &mut [f32], known: &[Option<f32>], width: usize) {
    let gaps: Vec<usize> = (0..known.len()).filter(|&at| known[at].is_none()).collect();
    for _ in 0..SMOOTHING_ROUNDS {
        for &at in &gaps {
            let around = beside(at, width).map(|near| (heights[near], 1.0));
            let (sum, count) = around.fold((0.0, 0.0), |(a, n), (b, one)| (a + b, n + one));
            if 0.0 < count {
                heights[at] = sum / count;
            }
        }
    }
}

fn coarser(finer: &[Option<f32>], width: usize) -> Vec<Option<f32>> {
    let half = width.div_ceil(2);
    let mean = |at: usize| {
        let (column, row) = (2 * (at % half), 2 * (at / half));
        let corners = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(right, down)| {
            let inside = column + right < width && row + down < width;
            inside.then(|| finer[(row + down) * width + column + right]).flatten()
        });
        let known: Vec<f32> = corners.into_iter().flatten().collect();
        (!known.is_empty()).then(|| known.iter().sum::<f32>() / known.len() as f32)
    };
    (0..half * half).map(mean).collect()
}

/// Distance of every sea sample from land in samples, 0 on land: two sweeps, right within 8 %.
fn steps_to_shore(kinds: &[Kind], edge: usize) -> Vec<f32> {
    const FAR: f32 = 1e6;
    const DIAGONAL: f32 = 1.414;
    let mut steps: Vec<f32> =
        kinds.iter().map(|&kind| if kind == Kind::Sea { FAR } else { 0.0 }).collect();
    let last = edge - 1;
    let relax = |steps: &mut [f32], at: usize, forward: bool| {
        let (column, row) = (at % edge, at / edge);
        // Seen from the other end, what lies before is what lies after.
        let (column, row) = if forward { (column, row) } else { (last - column, last - row) };
        let back = |by: usize| if forward { at - by } else { at + by };
        let mut least = steps[at];
        if 0 < column {
            least = least.min(steps[back(1)] + 1.0);
        }
        if 0 < row {
            least = least.min(steps[back(edge)] + 1.0);
            if 0 < column {
                least = least.min(steps[back(edge + 1)] + DIAGONAL);
            }
            if column < last {
                least = least.min(steps[back(edge - 1)] + DIAGONAL);
            }
        }
        steps[at] = least;
    };
    (0..kinds.len()).for_each(|at| relax(&mut steps, at, true));
    (0..kinds.len()).rev().for_each(|at| relax(&mut steps, at, false));
    steps
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A synthetic tile: sea in the west third, an island of gaps in it, hills with a gap in the
    /// east.
    pub(crate) fn synthetic() -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1_201 * 1_201 * 2);
        for row in 0..1_201_i32 {
            for column in 0..1_201_i32 {
                let wave = (row % 200 - 100).abs() / 4;
                let in_square = |c: i32, r: i32| (column - c).abs() < 20 && (row - r).abs() < 20;
                let height = match column {
                    _ if in_square(150, 150) || in_square(900, 900) => VOID,
                    ..400 => 0,
                    _ => ((column - 399) / 2 + wave) as i16,
                };
                bytes.extend(height.to_be_bytes());
            }
        }
        bytes
    }

    #[test]
    fn names_say_where_a_tile_lies() {
        let check = |name: &str, expected: Option<(i32, i32)>| assert_eq!(corner(name), expected);
        check("N43E007.hgt", Some((43, 7)));
        check("n48w125.hgt.zip", Some((48, -125)));
        check("S01E034.SRTMGL3.hgt.zip", Some((-1, 34)));
        check("N90E000", None);
        check("N43E180", None);
        check("N4aE007", None);
        check("N+3E007", None);
        check("X43E007", None);
        check("N43", None);
        check("N43E0\u{e9}7", None);
    }

    #[test]
    fn gaps_are_filled_from_what_is_around_them() {
        let tile = Tile::parse("N10E020.hgt", &synthetic()).expect("a tile");
        assert!(tile.heights.iter().all(|height| (-100.0..600.0).contains(height)));
        // Amid the hills, between the heights around the gap.
        let middle = tile.sample(900, 900);
        assert!((235.0..290.0).contains(&middle), "{middle}");
        let steps = (881..919).map(|c| (tile.sample(c, 900) - tile.sample(c + 1, 900)).abs());
        assert!(steps.fold(0.0, f32::max) < 12.0);
        // Amid the sea, sea.
        assert!(tile.sample(150, 150) <= -40.0);
    }

    #[test]
    fn the_sea_has_a_bed_and_the_land_is_dry() {
        let tile = Tile::parse("N10E020.hgt", &synthetic()).expect("a tile");
        assert!((-3.0..-2.0).contains(&tile.sample(399, 600)));
        assert!(LAND_M <= tile.sample(400, 600));
        assert!((tile.sample(0, 600) + BED_DEPTH_M).abs() < 0.01);
        assert_eq!(tile.sample(-50, 600), tile.sample(0, 600));
    }

    #[test]
    fn a_puddle_is_no_sea() {
        let mut bytes = synthetic();
        let at = 2 * (600 * 1_201 + 1_000);
        bytes[at..at + 2].copy_from_slice(&(-5_i16).to_be_bytes());
        let tile = Tile::parse("N10E020.hgt", &bytes).expect("a tile");
        assert_eq!(tile.sample(1_000, 600), LAND_M);
    }

    #[test]
    fn what_is_no_tile_is_refused() {
        let check = |name: &str, bytes: &[u8], expected: BadTile| {
            assert_eq!(Tile::parse(name, bytes).err(), Some(expected));
        };
        check("hills.hgt", &[], BadTile::Name { name: "hills.hgt".into() });
        check("N10E020.hgt", &[0; 10], BadTile::Size { got: 10 });
        let nothing = VOID.to_be_bytes().repeat(1_201 * 1_201);
        check("N10E020.hgt", &nothing, BadTile::Empty);
    }
}
