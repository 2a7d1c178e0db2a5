//! How the world is divided: a square of regions, one shard each.
//!
//! The world's origin lies in the middle of the middle region, so that a village around it is
//! one shard's. Nothing here knows what is in a region.

use protocol::units::Position;

/// Which region, counted west to east, then north to south.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct RegionIndex(pub u16);

/// The division of a world into regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Regions {
    per_side: u16,
    width_cm: i32,
}

/// One region: a square of ground, the north and west edges included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Region {
    /// Its number.
    pub index: RegionIndex,
    /// Centimetres east of its west edge.
    pub west: i32,
    /// Centimetres south of its north edge.
    pub north: i32,
    /// Width in centimetres.
    pub width: i32,
}

impl Regions {
    /// Regions along one side of the world: 63 x 63 of them is more than one machine steps.
    pub const PER_SIDE_MAX: u16 = 63;
    /// Width of a region: 64 m at least, so that a ghost band fits.
    pub const WIDTH_CM_MIN: i32 = 6_400;
    /// Width of a region: 63 of 16 km stay well inside the range of centimetres.
    pub const WIDTH_CM_MAX: i32 = 1_600_000;

    /// Returns the division into `per_side` x `per_side` regions (made odd, so that one is in the
    /// middle), each `width_cm` wide; both are brought into range.
    #[must_use]
    pub fn new(per_side: u16, width_cm: i32) -> Self {
        Self {
            per_side: (per_side | 1).min(Self::PER_SIDE_MAX),
            width_cm: width_cm.clamp(Self::WIDTH_CM_MIN, Self::WIDTH_CM_MAX),
        }
    }

    /// Returns how many regions there are.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.per_side * self.per_side
    }

    /// Returns half the world's width in centimetres: no coordinate of ground is larger.
    #[must_use]
    pub fn half_width_cm(&self) -> i32 {
        i32::from(self.per_side) * self.width_cm / 2
    }

    /// Returns every region in order.
    pub fn iter(&self) -> impl Iterator<Item = Region> + '_ {
        (0..self.count()).map(|index| self.region(RegionIndex(index)))
    }

    /// Returns the region of an index below [`Self::count`].
    #[must_use]
    pub fn region(&self, index: RegionIndex) -> Region {
        let (column, row) = (index.0 % self.per_side, index.0 / self.per_side);
        let half = self.half_width_cm();
        Region {
            index,
            west: i32::from(column) * self.width_cm - half,
            north: i32::from(row) * self.width_cm - half,
            width: self.width_cm,
        }
    }

    /// Returns the region of a place; one beyond the world's edge belongs to the nearest.
    #[must_use]
    pub fn index_of(&self, place: Position) -> RegionIndex {
        let half = self.half_width_cm();
        let cell = |cm: i32| {
            let cell = cm.saturating_add(half).div_euclid(self.width_cm);
            u16::try_from(cell.clamp(0, i32::from(self.per_side) - 1)).unwrap_or(0)
        };
        RegionIndex(cell(place.z) * self.per_side + cell(place.x))
    }

    /// Returns the up to eight regions that touch this one, in order.
    #[must_use]
    pub fn neighbours(&self, index: RegionIndex) -> Vec<RegionIndex> {
        let side = i32::from(self.per_side);
        let (column, row) = (i32::from(index.0) % side, i32::from(index.0) / side);
        let around = (-1..=1).flat_map(|south| (-1..=1).map(move |east| (east, south)));
        around
            .filter(|&step| step != (0, 0))
            .map(|(east, south)| (column + east, row + south))
            .filter(|(column, row)| (0..side).contains(column) && (0..side).contains(row))
            .filter_map(|(column, row)| u16::try_from(row * side + column).ok())
            .map(RegionIndex)
            .collect()
    }
}

impl Region {
    /// Returns how far outside this region a place lies, in centimetres; 0 if it is inside.
    #[must_use]
    pub fn distance_cm(&self, place: Position) -> i32 {
        let beyond = |cm: i32, low: i32| {
            let (low, high) = (i64::from(low), i64::from(low) + i64::from(self.width));
            (low - i64::from(cm)).max(i64::from(cm) - high).max(0)
        };
        let distance = beyond(place.x, self.west).max(beyond(place.z, self.north));
        i32::try_from(distance).unwrap_or(i32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_is_in_the_middle_of_the_middle() {
        let regions = Regions::new(3, 100_000);
        let middle = regions.index_of(Position::default());
        assert_eq!(middle, RegionIndex(4));
        let region = regions.region(middle);
        assert_eq!((region.west, region.north, region.width), (-50_000, -50_000, 100_000));
        assert_eq!(regions.neighbours(middle).len(), 8);
        assert_eq!(
            regions.neighbours(RegionIndex(0)),
            [RegionIndex(1), RegionIndex(3), RegionIndex(4)]
        );
    }

    #[test]
    fn every_place_has_one_region_and_lies_in_it() {
        let regions = Regions::new(5, 6_400);
        for x in (-16_000..16_000).step_by(777) {
            for z in (-16_000..16_000).step_by(991) {
                let place = Position::new(x, 0, z);
                let index = regions.index_of(place);
                assert_eq!(regions.region(index).distance_cm(place), 0, "{place:?}");
            }
        }
    }

    #[test]
    fn beyond_the_edge_the_nearest_region_answers() {
        let regions = Regions::new(1, 10_000);
        let far = Position::new(i32::MAX, 0, i32::MIN);
        assert_eq!(regions.index_of(far), RegionIndex(0));
        assert!(regions.region(RegionIndex(0)).distance_cm(far) > 1_000_000);
    }

    #[test]
    fn an_even_division_gains_a_middle() {
        assert_eq!(Regions::new(2, 10_000).count(), 9);
        assert_eq!(Regions::new(0, 0), Regions::new(1, Regions::WIDTH_CM_MIN));
    }
}
