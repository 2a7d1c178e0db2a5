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

/// Height between two contour lines, in cm.
const CONTOUR_CM: i32 = 200;

type Colour = [u8; 3];

/// Where no ground is known.
const UNKNOWN: Colour = [38, 40, 46];
const PATH: Colour = [250, 240, 120];
const OWN: Colour = [255, 70, 50];
const PERSON: Colour = [60, 120, 255];
const THING: Colour = [245, 245, 235];
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
    /// The name of a person, nothing for a thing.
    pub name: Option<String>,
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
        for mark in self.marks.iter().filter(|mark| mark.name.is_none()) {
            canvas.dot(mark.at, 2, THING);
        }
        for mark in &self.marks {
            let Some(name) = &mark.name else { continue };
            canvas.dot(mark.at, 4, PERSON);
            canvas.label(mark.at, name);
        }
        if let Some(&here) = self.path.last() {
            canvas.dot(here, 5, OWN);
            canvas.label(here, "you");
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
        let spacing = canvas.width_cm / SIDE_PIXELS;
        for row in 0..SIDE_PIXELS {
            for column in 0..SIDE_PIXELS {
                let (x, z) = canvas.place(column, row);
                let Some((height, surface)) = self.sample(x, z) else { continue };
                // Half a metre apart at least, so that the centimetres of heights do not show.
                let reach = spacing.max(50);
                let east = self.sample(x + reach, z).map_or(height, |sample| sample.0);
                let south = self.sample(x, z + reach).map_or(height, |sample| sample.0);
                let light = light(f64::from(east - height), f64::from(south - height), reach);
                let next_east = self.sample(x + spacing.max(1), z).map_or(height, |next| next.0);
                let next_south = self.sample(x, z + spacing.max(1)).map_or(height, |next| next.0);
                let band = |cm: i32| cm.div_euclid(CONTOUR_CM);
                let is_line = band(height) != band(next_east) || band(height) != band(next_south);
                let light = if is_line { light * 0.82 } else { light };
                canvas.set(column, row, shaded(colour(surface, height), light));
            }
        }
    }

    /// Height and surface at a point in cm, between the samples.
    fn sample(&self, x: i32, z: i32) -> Option<(i32, Surface)> {
        let id = ChunkId::at(0, x, z);
        let chunk = self.chunks.get(&(id.x, id.z))?;
        let (west, north) = id.corner_cm();
        let (dx, dz) = (x - west, z - north);
        let height = chunk.grid().height_at(i64::from(dx) * 256, i64::from(dz) * 256, 0) / 256;
        let nearest =
            |cm: i32| usize::try_from((cm + 50) / 100).unwrap_or(0).min(CHUNK_SAMPLES - 1);
        let surface = chunk.surface().get(nearest(dz) * CHUNK_SAMPLES + nearest(dx)).copied()?;
        Some((i32::try_from(height).ok()?, surface))
    }
}

/// Light from the north-west onto a slope rising by so much over `reach_cm`.
fn light(east: f64, south: f64, reach_cm: i32) -> f64 {
    // Slopes are drawn thrice as steep: a meadow would be a sheet of paper otherwise.
    let (a, b) = (3.0 * east / f64::from(reach_cm), 3.0 * south / f64::from(reach_cm));
    // The normal (-a, 1, -b) and the light from north-west and above, both of length one.
    let towards_light = (a + b) * 0.5 + std::f64::consts::FRAC_1_SQRT_2;
    let facing = towards_light / (a * a + b * b + 1.0).sqrt();
    (0.35 + 0.92 * facing).clamp(0.25, 1.25)
}

const fn colour(surface: Surface, height_cm: i32) -> Colour {
    match surface {
        Surface::Bed if height_cm < -600 => [38, 84, 138],
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
}

impl Canvas {
    fn over((west, north, width_cm): (i32, i32, i32)) -> Self {
        let side = SIDE_PIXELS.unsigned_abs();
        let pixels = UNKNOWN.repeat((side * side) as usize);
        Self { west, north, width_cm, picture: Picture { width: side, height: side, pixels } }
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
    fn label(&mut self, at: Position, text: &str) {
        let (column, row) = self.pixel(at);
        let width = i32::try_from(2 * letters::width(text)).unwrap_or(0);
        // On the left where there is no room on the right.
        let left =
            if column + 10 + width < SIDE_PIXELS { column + 10 } else { column - 10 - width };
        self.text(left, row - 7, text);
    }

    fn text(&mut self, left: i32, top: i32, text: &str) {
        let dots: Vec<(i32, i32)> = letters::dots(text)
            .filter_map(|(right, down)| {
                Some((i32::try_from(2 * right).ok()?, i32::try_from(2 * down).ok()?))
            })
            .collect();
        for &(right, down) in &dots {
            for (x, z) in (-1..=2).flat_map(|x| (-1..=2).map(move |z| (x, z))) {
                self.set(left + right + x, top + down + z, INK);
            }
        }
        for &(right, down) in &dots {
            for (x, z) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                self.set(left + right + x, top + down + z, PAPER);
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
        self.text(left, bottom - 22, &format!("{metres} m"));
        self.text(SIDE_PIXELS - 34, 16, "N");
    }
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
        let ada = Mark { at: Position::new(2_000, 0, 0), name: Some("Ada".into()) };
        let stone = Mark { at: Position::new(-2_000, 0, 0), name: None };
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
        map.mark(vec![Mark { at: Position::new(i32::MIN, 0, i32::MAX), name: None }]);
        assert!(WIDTH_CM.contains(&map.bounds().2));
        assert_eq!(map.draw().pixels.len() as u32, 3 * SIDE_PIXELS.unsigned_abs().pow(2));
    }
}
