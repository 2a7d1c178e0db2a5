//! A map of the ground: shaded relief with water, as plain pixels.
//!
//! Owns the colours and the light. It is never asked to write a file; callers choose a format.

use protocol::units::Position;

use crate::chunk::Surface;
use crate::limits::MAP_PIXELS_MAX;
use crate::terrain::{Grid, Terrain};

/// A map was asked for that is too large or has no extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a map has 1 to {MAP_PIXELS_MAX} pixels of 1 to 4096 metres each")]
pub struct BadMap;

/// Returns the map around `centre` seen from above, north up, as `width` x `height` RGB pixels,
/// row by row from the north-west.
///
/// Ground beyond the range of a [`Position`] repeats its edge.
///
/// # Errors
/// When the map would have no pixels or more than [`MAP_PIXELS_MAX`], or a scale beyond 4,096.
pub fn render_map(
    terrain: &dyn Terrain,
    centre: Position,
    metres_per_pixel: u32,
    width: u32,
    height: u32,
) -> Result<Vec<u8>, BadMap> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || MAP_PIXELS_MAX < pixels || !(1..=4_096).contains(&metres_per_pixel) {
        return Err(BadMap);
    }
    // At most 4,096 m, which fits.
    let spacing_cm = (metres_per_pixel * 100).cast_signed();
    let first = |centre: i32, count: u32| {
        let west = i64::from(centre) - i64::from(count / 2) * i64::from(spacing_cm);
        i32::try_from(west).unwrap_or(i32::MIN)
    };
    let (west_cm, north_cm) = (first(centre.x, width), first(centre.z, height));
    let grid = Grid { west_cm, north_cm, spacing_cm, columns: width + 1, rows: height + 1 };
    let row_at = |row: u32| terrain.heights_cm(Grid { north_cm: grid.z(row), rows: 1, ..grid });
    let climate = terrain.climate();
    let mut rgb = Vec::with_capacity(pixels as usize * 3);
    let mut north = row_at(0);
    for row in 0..height {
        let south = row_at(row + 1);
        for column in 0..width as usize {
            let east_rise = f64::from(north[column + 1] - north[column]) / f64::from(spacing_cm);
            let south_rise = f64::from(south[column] - north[column]) / f64::from(spacing_cm);
            let slope = (east_rise * east_rise + south_rise * south_rise).sqrt();
            let surface =
                climate.surface((grid.x(column as u32), grid.z(row)), north[column], slope);
            rgb.extend(colour(surface, north[column], east_rise, south_rise));
        }
        north = south;
    }
    Ok(rgb)
}

fn colour(surface: Surface, height_cm: i32, east_rise: f64, south_rise: f64) -> [u8; 3] {
    let metres = f64::from(height_cm) / 100.0;
    if surface == Surface::Bed {
        // Light fades with depth: half of it every eight metres.
        let clear = 8.0 / (8.0 - metres);
        let shaded = blend([24.0, 62.0, 104.0], [120.0, 176.0, 186.0], clear);
        return shaded.map(|channel| channel as u8);
    }
    // Higher ground is paler, as in atlases.
    let pale = (metres / 1_800.0).clamp(0.0, 0.45);
    let shade = light(east_rise, south_rise);
    blend(base(surface), [205.0, 196.0, 176.0], pale)
        .map(|channel| (channel * shade).clamp(0.0, 255.0) as u8)
}

const fn base(surface: Surface) -> [f64; 3] {
    match surface {
        Surface::Bed => [24.0, 62.0, 104.0],
        Surface::Sand => [214.0, 199.0, 156.0],
        Surface::Grass => [137.0, 160.0, 94.0],
        Surface::Forest => [84.0, 117.0, 72.0],
        Surface::Scree => [157.0, 147.0, 127.0],
        Surface::Rock => [128.0, 121.0, 113.0],
        Surface::Snow => [240.0, 244.0, 248.0],
    }
}

fn blend(from: [f64; 3], to: [f64; 3], share: f64) -> [f64; 3] {
    [0, 1, 2].map(|i| from[i] + (to[i] - from[i]) * share)
}

/// Light from the north-west, 40 degrees high; 1 on level ground.
fn light(east_rise: f64, south_rise: f64) -> f64 {
    const LEVEL: f64 = 0.64;
    let facing = 0.54 * east_rise + 0.54 * south_rise + LEVEL;
    let length = (east_rise * east_rise + south_rise * south_rise + 1.0).sqrt();
    0.25 + 0.75 * (facing / length).max(0.0) / LEVEL
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seeded;

    #[test]
    fn a_map_has_its_pixels_and_shows_land_and_sea() {
        let rgb = render_map(&Seeded::new(1), Position::default(), 64, 120, 90).expect("fits");
        assert_eq!(rgb.len(), 120 * 90 * 3);
        let blue = rgb.chunks(3).filter(|pixel| pixel[0] + 20 < pixel[2]).count();
        assert!((500..9_000).contains(&blue), "{blue} of 10800 pixels are sea");
    }

    #[test]
    fn slopes_towards_the_light_are_brighter() {
        assert!(light(0.5, 0.5) > light(0.0, 0.0));
        assert!(light(-0.5, -0.5) < light(0.0, 0.0));
        assert!((light(0.0, 0.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn maps_without_bounds_are_refused() {
        let check = |scale, width, height| {
            let map = render_map(&Seeded::new(1), Position::default(), scale, width, height);
            assert_eq!(map, Err(BadMap));
        };
        check(0, 10, 10);
        check(1, 0, 10);
        check(1, 4_097, 4_096);
        check(1, u32::MAX, u32::MAX);
        check(4_097, 10, 10);
        let corner = Position::new(i32::MAX, 0, i32::MIN);
        assert!(render_map(&Seeded::new(1), corner, 4_096, 3, 3).is_ok());
    }
}
