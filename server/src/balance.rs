//! When regions are split and merged by themselves: by the load of their steps, seconds long.
//!
//! A region that has just come to be is measured anew for a whole window before anything happens to
//! it, so changes never chase each other. It reads no clock and changes nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use protocol::units::Tick;

use crate::region::{Bounds, Change, Region, RegionIndex, Regions};

/// What is too much, and what is little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A region is split whose steps take more than this of a tick's time, in thousandths.
    pub split_permille: u32,
    /// Four quarters are merged whose steps take less than this together.
    pub merge_permille: u32,
    /// Seconds for which that must be so.
    pub window_s: usize,
}

/// What the steps of one region took.
#[derive(Debug, Default)]
struct Load {
    /// In this second.
    took: Duration,
    steps: u32,
    /// In each of the last seconds, in thousandths of the time.
    seconds: VecDeque<u32>,
}

/// What the steps of all regions took lately.
#[derive(Debug, Default)]
pub struct Balance {
    loads: BTreeMap<RegionIndex, Load>,
    second: u64,
}

impl Balance {
    /// Takes note of what a step took.
    pub fn note(&mut self, region: RegionIndex, took: Duration) {
        let load = self.loads.entry(region).or_default();
        load.took += took;
        load.steps += 1;
    }

    /// Forgets what was measured: nobody goes by it.
    pub fn forget(&mut self) {
        self.loads.clear();
    }

    /// Returns what to change at `tick`, if anything: at most once a second.
    pub fn decide(
        &mut self,
        (regions, bounds): (&Regions, Bounds),
        limits: Limits,
        (tick, hz): (Tick, u16),
    ) -> Option<Change> {
        let second = tick.0 / u64::from(hz.max(1));
        if std::mem::replace(&mut self.second, second) == second {
            return None;
        }
        self.loads.retain(|&region, _| regions.region(region).is_some());
        let period = Duration::from_secs(1) / u32::from(hz.max(1));
        for load in self.loads.values_mut() {
            load.end_second(period, limits.window_s);
        }
        let hot = regions.iter().filter_map(|region| {
            let least = self.load(region.index, limits)?.seconds.iter().copied().min()?;
            (limits.split_permille < least).then_some((least, region.index))
        });
        let can_be = |change| regions.redrawn(change, bounds).is_ok();
        let mut hot: Vec<(u32, RegionIndex)> = hot.collect();
        hot.sort_unstable();
        let split = hot.into_iter().rev().map(|(_, region)| Change::Split(region));
        let merge = regions.iter().filter(|region| self.is_cold(*region, regions, limits));
        let merge = merge.map(|region| Change::Merge(region.index));
        split.chain(merge).find(|&change| can_be(change))
    }

    /// Returns the load of a region that was measured for a whole window.
    fn load(&self, region: RegionIndex, limits: Limits) -> Option<&Load> {
        self.loads.get(&region).filter(|load| limits.window_s <= load.seconds.len())
    }

    /// Returns whether a region is the first of four quarters that have little to do together.
    fn is_cold(&self, region: Region, regions: &Regions, limits: Limits) -> bool {
        let Some(whole) = regions.parent(region) else { return false };
        if (whole.west, whole.north) != (region.west, region.north) {
            return false;
        }
        let mut most = 0;
        for quarter in regions.iter().filter(|it| it.overlaps(whole)) {
            let Some(load) = self.load(quarter.index, limits) else { return false };
            most += load.seconds.iter().copied().max().unwrap_or(u32::MAX);
        }
        most < limits.merge_permille
    }
}

impl Load {
    fn end_second(&mut self, period: Duration, window_s: usize) {
        let (took, steps) = (std::mem::take(&mut self.took), std::mem::take(&mut self.steps));
        // One that is on its way makes no steps, and nobody knows how many it would make.
        if steps == 0 {
            return self.seconds.clear();
        }
        let permille = took.as_micros() * 1_000 / u128::from(steps) / period.as_micros().max(1);
        self.seconds.push_back(u32::try_from(permille).unwrap_or(u32::MAX / 1_024));
        while window_s < self.seconds.len() {
            self.seconds.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { split_permille: 600, merge_permille: 150, window_s: 3 };
    const BOUNDS: Bounds = Bounds { width_cm_min: 6_400, count_max: 16 };

    /// Lets each region take so many thousandths of a tick for some seconds; returns what is to be
    /// changed after each.
    fn pass(
        balance: &mut Balance,
        regions: &Regions,
        seconds: std::ops::Range<u64>,
        load: impl Fn(u32) -> u64,
    ) -> Vec<Option<Change>> {
        let mut decided = Vec::new();
        for tick in seconds.start * 20..seconds.end * 20 {
            let changed = balance.decide((regions, BOUNDS), LIMITS, (Tick(tick), 20));
            if tick % 20 == 0 {
                decided.push(changed);
            } else {
                assert_eq!(changed, None, "once a second");
            }
            for region in regions.indices() {
                balance.note(region, Duration::from_micros(50 * load(region.0)));
            }
        }
        decided
    }

    #[test]
    fn a_region_that_is_hot_for_a_whole_window_is_split_and_a_moment_does_nothing() {
        let regions = Regions::new(3, 25_600);
        let mut balance = Balance::default();
        let hot = |region| if region == 4 { 700 } else { 100 };
        let split = Some(Change::Split(RegionIndex(4)));
        let decided = pass(&mut balance, &regions, 1..5, hot);
        assert_eq!(decided, [None, None, None, split]);
        assert_eq!(pass(&mut balance, &regions, 5..6, |_| 100), [split]);
        // One good second begins the wait again.
        assert_eq!(pass(&mut balance, &regions, 6..10, hot), [None, None, None, split]);
    }

    #[test]
    fn the_hottest_is_first_and_what_cannot_be_split_is_left_alone() {
        let regions = Regions::new(1, 25_600);
        let split = regions.redrawn(Change::Split(RegionIndex(0)), BOUNDS).unwrap().regions;
        let mut balance = Balance::default();
        let load = |region| 600 + 10 * u64::from(region);
        let decided = pass(&mut balance, &split, 1..5, load);
        assert_eq!(decided[3], Some(Change::Split(RegionIndex(4))));
        let again = split.redrawn(Change::Split(RegionIndex(4)), BOUNDS).unwrap().regions;
        let decided = pass(&mut balance, &again, 5..9, load);
        assert_eq!(decided[1], Some(Change::Split(RegionIndex(3))), "4 is split, 5 to 8 are new");
    }

    #[test]
    fn quarters_are_merged_when_all_of_them_together_have_little_to_do() {
        let regions = Regions::new(1, 25_600);
        let split = regions.redrawn(Change::Split(RegionIndex(0)), BOUNDS).unwrap().regions;
        let decided = |load: fn(u32) -> u64| pass(&mut Balance::default(), &split, 1..5, load)[3];
        assert_eq!(decided(|_| 30), Some(Change::Merge(RegionIndex(1))));
        assert_eq!(decided(|_| 40), None, "160 together");
        assert_eq!(decided(|region| if region == 2 { 590 } else { 0 }), None);
    }

    #[test]
    fn one_that_is_on_its_way_is_measured_anew() {
        let regions = Regions::new(1, 25_600);
        let mut balance = Balance::default();
        pass(&mut balance, &regions, 1..4, |_| 900);
        for tick in 80..120 {
            let changed = balance.decide((&regions, BOUNDS), LIMITS, (Tick(tick), 20));
            assert_eq!(changed.is_some(), tick == 80);
        }
        assert_eq!(pass(&mut balance, &regions, 6..9, |_| 900), [None; 3]);
    }

    #[test]
    fn what_is_forgotten_is_measured_anew_for_a_whole_window() {
        let regions = Regions::new(3, 25_600);
        let mut balance = Balance::default();
        assert_eq!(pass(&mut balance, &regions, 1..4, |_| 700), [None; 3]);
        balance.forget();
        assert_eq!(pass(&mut balance, &regions, 4..7, |_| 700), [None; 3]);
    }
}
