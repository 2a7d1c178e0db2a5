//! One change of how the world is divided, from the wish to the moment at which it is made.
//!
//! A change waits until everyone knows the last one and the shards that it concerns are settled;
//! quarters that are to be one come home first. Then their shards are packed up with one tick, and
//! once all of them are there, the change is made. It sends nothing and reads no clock.

use std::collections::BTreeMap;

use protocol::ids::ShardId;
use protocol::units::Tick;

use crate::hosting::{Hosting, Place};
use crate::region::{Redrawn, RegionIndex};
use crate::shard::pack::Packed;
use crate::store::Epoch;

/// Ticks after which a change is given up that does not come about: what it waits for is a move, or
/// a process that is lost, and takes no more than that.
const WAITED_MAX: u64 = 400;

/// What the new regions' shards write as.
pub type Epochs = BTreeMap<RegionIndex, (ShardId, Epoch)>;

/// How far a change is.
#[derive(Debug)]
enum Stage {
    /// The new regions are made known to the store.
    Enrolling,
    /// The shards are to settle.
    Settling(Epochs),
    /// They are packed up.
    Packing(Epochs, BTreeMap<RegionIndex, Packed>),
}

/// A change that is under way.
#[derive(Debug)]
pub struct Division {
    drawn: Redrawn,
    stage: Stage,
    since: Tick,
}

/// What is to be done about a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Wait,
    /// It is given up: a shard that it concerns is lost, or it waited for too long.
    GiveUp,
}

/// All that a change is made of.
#[derive(Debug)]
pub struct Ready {
    /// The division and what it changes.
    pub drawn: Redrawn,
    /// What the new shards write as.
    pub epochs: Epochs,
    /// The old shards.
    pub packed: Vec<Packed>,
}

impl Division {
    /// Begins a change at `tick`.
    #[must_use]
    pub const fn new(drawn: Redrawn, tick: Tick) -> Self {
        Self { drawn, stage: Stage::Enrolling, since: tick }
    }

    /// Returns the division that is to be.
    #[must_use]
    pub const fn drawn(&self) -> &Redrawn {
        &self.drawn
    }

    /// Returns whether a region is to be no more.
    #[must_use]
    pub fn concerns(&self, region: RegionIndex) -> bool {
        self.drawn.gone.contains(&region)
    }

    /// Takes note of what the store knows the new shards as.
    pub fn enrol(&mut self, epochs: Epochs) {
        if matches!(self.stage, Stage::Enrolling) {
            self.stage = Stage::Settling(epochs);
        }
    }

    /// Goes on before the turns of `tick`. `is_known` says whether every region has heard of the
    /// last change.
    pub fn advance(&mut self, hosting: &mut Hosting, is_known: bool, tick: Tick) -> Step {
        let is_lost = self.drawn.gone.iter().any(|&region| hosting.is_lost(region));
        if is_lost || WAITED_MAX < tick.since(self.since) && !self.is_packing() {
            return Step::GiveUp;
        }
        let last = Tick(tick.0.saturating_sub(1));
        let Stage::Settling(epochs) = &mut self.stage else { return Step::Wait };
        let is_ripe = match self.drawn.gone.as_slice() {
            [whole] => hosting.is_settled(*whole),
            quarters => {
                let is_home = |&region: &RegionIndex| hosting.is_home(region, last);
                let are_home = quarters.iter().all(is_home);
                quarters.iter().for_each(|&region| hosting.send_to(region, Place::Here));
                are_home
            }
        };
        if is_ripe && is_known {
            self.drawn.gone.iter().for_each(|&region| hosting.take_up(region));
            self.stage = Stage::Packing(std::mem::take(epochs), BTreeMap::new());
        }
        Step::Wait
    }

    const fn is_packing(&self) -> bool {
        matches!(self.stage, Stage::Packing(..))
    }

    /// Takes a shard that was packed up, if it is one of those that the change waits for; returns
    /// any other, which goes on elsewhere.
    pub fn take(&mut self, shard: Packed) -> Option<Packed> {
        match &mut self.stage {
            Stage::Packing(_, packed) if self.drawn.gone.contains(&shard.region()) => {
                packed.insert(shard.region(), shard);
                None
            }
            Stage::Enrolling | Stage::Settling(_) | Stage::Packing(..) => Some(shard),
        }
    }

    /// Returns whether all shards are there that the change waits for.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match &self.stage {
            Stage::Packing(_, packed) => packed.len() == self.drawn.gone.len(),
            Stage::Enrolling | Stage::Settling(_) => false,
        }
    }

    /// Returns all that the change is made of, or the shards that it had so far when it is given
    /// up.
    #[must_use]
    pub fn end(self) -> Ready {
        let (epochs, packed) = match self.stage {
            Stage::Enrolling => (Epochs::new(), BTreeMap::new()),
            Stage::Settling(epochs) => (epochs, BTreeMap::new()),
            Stage::Packing(epochs, packed) => (epochs, packed),
        };
        let packed = packed.into_values().collect();
        Ready { drawn: self.drawn, epochs, packed }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use protocol::ids::IdMint;
    use protocol::motion::MotionRules;
    use protocol::rules::RuleBook;

    use super::*;
    use crate::hosting::{LinkId, Turn};
    use crate::region::{Bounds, Change, Regions};
    use crate::shard::{Shard, WorldRules};

    const BOUNDS: Bounds = Bounds { width_cm_min: 0, count_max: 64 };
    const THERE: Place = Place::There(LinkId(1));
    const WHOLE: RegionIndex = RegionIndex(3);
    const BEGUN: Tick = Tick(1);
    const NONE: [u32; 0] = [];

    /// One change in a world, begun at tick 1.
    struct World {
        regions: Regions,
        hosting: Hosting,
        division: Division,
    }

    impl World {
        fn of(regions: Regions, change: Change) -> Self {
            let drawn = regions.redrawn(change, BOUNDS).expect("it can be");
            let hosting = Hosting::new(regions.indices(), Tick(0), 20);
            Self { regions, hosting, division: Division::new(drawn, BEGUN) }
        }

        /// One of nine regions is to be split.
        fn split() -> Self {
            Self::of(Regions::new(3, 12_800), Change::Split(WHOLE))
        }

        /// Its quarters, 9 to 12, are to be one.
        fn merge() -> Self {
            let world = Self::split();
            let regions = world.division.end().drawn.regions;
            Self::of(regions, Change::Merge(RegionIndex(9)))
        }

        /// Goes on with the change, then gives each region its turn, which all answer at once;
        /// returns those that are packed up.
        fn tick(&mut self, is_known: bool, tick: u64) -> Vec<u32> {
            let tick = Tick(tick);
            assert_eq!(self.division.advance(&mut self.hosting, is_known, tick), Step::Wait);
            let is_packed = |&region: &RegionIndex| {
                let turn = self.hosting.turn(region, tick);
                self.hosting.answer(region, tick);
                turn == Turn::Pack
            };
            self.regions.indices().filter(is_packed).map(|region| region.0).collect()
        }

        fn is_packing(&self) -> bool {
            self.division.is_packing()
        }

        fn advance(&mut self, tick: u64) -> Step {
            self.division.advance(&mut self.hosting, true, Tick(tick))
        }

        fn enrol(&mut self) {
            let new = &self.division.drawn().new;
            let epoch = |&region: &RegionIndex| (region, (ShardId(region.0.into()), Epoch(1)));
            self.division.enrol(new.iter().map(epoch).collect());
        }

        fn packed(&self, region: u32) -> Packed {
            let rules = WorldRules {
                regions: self.regions.clone(),
                motion: MotionRules::default(),
                book: Arc::new(RuleBook::starter()),
                view_cm: 3_900,
                nearby_cm: 2_000,
                whisper_cm: 300,
            };
            let region = self.regions.region(RegionIndex(region)).expect("a region");
            Shard::new(region, rules, IdMint::new(1)).pack()
        }

        /// Gives a region's shard to the change; returns whether it is of no use to it.
        fn gives_back(&mut self, region: u32) -> bool {
            let packed = self.packed(region);
            self.division.take(packed).is_some()
        }
    }

    #[test]
    fn a_split_waits_for_the_store_for_the_last_change_and_for_a_move() {
        let mut world = World::split();
        assert_eq!(world.tick(true, 2), NONE, "the store knows nothing of the quarters");
        world.enrol();
        assert_eq!(world.tick(false, 3), NONE, "somebody goes by an old division");
        world.hosting.send_to(WHOLE, THERE);
        assert_eq!(world.tick(true, 4), [3], "it moves");
        assert!(world.gives_back(3) && !world.is_packing());
        world.hosting.packed(WHOLE, Tick(3));
        assert_eq!(world.tick(true, 5), [3], "it runs elsewhere, and stays");
        assert!(world.is_packing() && !world.division.is_ready());
        assert!(!world.gives_back(3) && world.division.is_ready());
        let Ready { epochs, packed, .. } = world.division.end();
        assert_eq!(epochs.keys().map(|region| region.0).collect::<Vec<_>>(), [9, 10, 11, 12]);
        assert_eq!(packed.len(), 1);
    }

    #[test]
    fn quarters_that_are_away_come_home_first_and_all_are_packed_with_one_tick() {
        let mut world = World::merge();
        world.hosting.claim(LinkId(1), &[RegionIndex(10)]).expect("it is here");
        assert_eq!(world.tick(true, 2), [10]);
        world.hosting.packed(RegionIndex(10), Tick(1));
        world.enrol();
        assert_eq!(world.tick(true, 3), [10], "it is sent home, and the others step");
        assert!(!world.is_packing());
        assert_eq!(world.tick(true, 4), NONE, "it is on its way");
        world.hosting.packed(RegionIndex(10), Tick(2));
        assert_eq!(world.tick(true, 5), NONE, "it makes up for what it missed");
        assert_eq!(world.tick(true, 6), [9, 10, 11, 12]);
        assert!(world.is_packing());
    }

    #[test]
    fn a_quarter_whose_last_step_is_not_answered_is_waited_for() {
        let mut world = World::merge();
        world.enrol();
        world.tick(false, 2);
        // Region 11 is asked for a step that it does not answer before the next tick.
        for region in world.regions.indices() {
            world.hosting.turn(region, Tick(3));
            if region != RegionIndex(11) {
                world.hosting.answer(region, Tick(3));
            }
        }
        assert_eq!(world.tick(true, 4), NONE);
        assert!(!world.is_packing());
        assert_eq!(world.tick(true, 5), [9, 10, 11, 12]);
    }

    #[test]
    fn it_is_given_up_when_it_waits_for_too_long_but_not_once_shards_are_packed() {
        let last = BEGUN.0 + WAITED_MAX;
        let mut world = World::split();
        assert_eq!(world.advance(last), Step::Wait);
        assert_eq!(world.advance(last + 1), Step::GiveUp);
        let mut world = World::split();
        world.enrol();
        let is_known = false;
        assert_eq!(world.division.advance(&mut world.hosting, is_known, Tick(last)), Step::Wait);
        assert_eq!(world.advance(last + 1), Step::GiveUp);
        let mut world = World::split();
        world.enrol();
        assert_eq!(world.tick(true, last), [3]);
        assert_eq!(world.advance(last + 100), Step::Wait);
    }

    #[test]
    fn it_is_given_up_when_one_of_its_shards_is_lost_and_no_other() {
        let mut world = World::merge();
        world.hosting.damage(RegionIndex(0));
        assert_eq!(world.advance(2), Step::Wait);
        world.hosting.damage(RegionIndex(11));
        assert_eq!(world.advance(3), Step::GiveUp);
        let mut world = World::merge();
        world.enrol();
        assert_eq!(world.tick(true, 2), NONE);
        assert_eq!(world.tick(true, 3), [9, 10, 11, 12]);
        assert!(!world.gives_back(12) && !world.gives_back(9));
        world.hosting.damage(RegionIndex(10));
        assert_eq!(world.advance(4), Step::GiveUp);
        let packed = world.division.end().packed;
        let packed: Vec<u32> = packed.iter().map(|packed| packed.region().0).collect();
        assert_eq!(packed, [9, 12], "these go on as they are");
    }

    #[test]
    fn a_shard_of_no_concern_goes_on_elsewhere() {
        let mut world = World::merge();
        assert!(world.gives_back(9), "nothing is packed up for it yet");
        world.enrol();
        world.tick(true, 2);
        assert_eq!(world.tick(true, 3), [9, 10, 11, 12]);
        assert!(world.gives_back(0));
        for region in 9..=12 {
            assert!(!world.division.is_ready());
            assert!(!world.gives_back(region));
        }
        assert!(world.division.is_ready());
        assert!(
            world.division.concerns(RegionIndex(12)) && !world.division.concerns(RegionIndex(0))
        );
    }
}
