//! Phase 5, interest: who is near whom.
//!
//! A grid rebuilt each tick by counting sort answers "the `n` nearest to here" in about a
//! microsecond. It knows places and slots, nothing of what is in them.

use protocol::units::Position;

/// A place in the shard's entity table.
pub type Slot = u32;

/// Cells along one side: 256 x 256 counters of 4 bytes are rebuilt in some ten microseconds.
const SIDE_MAX: usize = 256;

/// Cells for each entity: a crowd gathers in a small part of a region, and shall find cells there
/// that tell its members apart.
const CELLS_EACH: usize = 32;

/// Bits of a slot in a [`Near`]: a thousand million entities.
const SLOT_BITS: u32 = 30;

/// How far anyone looks at most, in centimetres: its square fits beside a slot.
const REACH_CM_MAX: u32 = 131_071;

/// Somebody near a place: the squared distance in square centimetres, and below it the slot. Nearer
/// ones are less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Near(u64);

impl Near {
    /// Returns whose slot it is.
    #[must_use]
    pub const fn slot(self) -> Slot {
        (self.0 & ((1 << SLOT_BITS) - 1)) as Slot
    }

    /// Returns the squared distance in square centimetres.
    #[must_use]
    pub const fn squared(self) -> u64 {
        self.0 >> SLOT_BITS
    }
}

/// A grid over one region and its ghost band.
#[derive(Debug, Default)]
pub struct Grid {
    west: i32,
    north: i32,
    cell_cm: i32,
    side: usize,
    /// Start of each cell's run in the sorted arrays, with one past the end.
    starts: Vec<u32>,
    xs: Vec<i32>,
    zs: Vec<i32>,
    slots: Vec<Slot>,
    cells: Vec<u32>,
}

impl Grid {
    /// Sorts `places` into cells of the square that starts at (`west`, `north`).
    ///
    /// Places outside the square count to its edge cells. The result depends on the order of
    /// `places` alone.
    pub fn rebuild(
        &mut self,
        (west, north, width): (i32, i32, i32),
        places: impl Iterator<Item = (Slot, Position)> + Clone,
    ) {
        let count = places.clone().count();
        self.west = west;
        self.north = north;
        let wanted = (CELLS_EACH * count).isqrt().clamp(4, SIDE_MAX);
        self.side = wanted;
        self.cell_cm = (width / i32::try_from(wanted).unwrap_or(1)).max(1) + 1;
        self.starts.clear();
        self.starts.resize(wanted * wanted + 1, 0);
        self.cells.clear();
        for (_, place) in places.clone() {
            let cell = self.cell_of(place.x, place.z);
            self.starts[cell + 1] += 1;
            self.cells.push(u32::try_from(cell).unwrap_or(0));
        }
        for cell in 1..self.starts.len() {
            self.starts[cell] += self.starts[cell - 1];
        }
        self.xs.resize(count, 0);
        self.zs.resize(count, 0);
        self.slots.resize(count, 0);
        let mut next = self.starts.clone();
        for ((slot, place), &cell) in places.zip(&self.cells) {
            let at = next[cell as usize] as usize;
            next[cell as usize] += 1;
            self.xs[at] = place.x;
            self.zs[at] = place.z;
            self.slots[at] = slot;
        }
    }

    /// Collects into `found` the up to `count` slots nearest to (`x`, `z`) within `reach_cm`,
    /// nearest first; ties by slot.
    pub fn nearest(&self, (x, z): (i32, i32), count: usize, reach_cm: i32, found: &mut Vec<Near>) {
        let reach = u64::from(reach_cm.unsigned_abs().min(REACH_CM_MAX)).pow(2);
        // Seen from outside the grid no square of cells tells what is nearest.
        let is_inside = self.holds(x, self.west) && self.holds(z, self.north);
        let ring_max = (reach_cm / self.cell_cm.max(1) + 1).min(self.ring_limit());
        let mut ring = if is_inside { 0 } else { self.ring_limit() };
        // A square that holds a third more than are wanted mostly holds the nearest.
        while ring < ring_max && self.count_within(x, z, ring) < count + count / 3 {
            ring += 1 + ring / 4;
        }
        self.collect(x, z, (ring, reach), found);
        if found.len() <= count && ring < ring_max {
            // Some of those in the square are out of reach, and others in reach outside it.
            self.collect(x, z, (ring_max, reach), found);
            ring = ring_max;
        }
        if count < found.len() {
            let (_, last, _) = found.select_nth_unstable(count);
            let last = last.squared();
            // Nobody outside the square is nearer than the nearest cell outside it.
            let sure = u64::from((ring * self.cell_cm).unsigned_abs()).pow(2);
            if sure <= last && is_inside {
                let cells = last.isqrt() / u64::from(self.cell_cm.unsigned_abs().max(1)) + 1;
                let ring = i32::try_from(cells).unwrap_or(i32::MAX).min(self.ring_limit());
                self.collect(x, z, (ring, last), found);
                if count < found.len() {
                    found.select_nth_unstable(count);
                }
            }
            found.truncate(count);
        }
        found.sort_unstable();
    }

    /// Puts everyone within a square of cells and a squared distance into `found`.
    fn collect(&self, x: i32, z: i32, (ring, squared_max): (i32, u64), found: &mut Vec<Near>) {
        found.clear();
        self.each_run(x, z, ring, |start, end| {
            let places = self.xs[start..end].iter().zip(&self.zs[start..end]);
            for ((&at_x, &at_z), &slot) in places.zip(&self.slots[start..end]) {
                let (dx, dz) = (u64::from(at_x.abs_diff(x)), u64::from(at_z.abs_diff(z)));
                let squared = dx * dx + dz * dz;
                if squared <= squared_max {
                    found.push(Near(squared << SLOT_BITS | u64::from(slot)));
                }
            }
        });
    }

    fn holds(&self, cm: i32, low: i32) -> bool {
        let width = self.cell_cm.saturating_mul(self.ring_limit());
        (0..width).contains(&cm.saturating_sub(low))
    }

    fn ring_limit(&self) -> i32 {
        i32::try_from(self.side).unwrap_or(i32::MAX)
    }

    fn count_within(&self, x: i32, z: i32, ring: i32) -> usize {
        let mut held = 0;
        self.each_run(x, z, ring, |start, end| held += end - start);
        held
    }

    fn each_run(&self, x: i32, z: i32, ring: i32, mut visit: impl FnMut(usize, usize)) {
        if self.starts.len() < 2 {
            return;
        }
        let (column, row) = self.column_row(x, z);
        let ring = usize::try_from(ring).unwrap_or(0);
        let (first, last) = (column.saturating_sub(ring), (column + ring).min(self.side - 1));
        for row in row.saturating_sub(ring)..=(row + ring).min(self.side - 1) {
            let start = self.starts[row * self.side + first];
            let end = self.starts[row * self.side + last + 1];
            visit(start as usize, end as usize);
        }
    }

    fn cell_of(&self, x: i32, z: i32) -> usize {
        let (column, row) = self.column_row(x, z);
        row * self.side + column
    }

    fn column_row(&self, x: i32, z: i32) -> (usize, usize) {
        let along = |cm: i32, low: i32| {
            let cell = cm.saturating_sub(low) / self.cell_cm.max(1);
            usize::try_from(cell).unwrap_or(0).min(self.side - 1)
        };
        (along(x, self.west), along(z, self.north))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(places: &[Position], at: (i32, i32), count: usize, reach: i32) -> Vec<(u64, Slot)> {
        let here = Position::new(at.0, 0, at.1);
        let mut all: Vec<_> = places
            .iter()
            .enumerate()
            .map(|(slot, place)| (place.ground_distance_squared(here), slot as Slot))
            .filter(|&(squared, _)| squared <= u64::from(reach.unsigned_abs()).pow(2))
            .collect();
        all.sort_unstable();
        all.truncate(count);
        all
    }

    proptest! {
        #[test]
        fn the_grid_finds_what_a_plain_search_finds(
            places in prop::collection::vec((-5_000..5_000_i32, -5_000..5_000_i32), 0..400),
            crowd in prop::collection::vec((0..300_i32, 0..300_i32), 0..200),
            at in (-6_000..6_000_i32, -6_000..6_000_i32),
            count in 1_usize..80,
            reach in 100..12_000_i32,
        ) {
            let places: Vec<Position> =
                places.into_iter().chain(crowd).map(|(x, z)| Position::new(x, 0, z)).collect();
            let mut grid = Grid::default();
            let slots = places.iter().enumerate().map(|(slot, &place)| (slot as Slot, place));
            grid.rebuild((-5_000, -5_000, 10_000), slots);
            let mut found = Vec::new();
            grid.nearest(at, count, reach, &mut found);
            let found: Vec<_> = found.iter().map(|near| (near.squared(), near.slot())).collect();
            prop_assert_eq!(found, naive(&places, at, count, reach));
        }
    }

    #[test]
    fn who_is_near_but_in_the_next_cell_is_found_beside_some_who_are_out_of_reach() {
        let at = |x, z| Position::new(x, 0, z);
        let places = [at(450, 450), at(440, 450), at(450, 440), at(-480, 0)];
        let mut grid = Grid::default();
        let slots = places.iter().enumerate().map(|(slot, &place)| (slot as Slot, place));
        grid.rebuild((-5_000, -5_000, 10_000), slots);
        let mut found = Vec::new();
        grid.nearest((0, 0), 1, 500, &mut found);
        assert_eq!(found.iter().map(|near| near.slot()).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn an_empty_grid_finds_nothing() {
        let mut found = vec![Near(1)];
        Grid::default().nearest((0, 0), 4, 100, &mut found);
        assert!(found.is_empty());
    }
}
