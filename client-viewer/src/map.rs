//! A picture of the world from above: shaded ground, who and what is there, and one's own path.
//!
//! Owns the pixels; where the ground comes from and where the picture goes is the caller's.

use std::collections::BTreeMap;

use protocol::ground::CHUNK_SAMPLES;
use protocol::ids::ChunkId;
use protocol::units::Position;
use worldgen::{Chunk, Surface};

use crate::letters;

/// Chunks drawn at most: 9 x 9 around the walker and some passed on the way.
const CHUNKS_MAX: usize = 256;

/// Steps of the path kept: an hour at 4 m a step.
const PATH_MAX: usize = 4_096;

/// How far apart steps of the path are, in cm.
const STEP_CM: u32 = 50;

/// Pixels of the longer side.
const SIDE_PIXELS: i32 = 960;

/// The least and the greatest width shown, in cm.
const WIDTH_CM: std::ops::RangeInclusive<i32> = 8_000..=120_000;

/// Ground shown around what is there, in cm.
const MARGIN_CM: i32 = 1_500;

/// Heights between two contour lines that a picture can have, in cm: round numbers of metres.
const CONTOURS_CM: [f64; 6] = [50.0, 100.0, 200.0, 500.0, 1_000.0, 5_000.0];

/// Contour lines of a picture: more would be a hatching.
const CONTOURS_MAX: f64 = 14.0;

/// The slope that is drawn as a steep one, as a multiple of the picture's mean slope.
const STEEP: f64 = 0.35;

/// Slopes are drawn up to so many times as steep: a meadow is no sheet of paper.
const RELIEF: std::ops::RangeInclusive<f64> = 1.0..=8.0;

type Colour = [u8; 3];

/// Where no ground is known.
const UNKNOWN: Colour = [38, 40, 46];
const PATH: Colour = [250, 240, 120];
const OWN: Colour = [255, 70, 50];
const PERSON: Colour = [60, 120, 255];
const THING: Colour = [245, 245, 235];
const PLANT: Colour = [34, 84, 40];
const FIXTURE: Colour = [150, 98, 56];
const INK: Colour = [15, 15, 20];
const PAPER: Colour = [250, 250, 245];

/// Rows of three bytes a pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Red, green, blue; the upper left corner first.
    pub pixels: Vec<u8>,
}

/// Somebody or something on the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Where.
    pub at: Position,
    /// What it is called.
    pub name: String,
    /// What it is.
    pub what: What,
}

/// What a mark stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Something to gather from.
    Plant,
    /// Something that can be carried.
    Thing,
    /// Something built.
    Fixture,
    /// Somebody.
    Person,
}

/// What there is to draw.
#[derive(Debug, Default)]
pub struct Map {
    chunks: BTreeMap<(i32, i32), Chunk>,
    path: Vec<Position>,
    marks: Vec<Mark>,
}

impl Map {
    /// Takes in ground; only the finest level is drawn.
    pub fn add_ground(&mut self, chunk: Chunk) {
        let ChunkId { level, x, z } = chunk.id();
        if level == 0 && self.chunks.len() < CHUNKS_MAX {
            self.chunks.insert((x, z), chunk);
        }
    }

    /// Notes where one is.
    pub fn tread(&mut self, at: Position) {
        let is_far = self.path.last().is_none_or(|last| !last.is_within(at, STEP_CM));
        if is_far && self.path.len() < PATH_MAX {
            self.path.push(at);
        }
    }

    /// Notes who and what is there, in place of what was noted before.
    pub fn mark(&mut self, marks: Vec<Mark>) {
        self.marks = marks;
    }

    /// Draws the picture.
    #[must_use]
    pub fn draw(&self) -> Picture {
        let mut canvas = Canvas::over(self.bounds());
        self.draw_ground(&mut canvas);
        for pair in self.path.windows(2) {
            if let [from, to] = *pair {
                canvas.line(from, to, PATH);
            }
        }
        let mut marks: Vec<&Mark> = self.marks.iter().collect();
        // People lie on top of what they stand among.
        marks.sort_by_key(|mark| mark.what);
        for mark in &marks {
            match mark.what {
                What::Plant => canvas.dot(mark.at, 5, PLANT),
                What::Thing => canvas.dot(mark.at, 2, THING),
                What::Fixture => canvas.dot(mark.at, 4, FIXTURE),
                What::Person => canvas.dot(mark.at, 4, PERSON),
            }
        }
        // People are written first: small names make room for them.
        for mark in marks.into_iter().rev() {
            match mark.what {
                What::Plant | What::Thing => {}
                What::Fixture => canvas.label(mark.at, &mark.name, 1),
                What::Person => canvas.label(mark.at, &mark.name, 2),
            }
        }
        if let Some(&here) = self.path.last() {
            canvas.dot(here, 5, OWN);
            canvas.label(here, "you", 2);
        }
        canvas.scale_bar();
        canvas.picture
    }

    /// North-west corner and width of a square around everything, in cm.
    fn bounds(&self) -> (i32, i32, i32) {
        let here = self.path.last().copied().unwrap_or_default();
        let places = self.path.iter().chain(self.marks.iter().map(|mark| &mark.at));
        let mut corners = [here.x, here.x, here.z, here.z];
        for place in places {
            // What is too far away for the picture does not shrink the rest.
            if !place.is_within(here, WIDTH_CM.end().unsigned_abs() / 2) {
                continue;
            }
            let [west, east, north, south] = corners;
            corners =
                [west.min(place.x), east.max(place.x), north.min(place.z), south.max(place.z)];
        }
        let [west, east, north, south] = corners;
        let longer = (east - west).max(south - north) + 2 * MARGIN_CM;
        let width = longer.clamp(*WIDTH_CM.start(), *WIDTH_CM.end());
        let centre = (west / 2 + east / 2, north / 2 + south / 2);
        (centre.0.saturating_sub(width / 2), centre.1.saturating_sub(width / 2), width)
    }

    fn draw_ground(&self, canvas: &mut Canvas) {
        let relief = self.relief(canvas);
        let spacing = (canvas.width_cm / SIDE_PIXELS).max(1);
        for row in 0..SIDE_PIXELS {
            for column in 0..SIDE_PIXELS {
                let (x, z) = canvas.place(column, row);
                let Some((height, surface)) = self.sample(x, z) else { continue };
                let (east, south) = self.slope(x, z, height);
                let light = light(east * relief.steepness, south * relief.steepness);
                let beside = |x, z| self.sample(x, z).map_or(height, |sample| sample.0);
                let band = |cm: f64| (cm / relief.contour_cm).floor();
                let is_line = band(height) != band(beside(x + spacing, z))
                    || band(height) != band(beside(x, z + spacing));
                let light = if is_line { light * 0.8 } else { light };
                canvas.set(column, row, shaded(colour(surface, height), light));
            }
        }
    }

    /// How steep this picture is to be drawn, and how far its contour lines are apart.
    fn relief(&self, canvas: &Canvas) -> Relief {
        const STEP: usize = 16;
        let (mut sum, mut count) = (0.0, 0.0);
        let (mut lowest, mut highest) = (f64::MAX, f64::MIN);
        for row in (0..SIDE_PIXELS).step_by(STEP) {
            for column in (0..SIDE_PIXELS).step_by(STEP) {
                let (x, z) = canvas.place(column, row);
                let Some((height, _)) = self.sample(x, z) else { continue };
                let (east, south) = self.slope(x, z, height);
                sum += east.hypot(south);
                count += 1.0;
                (lowest, highest) = (lowest.min(height), highest.max(height));
            }
        }
        let mean = sum / f64::max(count, 1.0);
        let steepness = (STEEP / mean.max(1e-6)).clamp(*RELIEF.start(), *RELIEF.end());
        let fits = |&apart: &f64| highest - lowest <= apart * CONTOURS_MAX;
        let contour_cm = CONTOURS_CM.into_iter().find(fits).unwrap_or(f64::MAX);
        Relief { steepness, contour_cm }
    }

    /// Rise per run to the east and to the south, over a metre: finer is noise.
    fn slope(&self, x: i32, z: i32, height: f64) -> (f64, f64) {
        let over = |x, z| self.sample(x, z).map_or(0.0, |sample| (sample.0 - height) / 100.0);
        (over(x + 100, z), over(x, z + 100))
    }

    /// Height and surface at a point in cm, between the samples.
    fn sample(&self, x: i32, z: i32) -> Option<(f64, Surface)> {
        let id = ChunkId::at(0, x, z);
        let chunk = self.chunks.get(&(id.x, id.z))?;
        let (west, north) = id.corner_cm();
        let (dx, dz) = (x - west, z - north);
        let height = chunk.grid().height_at(i64::from(dx) * 256, i64::from(dz) * 256, 0);
        let nearest =
            |cm: i32| usize::try_from((cm + 50) / 100).unwrap_or(0).min(CHUNK_SAMPLES - 1);
        let surface = chunk.surface().get(nearest(dz) * CHUNK_SAMPLES + nearest(dx)).copied()?;
        Some((height as f64 / 256.0, surface))
    }
}

/// How ground is drawn.
struct Relief {
    steepness: f64,
    contour_cm: f64,
}

/// Light from the north-west onto a slope of this rise per run to the east and to the south.
fn light(east: f64, south: f64) -> f64 {
    // The normal (-a, 1, -b) and the light from north-west and above, both of length one.
    let towards_light = (east + south) * 0.5 + std::f64::consts::FRAC_1_SQRT_2;
    let facing = towards_light / (east * east + south * south + 1.0).sqrt();
    (0.35 + 0.92 * facing).clamp(0.25, 1.25)
}

const fn colour(surface: Surface, height_cm: f64) -> Colour {
    match surface {
        Surface::Bed if height_cm < -600.0 => [38, 84, 138],
        Surface::Bed => [66, 124, 176],
        Surface::Sand => [214, 198, 148],
        Surface::Grass => [126, 168, 84],
        Surface::Forest => [74, 122, 62],
        Surface::Scree => [150, 140, 122],
        Surface::Rock => [128, 124, 120],
        Surface::Snow => [236, 240, 246],
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0..=255")]
fn shaded(colour: Colour, light: f64) -> Colour {
    colour.map(|part| (f64::from(part) * light).clamp(0.0, 255.0) as u8)
}

/// Pixels over a square of the world.
struct Canvas {
    west: i32,
    north: i32,
    width_cm: i32,
    picture: Picture,
    /// Left, top, right and bottom of what is written.
    written: Vec<[i32; 4]>,
}

impl Canvas {
    fn over((west, north, width_cm): (i32, i32, i32)) -> Self {
        let side = SIDE_PIXELS.unsigned_abs();
        let pixels = UNKNOWN.repeat((side * side) as usize);
        Self {
            west,
            north,
            width_cm,
            picture: Picture { width: side, height: side, pixels },
            written: Vec::new(),
        }
    }

    /// The place in cm under the middle of a pixel.
    fn place(&self, column: i32, row: i32) -> (i32, i32) {
        let along = |pixel: i32| {
            let cm = (2 * i64::from(pixel) + 1) * i64::from(self.width_cm);
            i32::try_from(cm / (2 * i64::from(SIDE_PIXELS))).unwrap_or(0)
        };
        (self.west.saturating_add(along(column)), self.north.saturating_add(along(row)))
    }

    /// The pixel over a place, which may lie outside.
    fn pixel(&self, at: Position) -> (i32, i32) {
        let along = |cm: i32, from: i32| {
            let pixel = (i64::from(cm) - i64::from(from)) * i64::from(SIDE_PIXELS);
            i32::try_from(pixel.div_euclid(i64::from(self.width_cm))).unwrap_or(-1)
        };
        (along(at.x, self.west), along(at.z, self.north))
    }

    fn set(&mut self, column: i32, row: i32, colour: Colour) {
        let inside = 0..SIDE_PIXELS;
        if !inside.contains(&column) || !inside.contains(&row) {
            return;
        }
        let index = (row * SIDE_PIXELS + column).unsigned_abs() as usize * 3;
        if let Some(pixel) = self.picture.pixels.get_mut(index..index + 3) {
            pixel.copy_from_slice(&colour);
        }
    }

    /// A filled circle with a dark rim.
    fn dot(&mut self, at: Position, radius: i32, colour: Colour) {
        let (column, row) = self.pixel(at);
        let rim = radius + 1;
        for down in -rim..=rim {
            for right in -rim..=rim {
                let square = right * right + down * down;
                if square <= radius * radius {
                    self.set(column + right, row + down, colour);
                } else if square <= rim * rim + 1 {
                    self.set(column + right, row + down, INK);
                }
            }
        }
    }

    fn line(&mut self, from: Position, to: Position, colour: Colour) {
        let ((x, z), (to_x, to_z)) = (self.pixel(from), self.pixel(to));
        let steps = (to_x - x).abs().max((to_z - z).abs()).clamp(1, 2 * SIDE_PIXELS);
        for step in 0..=steps {
            let (column, row) = (x + (to_x - x) * step / steps, z + (to_z - z) * step / steps);
            for (right, down) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                self.set(column + right, row + down, colour);
            }
        }
    }

    /// A name beside a dot: light letters with a dark rim, so that they read on any ground.
    fn label(&mut self, at: Position, text: &str, size: i32) {
        let (column, row) = self.pixel(at);
        let width = i32::try_from(letters::width(text)).unwrap_or(0).saturating_mul(size);
        // On the left where there is no room on the right.
        let right = column.saturating_add(10);
        let is_room = right.saturating_add(width) < SIDE_PIXELS;
        let left = if is_room { right } else { column.saturating_sub(10).saturating_sub(width) };
        let top = row.saturating_sub(3 * size + 1);
        let written = [left, top, left.saturating_add(width), top.saturating_add(8 * size)];
        // Of small names only those that can be read are written.
        if size == 1 && self.written.iter().any(|other| overlap(*other, written)) {
            return;
        }
        self.written.push(written);
        self.text(left, top, text, size);
    }

    fn text(&mut self, left: i32, top: i32, text: &str, size: i32) {
        let dots: Vec<(i32, i32)> = letters::dots(text)
            .filter_map(|(right, down)| {
                let right = i32::try_from(right).ok()?.checked_mul(size)?.checked_add(left)?;
                Some((right, i32::try_from(down).ok()?.checked_mul(size)?.checked_add(top)?))
            })
            .collect();
        for (reach, colour) in [(1, INK), (0, PAPER)] {
            for &(right, down) in &dots {
                for x in -reach..size + reach {
                    (-reach..size + reach).for_each(|z| self.set(right + x, down + z, colour));
                }
            }
        }
    }

    /// A bar of round length in the lower left corner.
    fn scale_bar(&mut self) {
        let metres = [10, 20, 50, 100, 200].into_iter().rev();
        let bar = |metres: i32| metres * 100 * SIDE_PIXELS / self.width_cm;
        let fitting = metres.map(|metres| (metres, bar(metres))).find(|bar| bar.1 <= 250);
        let Some((metres, length)) = fitting else { return };
        let (left, bottom) = (20, SIDE_PIXELS - 24);
        for right in -1..=length {
            for down in -2..=3 {
                let is_rim = right < 0 || right == length || !(-1..3).contains(&down);
                self.set(left + right, bottom + down, if is_rim { INK } else { PAPER });
            }
        }
        self.text(left, bottom - 22, &format!("{metres} m"), 2);
        self.text(SIDE_PIXELS - 34, 16, "N", 2);
    }
}

const fn overlap(a: [i32; 4], b: [i32; 4]) -> bool {
    let ([a_left, a_top, a_right, a_bottom], [b_left, b_top, b_right, b_bottom]) = (a, b);
    a_left <= b_right && b_left <= a_right && a_top <= b_bottom && b_top <= a_bottom
}

#[cfg(test)]
mod tests {
    use protocol::ground::HeightGrid;

    use super::*;

    fn hill() -> Chunk {
        let heights = (0..CHUNK_SAMPLES * CHUNK_SAMPLES).map(|i| {
            let (x, z) = ((i % CHUNK_SAMPLES) as i32 - 32, (i / CHUNK_SAMPLES) as i32 - 32);
            (1_000 - x * x - z * z).max(0)
        });
        let grid = HeightGrid::new(heights.collect()).expect("65 x 65");
        let grass = vec![Surface::Grass; CHUNK_SAMPLES * CHUNK_SAMPLES];
        Chunk::new(ChunkId { level: 0, x: 0, z: 0 }, grid, grass.into()).expect("a chunk")
    }

    fn colour_at(picture: &Picture, column: i32, row: i32) -> Colour {
        let index = (row * SIDE_PIXELS + column) as usize * 3;
        picture.pixels[index..index + 3].try_into().expect("three bytes")
    }

    #[test]
    fn a_hill_is_light_where_the_light_comes_from() {
        let mut map = Map::default();
        map.add_ground(hill());
        map.tread(Position::new(3_200, 0, 3_200));
        let picture = map.draw();
        let centre = SIDE_PIXELS / 2;
        let brightness = |off: i32| {
            let pixel = colour_at(&picture, centre + off, centre + off);
            pixel.iter().map(|&part| u32::from(part)).sum::<u32>()
        };
        assert!(brightness(100) < brightness(-100));
        assert_eq!(colour_at(&picture, 0, centre), UNKNOWN, "no ground is known there");
        assert_eq!(colour_at(&picture, centre, centre), OWN);
    }

    #[test]
    fn marks_stand_where_they_are() {
        let mut map = Map::default();
        map.tread(Position::default());
        let mark =
            |x, name: &str, what| Mark { at: Position::new(x, 0, 0), name: name.into(), what };
        let ada = mark(2_000, "Ada", What::Person);
        let stone = mark(-2_000, "stone", What::Thing);
        map.mark(vec![ada, stone]);
        let (west, _, width) = map.bounds();
        assert_eq!((west, width), (-4_000, 8_000));
        let picture = map.draw();
        assert_eq!(colour_at(&picture, 720, 480), PERSON);
        assert_eq!(colour_at(&picture, 240, 480), THING);
    }

    #[test]
    fn far_away_marks_and_long_paths_are_bounded() {
        let mut map = Map::default();
        for step in 0..20_000 {
            map.tread(Position::new(step * 100, 0, 0));
        }
        assert_eq!(map.path.len(), PATH_MAX);
        let at = Position::new(i32::MIN, 0, i32::MAX);
        map.mark(vec![Mark { at, name: "far".into(), what: What::Person }]);
        assert!(WIDTH_CM.contains(&map.bounds().2));
        assert_eq!(map.draw().pixels.len() as u32, 3 * SIDE_PIXELS.unsigned_abs().pow(2));
    }
}
