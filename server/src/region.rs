//! How the world is divided: a square of regions, one shard each.
//!
//! A world begins as a grid of equal squares. Each of them can be split into its quarters, those
//! again, and four quarters merged: regions are the leaves of a quad-tree. Every region that comes
//! of a change has a number that none had before. The world's origin lies in the middle of the
//! middle square, so that a village around it is one shard's at first. Nothing here knows what is
//! in a region.

use std::collections::BTreeMap;
use std::sync::Arc;

use protocol::units::Position;
use rkyv::with::AsVec;
use serde::{Deserialize, Serialize};

/// Which region: those of the grid are counted west to east, then north to south, later ones as
/// they come.
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
    Serialize,
    Deserialize,
)]
#[rkyv(derive(PartialEq, Eq, PartialOrd, Ord))]
pub struct RegionIndex(pub u32);

/// Regions that are no more and are remembered: what other processes put out for them arrives
/// within a second or two, and a change takes as long.
const FORMER_MAX: usize = 64;

/// The division of a world into regions. A clone costs nothing.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Regions(Arc<Tree>);

#[derive(
    Clone,
    Debug,
    PartialEq,
    Eq,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
    Serialize,
    Deserialize,
)]
struct Tree {
    per_side: u16,
    width_cm: i32,
    /// How many changes led here.
    version: u32,
    /// The number of the next region.
    next: u32,
    /// The regions that there are: they cover the world, and none overlaps another.
    #[rkyv(with = AsVec)]
    #[serde(with = "as_rows")]
    leaves: BTreeMap<RegionIndex, Region>,
    /// The same by their north-west corners.
    #[rkyv(with = AsVec)]
    #[serde(skip)]
    corners: BTreeMap<Corner, RegionIndex>,
    /// Regions that were, oldest first.
    former: Vec<Region>,
}

/// West and north edge.
type Corner = (i32, i32);

/// One region: a square of ground, the north and west edges included.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
    Serialize,
    Deserialize,
)]
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

/// A wish to divide the world otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// This region becomes its four quarters.
    Split(RegionIndex),
    /// This quarter and its three siblings become one.
    Merge(RegionIndex),
}

/// How far regions may be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The smallest width of a region, in centimetres.
    pub width_cm_min: i32,
    /// The most regions there may be.
    pub count_max: usize,
}

/// A division and what it changes of the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redrawn {
    /// The division.
    pub regions: Regions,
    /// Which regions there are no more.
    pub gone: Vec<RegionIndex>,
    /// Which there are instead.
    pub new: Vec<RegionIndex>,
}

/// Why the world cannot be divided so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChange {
    /// There is no such region.
    #[error("the world has no region {0} (`ecumene shards` lists them)")]
    Unknown(u32),
    /// Its quarters would be too small.
    #[error(
        "the quarters of region {region} would be less than {width_m} m wide (shards.width_min_m), \
         or no whole centimetres"
    )]
    TooSmall {
        /// Which.
        region: u32,
        /// The smallest width, in metres.
        width_m: i32,
    },
    /// There are enough.
    #[error("there would be more than {0} regions (shards.count_max)")]
    TooMany(usize),
    /// It is no quarter of anything.
    #[error("region {0} is as large as they come (world.shard_width_m)")]
    Whole(u32),
    /// Of the four one is split itself.
    #[error("of the four quarters that region {0} is one of, some are split; merge those first")]
    Uneven(u32),
}

impl Regions {
    /// Regions along one side of a new world: 63 x 63 of them is more than one machine steps.
    pub const PER_SIDE_MAX: u16 = 63;
    /// Width of a region of the grid: 64 m at least.
    pub const WIDTH_CM_MIN: i32 = 6_400;
    /// Width of a region: 63 of 16 km stay well inside the range of centimetres.
    pub const WIDTH_CM_MAX: i32 = 1_600_000;
    /// Width of any region, also a quarter of a quarter: 32 m at least, more than the two margins
    /// in which avatars of its neighbours may stand.
    pub const QUARTER_CM_MIN: i32 = 3_200;

    /// Returns the division into `per_side` x `per_side` regions (made odd, so that one is in the
    /// middle), each `width_cm` wide; both are brought into range.
    #[must_use]
    pub fn new(per_side: u16, width_cm: i32) -> Self {
        let per_side = (per_side | 1).min(Self::PER_SIDE_MAX);
        let width = width_cm.clamp(Self::WIDTH_CM_MIN, Self::WIDTH_CM_MAX);
        let half = i32::from(per_side) * width / 2;
        let rows = (0..i32::from(per_side)).map(|row| row * width - half);
        let squares = rows.flat_map(|north| {
            (0..i32::from(per_side)).map(move |column| (column * width - half, north))
        });
        let leaves = (0..)
            .map(RegionIndex)
            .zip(squares)
            .map(|(index, (west, north))| (index, Region { index, west, north, width }));
        let next = u32::from(per_side) * u32::from(per_side);
        Self::grown(Tree {
            per_side,
            width_cm: width,
            version: 0,
            next,
            leaves: leaves.collect(),
            corners: BTreeMap::new(),
            former: Vec::new(),
        })
    }

    fn grown(mut tree: Tree) -> Self {
        let corners = tree.leaves.values().map(|leaf| ((leaf.west, leaf.north), leaf.index));
        tree.corners = corners.collect();
        Self(Arc::new(tree))
    }

    /// Returns how many regions there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.leaves.len()
    }

    /// Returns how many changes led to this division.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.0.version
    }

    /// Returns whether this and another division began as the same grid.
    #[must_use]
    pub fn is_of_same_grid(&self, other: &Self) -> bool {
        (self.0.per_side, self.0.width_cm) == (other.0.per_side, other.0.width_cm)
    }

    /// Returns half the world's width in centimetres: no coordinate of ground is larger.
    #[must_use]
    pub fn half_width_cm(&self) -> i32 {
        i32::from(self.0.per_side) * self.0.width_cm / 2
    }

    /// Returns every region by number.
    pub fn iter(&self) -> impl Iterator<Item = Region> + '_ {
        self.0.leaves.values().copied()
    }

    /// Returns every region's number, in order.
    pub fn indices(&self) -> impl Iterator<Item = RegionIndex> + '_ {
        self.0.leaves.keys().copied()
    }

    /// Returns a region; nothing if there is none of that number, or no more.
    #[must_use]
    pub fn region(&self, index: RegionIndex) -> Option<Region> {
        self.0.leaves.get(&index).copied()
    }

    /// Returns whether a number was ever given to a region.
    #[must_use]
    pub fn has_given(&self, index: RegionIndex) -> bool {
        index.0 < self.0.next
    }

    /// Returns the region of a place; one beyond the world's edge belongs to the nearest.
    #[must_use]
    pub fn index_of(&self, place: Position) -> RegionIndex {
        let tree = &*self.0;
        let half = self.half_width_cm();
        let cell = |cm: i32| {
            let cell = cm.saturating_add(half).div_euclid(tree.width_cm);
            cell.clamp(0, i32::from(tree.per_side) - 1) * tree.width_cm - half
        };
        let (mut west, mut north, mut width) = (cell(place.x), cell(place.z), tree.width_cm);
        // Each turn halves the width.
        while 0 < width {
            let leaf = tree.corners.get(&(west, north)).and_then(|leaf| tree.leaves.get(leaf));
            if let Some(leaf) = leaf.filter(|leaf| leaf.width == width) {
                return leaf.index;
            }
            width /= 2;
            west += if west + width <= place.x { width } else { 0 };
            north += if north + width <= place.z { width } else { 0 };
        }
        // Regions cover the world: only a damaged division gets here.
        tree.leaves.keys().next().copied().unwrap_or_default()
    }

    /// Returns the regions within `reach_cm` of this one, in order; those that touch it always are.
    #[must_use]
    pub fn neighbours(&self, of: Region, reach_cm: i32) -> Vec<Region> {
        let is_near = |other: &Region| other.index != of.index && other.gap_cm(of) <= reach_cm;
        self.iter().filter(is_near).collect()
    }

    /// Returns who has the place of a region now, which may be no more; nothing if there never was
    /// such a region, or long ago.
    #[must_use]
    pub fn heir(&self, index: RegionIndex, place: Position) -> Option<RegionIndex> {
        if self.0.leaves.contains_key(&index) {
            return Some(index);
        }
        let was = self.former(index)?;
        Some(self.index_of(was.nearest(place)))
    }

    /// Returns all who have something of a region now, which may be no more.
    #[must_use]
    pub fn heirs(&self, index: RegionIndex) -> Vec<Region> {
        if let Some(region) = self.region(index) {
            return vec![region];
        }
        let Some(was) = self.former(index) else { return Vec::new() };
        self.iter().filter(|region| region.overlaps(was)).collect()
    }

    /// Returns a region that is no more, if it was not long ago.
    #[must_use]
    pub fn former(&self, index: RegionIndex) -> Option<Region> {
        self.0.former.iter().find(|region| region.index == index).copied()
    }

    /// Returns this division with a change.
    ///
    /// # Errors
    /// [`BadChange`]; whoever wants it is at fault.
    pub fn redrawn(&self, change: Change, bounds: Bounds) -> Result<Redrawn, BadChange> {
        match change {
            Change::Split(index) => self.split(index, bounds),
            Change::Merge(index) => self.merge(index),
        }
    }

    fn split(&self, index: RegionIndex, bounds: Bounds) -> Result<Redrawn, BadChange> {
        let whole = self.region(index).ok_or(BadChange::Unknown(index.0))?;
        let half = whole.width / 2;
        if whole.width % 2 != 0 || half < bounds.width_cm_min.max(Self::QUARTER_CM_MIN) {
            let width_m = bounds.width_cm_min.max(Self::QUARTER_CM_MIN) / 100;
            return Err(BadChange::TooSmall { region: index.0, width_m });
        }
        if bounds.count_max < self.count() + 3 {
            return Err(BadChange::TooMany(bounds.count_max));
        }
        let corners = [(0, 0), (half, 0), (0, half), (half, half)];
        let quarters = corners.map(|(east, south)| Region {
            index,
            west: whole.west + east,
            north: whole.north + south,
            width: half,
        });
        Ok(self.with(&[whole], &quarters))
    }

    fn merge(&self, index: RegionIndex) -> Result<Redrawn, BadChange> {
        let quarter = self.region(index).ok_or(BadChange::Unknown(index.0))?;
        let whole = self.parent(quarter).ok_or(BadChange::Whole(index.0))?;
        let inside: Vec<Region> = self.iter().filter(|region| region.overlaps(whole)).collect();
        if inside.iter().any(|region| region.width != quarter.width) {
            return Err(BadChange::Uneven(index.0));
        }
        Ok(self.with(&inside, &[whole]))
    }

    /// Returns the square that a region is a quarter of, under its own number.
    #[must_use]
    pub fn parent(&self, quarter: Region) -> Option<Region> {
        let width = 2 * quarter.width;
        if self.0.width_cm < width {
            return None;
        }
        let half = self.half_width_cm();
        let align = |cm: i32| {
            let from_edge = cm + half;
            let in_cell = from_edge.rem_euclid(self.0.width_cm);
            cm - in_cell % width
        };
        Some(Region { west: align(quarter.west), north: align(quarter.north), width, ..quarter })
    }

    fn with(&self, gone: &[Region], new: &[Region]) -> Redrawn {
        let mut tree = Tree::clone(&self.0);
        tree.version += 1;
        for region in gone {
            tree.leaves.remove(&region.index);
        }
        tree.former.extend(gone);
        let old = tree.former.len().saturating_sub(FORMER_MAX);
        tree.former.drain(..old);
        let mut indices = Vec::with_capacity(new.len());
        for &region in new {
            let index = RegionIndex(tree.next);
            tree.next += 1;
            tree.leaves.insert(index, Region { index, ..region });
            indices.push(index);
        }
        let gone = gone.iter().map(|region| region.index).collect();
        Redrawn { regions: Self::grown(tree), gone, new: indices }
    }
}

impl Serialize for Regions {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Regions {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let regions = Self::grown(Tree::deserialize(deserializer)?);
        regions.check().map_err(serde::de::Error::custom)
    }
}

/// A division that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("squares that are no division of a world")]
pub struct BadDivision;

impl Regions {
    /// Returns this division, which came from outside, if its regions cover the world.
    ///
    /// # Errors
    /// [`BadDivision`]; whoever wrote it is at fault.
    pub fn check(self) -> Result<Self, BadDivision> {
        let tree = &*self.0;
        let is_grid = (1..=Self::PER_SIDE_MAX).contains(&tree.per_side)
            && tree.per_side % 2 == 1
            && (Self::WIDTH_CM_MIN..=Self::WIDTH_CM_MAX).contains(&tree.width_cm);
        // Each leaf answers for its own corners, so none overlaps another; together they are as
        // large as the world, so nothing is left out.
        let answers = |leaf: &Region| {
            let (east, south) = (leaf.west + leaf.width - 1, leaf.north + leaf.width - 1);
            [(leaf.west, leaf.north), (east, south)]
                .map(|(x, z)| self.index_of(Position::new(x, 0, z)))
                .iter()
                .all(|&index| index == leaf.index)
        };
        let is_leaf = |(&index, leaf): (&RegionIndex, &Region)| {
            index == leaf.index
                && index.0 < tree.next
                && (1..=tree.width_cm).contains(&leaf.width)
                && leaf.west.unsigned_abs().max(leaf.north.unsigned_abs()) <= i32::MAX as u32 / 2
                && answers(leaf)
        };
        let area = |width: i32| i128::from(width) * i128::from(width);
        let is_whole = is_grid
            && tree.former.len() <= FORMER_MAX
            && tree.corners.len() == tree.leaves.len()
            && tree.leaves.iter().all(is_leaf)
            && tree.leaves.values().map(|leaf| area(leaf.width)).sum::<i128>()
                == area(i32::from(tree.per_side)) * area(tree.width_cm);
        if is_whole { Ok(self) } else { Err(BadDivision) }
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

    /// Returns how much ground lies between this region and another, in centimetres along the
    /// wider side of it; 0 if they touch.
    #[must_use]
    pub fn gap_cm(&self, other: Self) -> i32 {
        let apart = |low: i32, other_low: i32| {
            let high = i64::from(low) + i64::from(self.width);
            let other_high = i64::from(other_low) + i64::from(other.width);
            (i64::from(other_low) - high).max(i64::from(low) - other_high).max(0)
        };
        let gap = apart(self.west, other.west).max(apart(self.north, other.north));
        i32::try_from(gap).unwrap_or(i32::MAX)
    }

    /// Returns whether this region and another have ground in common.
    #[must_use]
    pub fn overlaps(&self, other: Self) -> bool {
        let meet = |low: i32, other_low: i32| {
            i64::from(low) < i64::from(other_low) + i64::from(other.width)
                && i64::from(other_low) < i64::from(low) + i64::from(self.width)
        };
        meet(self.west, other.west) && meet(self.north, other.north)
    }

    /// Returns the place in this region that is nearest to `place`.
    #[must_use]
    pub fn nearest(&self, place: Position) -> Position {
        let last = self.width.saturating_sub(1).max(0);
        let within = |cm: i32, low: i32| cm.clamp(low, low.saturating_add(last));
        Position { x: within(place.x, self.west), z: within(place.z, self.north), ..place }
    }
}

/// Writes regions as a list: the keys of a JSON object are no numbers.
mod as_rows {
    use super::{BTreeMap, Deserialize, Region, RegionIndex, Serialize};

    pub(super) fn serialize<S: serde::Serializer>(
        leaves: &BTreeMap<RegionIndex, Region>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        leaves.values().collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<RegionIndex, Region>, D::Error> {
        let rows = Vec::<Region>::deserialize(deserializer)?;
        Ok(rows.into_iter().map(|region| (region.index, region)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds { width_cm_min: 0, count_max: 40 };

    fn at(x: i32, z: i32) -> Position {
        Position::new(x, 0, z)
    }

    fn near(regions: &Regions, index: u32) -> Vec<u32> {
        let region = regions.region(RegionIndex(index)).expect("a region");
        regions.neighbours(region, 0).iter().map(|region| region.index.0).collect()
    }

    fn redrawn(regions: &Regions, change: Change) -> Redrawn {
        regions.redrawn(change, BOUNDS).expect("it can be")
    }

    #[test]
    fn the_origin_is_in_the_middle_of_the_middle() {
        let regions = Regions::new(3, 100_000);
        let middle = regions.index_of(Position::default());
        assert_eq!(middle, RegionIndex(4));
        let region = regions.region(middle).expect("the middle");
        assert_eq!((region.west, region.north, region.width), (-50_000, -50_000, 100_000));
        assert_eq!(near(&regions, 4).len(), 8);
        assert_eq!(near(&regions, 0), [1, 3, 4]);
        assert_eq!(regions.neighbours(regions.region(RegionIndex(0)).unwrap(), 100_000).len(), 8);
    }

    #[test]
    fn every_place_has_one_region_and_lies_in_it() {
        let regions = Regions::new(5, 6_400);
        for x in (-16_000..16_000).step_by(777) {
            for z in (-16_000..16_000).step_by(991) {
                let region = regions.region(regions.index_of(at(x, z))).expect("a region");
                assert_eq!(region.distance_cm(at(x, z)), 0, "{x}, {z}");
            }
        }
    }

    #[test]
    fn beyond_the_edge_the_nearest_region_answers() {
        let regions = Regions::new(1, 10_000);
        let far = at(i32::MAX, i32::MIN);
        assert_eq!(regions.index_of(far), RegionIndex(0));
        assert!(regions.region(RegionIndex(0)).unwrap().distance_cm(far) > 1_000_000);
        let quarters = redrawn(&regions, Change::Split(RegionIndex(0))).regions;
        assert_eq!(quarters.index_of(far), RegionIndex(2), "the north-eastern one");
    }

    #[test]
    fn an_even_division_gains_a_middle() {
        assert_eq!(Regions::new(2, 10_000).count(), 9);
        assert_eq!(Regions::new(0, 0), Regions::new(1, Regions::WIDTH_CM_MIN));
    }

    #[test]
    fn a_region_that_is_split_and_merged_covers_the_same_ground_under_another_number() {
        let regions = Regions::new(3, 12_800);
        let split = redrawn(&regions, Change::Split(RegionIndex(4)));
        assert_eq!((split.regions.count(), split.gone), (12, vec![RegionIndex(4)]));
        assert_eq!(split.new, [9, 10, 11, 12].map(RegionIndex));
        assert_eq!(near(&split.regions, 9), [0, 1, 3, 10, 11, 12]);
        assert_eq!(split.regions.index_of(at(-1, -1)), RegionIndex(9));
        assert_eq!(split.regions.index_of(at(0, -1)), RegionIndex(10));
        assert_eq!(split.regions.index_of(at(0, 0)), RegionIndex(12));
        let merged = redrawn(&split.regions, Change::Merge(RegionIndex(11)));
        assert_eq!((merged.gone, merged.new), (split.new, vec![RegionIndex(13)]));
        let (was, is) = (regions.region(RegionIndex(4)), merged.regions.region(RegionIndex(13)));
        assert_eq!(is, was.map(|was| Region { index: RegionIndex(13), ..was }));
        // What is still said to those who were reaches those who are.
        assert_eq!(merged.regions.heir(RegionIndex(4), at(9, 9)), Some(RegionIndex(13)));
        assert_eq!(split.regions.heir(RegionIndex(4), at(-99_999, 9)), Some(RegionIndex(11)));
        assert_eq!(split.regions.heir(RegionIndex(3), at(9, 9)), Some(RegionIndex(3)));
        assert_eq!(split.regions.heir(RegionIndex(99), at(9, 9)), None);
        assert_eq!(split.regions.heirs(RegionIndex(4)).len(), 4);
        assert!(merged.regions.has_given(RegionIndex(4)));
        assert!(!merged.regions.has_given(RegionIndex(14)));
    }

    #[test]
    fn what_cannot_be_divided_says_why() {
        let regions = Regions::new(1, 12_800);
        let refused = |regions: &Regions, change, bounds| regions.redrawn(change, bounds).err();
        let (zero, one) = (RegionIndex(0), RegionIndex(1));
        let unknown = Some(BadChange::Unknown(7));
        assert_eq!(refused(&regions, Change::Split(RegionIndex(7)), BOUNDS), unknown);
        assert_eq!(refused(&regions, Change::Merge(zero), BOUNDS), Some(BadChange::Whole(0)));
        let few = Bounds { count_max: 3, ..BOUNDS };
        assert_eq!(refused(&regions, Change::Split(zero), few), Some(BadChange::TooMany(3)));
        let wide = Bounds { width_cm_min: 6_401, ..BOUNDS };
        let small = Some(BadChange::TooSmall { region: 0, width_m: 64 });
        assert_eq!(refused(&regions, Change::Split(zero), wide), small);
        let split = redrawn(&regions, Change::Split(zero)).regions;
        let twice = redrawn(&split, Change::Split(RegionIndex(2))).regions;
        assert_eq!(refused(&twice, Change::Merge(one), BOUNDS), Some(BadChange::Uneven(1)));
        let small = Some(BadChange::TooSmall { region: 5, width_m: 32 });
        assert_eq!(refused(&twice, Change::Split(RegionIndex(5)), BOUNDS), small);
    }

    proptest! {
        #[test]
        fn however_it_is_divided_regions_cover_the_world_and_read_back(
            wishes in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..40),
            places in prop::collection::vec((-70_000..70_000_i32, -70_000..70_000_i32), 20),
        ) {
            let mut regions = Regions::new(3, 25_600);
            let mut given: Vec<RegionIndex> = regions.indices().collect();
            for (splits, which) in wishes {
                let all: Vec<RegionIndex> = regions.indices().collect();
                let index = all[which.index(all.len())];
                let change = if splits { Change::Split(index) } else { Change::Merge(index) };
                let Ok(drawn) = regions.redrawn(change, BOUNDS) else { continue };
                prop_assert!(drawn.new.iter().all(|new| !given.contains(new)));
                given.extend(&drawn.new);
                for gone in drawn.gone {
                    prop_assert!(drawn.new.contains(&drawn.regions.heir(gone, at(0, 0)).unwrap()));
                }
                regions = drawn.regions.check().expect("a division");
                for &(x, z) in &places {
                    let region = regions.region(regions.index_of(at(x, z))).expect("a region");
                    let inside = regions.iter().filter(|it| it.distance_cm(at(x, z)) == 0);
                    prop_assert!(inside.count() == 0 || region.distance_cm(at(x, z)) == 0);
                }
            }
            let text = serde_json::to_string(&regions).expect("plain data");
            prop_assert_eq!(serde_json::from_str::<Regions>(&text).expect("a division"), regions);
        }
    }

    #[test]
    fn squares_that_do_not_cover_the_world_are_no_division() {
        let regions = redrawn(&Regions::new(1, 12_800), Change::Split(RegionIndex(0))).regions;
        let good = serde_json::to_string(&regions).expect("plain data");
        for (from, to) in [
            (r#""west":0,"north":0,"width":6400"#, r#""west":0,"north":0,"width":3200"#),
            (r#""west":0,"north":0,"#, r#""west":0,"north":-6400,"#),
            (r#""next":5"#, r#""next":4"#),
            (r#""width_cm":12800"#, r#""width_cm":0"#),
            (r#""per_side":1"#, r#""per_side":3"#),
        ] {
            assert!(good.contains(from), "{from} in {good}");
            let bad = good.replacen(from, to, 1);
            assert!(serde_json::from_str::<Regions>(&bad).is_err(), "{bad}");
        }
    }
}
