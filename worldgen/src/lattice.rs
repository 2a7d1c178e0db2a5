//! Smooth land between lattice points, each of which is computed once.
//!
//! Owns the interpolation. Wide landforms cost a microsecond per point, and a walker's ground
//! needs a point per metre: they are computed every eight metres and joined by cubic curves.

use crate::noise::{Field, cubic};

/// Metres between lattice points: an eleventh of the finest landform interpolated here.
pub const SPACING_M: f64 = 8.0;
/// Lattice points remembered: 256 x 256, more than any chunk that gains from it.
const POINTS_MAX: i64 = 1 << 16;

/// A rectangle of lattice points of `land`, a function of metres east and south.
pub struct Lattice<F> {
    land: F,
    column: i64,
    row: i64,
    columns: i64,
    // Row-major; none where it was not needed yet.
    points: Vec<Option<Field>>,
}

impl<F: Fn(f64, f64) -> Field> Lattice<F> {
    /// Returns the lattice over a rectangle in metres. Too large a one remembers nothing, and
    /// gives the same land.
    #[must_use]
    pub fn over(land: F, west: f64, north: f64, east: f64, south: f64) -> Self {
        let first = |metres: f64| (metres / SPACING_M).floor() as i64 - 1;
        let (column, row) = (first(west), first(north));
        let (columns, rows) = (first(east) - column + 4, first(south) - row + 4);
        let count = columns.saturating_mul(rows);
        let fits = (0..=POINTS_MAX).contains(&count) && 0 < columns;
        let points = if fits { vec![None; count as usize] } else { Vec::new() };
        Self { land, column, row, columns, points }
    }

    /// Returns the land at a point in metres: its height on a smooth surface through the lattice
    /// points, its slope on average between them.
    pub fn at(&mut self, x: f64, z: f64) -> Field {
        let (x, z) = (x / SPACING_M, z / SPACING_M);
        let (left, top) = (x.floor(), z.floor());
        let (along, _) = cubic(x - left);
        let (down, _) = cubic(z - top);
        let (mut sum, mut slope) = (Field::default(), Field::default());
        for (j, row) in (-1..=2).enumerate() {
            for (i, column) in (-1..=2).enumerate() {
                // On a lattice line most weights are exactly 0, and their points are not needed.
                if along[i] == 0.0 || down[j] == 0.0 {
                    continue;
                }
                let point = self.point(left as i64 + column, top as i64 + row);
                sum.value += point.value * along[i] * down[j];
                let near = |offset: i64, t: f64| match offset {
                    0 => 1.0 - t,
                    1 => t,
                    _ => 0.0,
                };
                slope = slope + point * (near(column, x - left) * near(row, z - top));
            }
        }
        Field { value: sum.value, ..slope }
    }

    fn point(&mut self, column: i64, row: i64) -> Field {
        let (metres_east, metres_south) = (column as f64 * SPACING_M, row as f64 * SPACING_M);
        let (right, below) = (column - self.column, row - self.row);
        let inside = (0..self.columns).contains(&right) && 0 <= below;
        let index = usize::try_from(below * self.columns + right).ok().filter(|_| inside);
        match index.and_then(|index| self.points.get_mut(index)) {
            Some(point) => *point.get_or_insert_with(|| (self.land)(metres_east, metres_south)),
            None => (self.land)(metres_east, metres_south),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::waves;

    fn hills(x: f64, z: f64) -> Field {
        waves(9, x, z, 120.0) * 30.0
    }

    #[test]
    fn between_its_points_the_land_is_nearly_itself() {
        let mut lattice = Lattice::over(hills, -100.0, -100.0, 100.0, 100.0);
        for i in 0..200 {
            let (x, z) = (f64::from(i) - 100.0, f64::from(i * 7 % 200) - 100.0);
            let (here, true_here) = (lattice.at(x, z), hills(x, z));
            assert!((here.value - true_here.value).abs() < 0.05, "at {x}, {z}");
            assert!((here.east - true_here.east).abs() < 0.05, "at {x}, {z}");
        }
        assert_eq!(lattice.at(16.0, -64.0), hills(16.0, -64.0));
    }

    #[test]
    fn what_is_remembered_changes_nothing() {
        let mut small = Lattice::over(hills, 0.0, 0.0, 10.0, 10.0);
        let mut huge = Lattice::over(hills, 0.0, 0.0, 1e9, 1e9);
        assert!(huge.points.is_empty() && small.points.len() == 25);
        for i in -40..40 {
            let (x, z) = (f64::from(i) * 0.7, f64::from(i) * 0.3);
            assert_eq!(small.at(x, z), huge.at(x, z));
        }
    }
}
