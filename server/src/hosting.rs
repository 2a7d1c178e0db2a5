//! Who runs which region's shard: this process, or one that joined over a link.
//!
//! One state per region, changed by what happens and by nothing else. It sends nothing and reads
//! no clock: silence is counted in ticks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use protocol::units::Tick;

use crate::region::RegionIndex;

/// A process that joined, by a number that is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where a shard runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this process.
    Here,
    /// In a process that joined.
    There(LinkId),
}

/// How a region stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is stepped.
    Running {
        place: Place,
        /// Where it is to go with the next tick.
        goal: Place,
        /// Whether it is to be packed up in any case: the world is divided otherwise.
        is_due: bool,
        asked: Tick,
        answered: Tick,
    },
    /// It is being packed up at the one place for the other since a tick.
    Packing { from: Place, to: Place, since: Tick },
    /// Its process is gone; it begins anew here once all it is known by was read.
    Lost,
}

impl State {
    /// Returns whether a process runs this region, or will.
    fn uses(&self, link: LinkId) -> bool {
        let there = Place::There(link);
        match *self {
            Self::Running { place, goal, .. } => place == there || goal == there,
            Self::Packing { from, to, .. } => from == there || to == there,
            Self::Lost => false,
        }
    }
}

/// What a region needs in a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A step, for which the tick waits if it is made in this process.
    Step {
        /// Where it is made.
        place: Place,
        /// Ticks that went by on the way here, to be made up for first.
        missed: u64,
    },
    /// To be packed up where it is.
    Pack,
    /// Nothing: it is on its way.
    Wait,
}

/// Why a process cannot have the regions that it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadClaim {
    /// None was asked for.
    #[error("no region was asked for; name some, such as --regions 1,2")]
    None,
    /// There is no such region.
    #[error("the world has no region {0} (`ecumene shards` lists them)")]
    Unknown(u32),
    /// Another process has it.
    #[error("region {0} is run by another process already (`ecumene shards` shows where)")]
    Taken(u32),
    /// It is being moved, split or merged, begins anew after a loss, or may be lost.
    #[error("region {0} is on its way to somewhere; try again in a moment")]
    OnItsWay(u32),
    /// The world ends.
    #[error("the server is stopping")]
    Stopping,
    /// More than one link carries.
    #[error("{0} regions are too many for one process; at most {REGIONS_MAX}, share them out")]
    TooMany(usize),
}

/// Regions that one process may run.
pub const REGIONS_MAX: usize = 64;

/// Ticks by which answers may be late without a doubt.
const LATE_TICKS: u64 = 3;

/// Packing up and sending a shard may take so many times as long as answering a step.
const PACKING_SILENCES: u64 = 10;

/// Where all regions of a world run.
#[derive(Debug)]
pub struct Hosting {
    states: BTreeMap<RegionIndex, State>,
    silence_ticks: u64,
}

impl Hosting {
    /// Returns a world whose regions all run here at `tick`. A process that answers none of its
    /// steps for `silence_ticks` is lost.
    #[must_use]
    pub fn new(
        regions: impl IntoIterator<Item = RegionIndex>,
        tick: Tick,
        silence_ticks: u64,
    ) -> Self {
        let states = regions.into_iter().map(|region| (region, here(tick))).collect();
        Self { states, silence_ticks }
    }

    /// Returns where a region's shard runs; nothing while it is lost or on its way.
    #[must_use]
    pub fn place(&self, region: RegionIndex) -> Option<Place> {
        match self.states.get(&region)? {
            State::Running { place, .. } => Some(*place),
            State::Packing { .. } | State::Lost => None,
        }
    }

    /// Returns whether what `place` says about a region is to be believed.
    #[must_use]
    pub fn runs_at(&self, region: RegionIndex, place: Place) -> bool {
        match self.states.get(&region) {
            Some(State::Running { place: at, .. }) => *at == place,
            Some(State::Packing { from, .. }) => *from == place,
            Some(State::Lost) | None => false,
        }
    }

    /// Returns where a region is being packed up.
    #[must_use]
    pub fn packed_at(&self, region: RegionIndex) -> Option<Place> {
        match self.states.get(&region)? {
            State::Packing { from, .. } => Some(*from),
            State::Running { .. } | State::Lost => None,
        }
    }

    /// Returns whether a region has made its step to `tick`, and all that came of it is known.
    #[must_use]
    pub fn has_made(&self, region: RegionIndex, tick: Tick) -> bool {
        match self.states.get(&region) {
            Some(State::Running { answered, .. }) => tick <= *answered,
            Some(State::Packing { .. } | State::Lost) | None => false,
        }
    }

    /// Lets regions move to a process that joined, all of them or none.
    ///
    /// # Errors
    /// [`BadClaim`]; whoever asked is at fault.
    pub fn claim(&mut self, link: LinkId, regions: &[RegionIndex]) -> Result<(), BadClaim> {
        if regions.is_empty() {
            return Err(BadClaim::None);
        }
        if regions.len() > REGIONS_MAX {
            return Err(BadClaim::TooMany(regions.len()));
        }
        for index in regions {
            let region = index.0;
            match self.states.get(index) {
                None => return Err(BadClaim::Unknown(region)),
                Some(State::Running { is_due: true, .. }) => {
                    return Err(BadClaim::OnItsWay(region));
                }
                Some(State::Running { place: Place::Here, goal: Place::Here, .. }) => {}
                // Of one that is late with its answers it is known soon whether it is gone.
                Some(State::Running { asked, answered, .. })
                    if asked.since(*answered) > LATE_TICKS =>
                {
                    return Err(BadClaim::OnItsWay(region));
                }
                Some(State::Running { .. }) => return Err(BadClaim::Taken(region)),
                Some(State::Packing { .. } | State::Lost) => {
                    return Err(BadClaim::OnItsWay(region));
                }
            }
        }
        for region in regions {
            self.send_to(*region, Place::There(link));
        }
        Ok(())
    }

    /// Lets everything that a process runs come home.
    pub fn bring_home(&mut self, link: LinkId) {
        for state in self.states.values_mut() {
            match state {
                State::Running { place, goal, .. }
                    if *place == Place::There(link) || *goal == Place::There(link) =>
                {
                    *goal = Place::Here;
                }
                State::Packing { to, .. } if *to == Place::There(link) => *to = Place::Here,
                State::Running { .. } | State::Packing { .. } | State::Lost => {}
            }
        }
    }

    /// Returns whether a process runs anything, or will.
    #[must_use]
    pub fn uses(&self, link: LinkId) -> bool {
        self.states.values().any(|state| state.uses(link))
    }

    /// Returns whether a process may run these regions besides all others that it runs or will.
    #[must_use]
    pub fn has_room(&self, link: LinkId, regions: &[RegionIndex]) -> bool {
        let others = self.states.iter().filter(|(region, _)| !regions.contains(region));
        let others = others.filter(|(_, state)| state.uses(link)).count();
        others + regions.len() <= REGIONS_MAX
    }

    /// Lets a region go to another place, if it runs at one.
    pub fn send_to(&mut self, region: RegionIndex, to: Place) {
        if let Some(State::Running { goal, .. }) = self.states.get_mut(&region) {
            *goal = to;
        }
    }

    /// Lets a region be packed up with the next tick, wherever it is and is to go.
    pub fn take_up(&mut self, region: RegionIndex) {
        if let Some(State::Running { is_due, .. }) = self.states.get_mut(&region) {
            *is_due = true;
        }
    }

    /// Returns whether a region runs and stays where it is.
    #[must_use]
    pub fn is_settled(&self, region: RegionIndex) -> bool {
        let state = self.states.get(&region);
        matches!(state, Some(State::Running { place, goal, .. }) if place == goal)
    }

    /// Returns whether a region runs here, stays, and has made its step to `tick` and no other.
    #[must_use]
    pub fn is_home(&self, region: RegionIndex, tick: Tick) -> bool {
        let here = State::Running {
            place: Place::Here,
            goal: Place::Here,
            is_due: false,
            asked: tick,
            answered: tick,
        };
        self.states.get(&region) == Some(&here)
    }

    /// Returns whether the process that ran a region is gone, and it has not begun anew.
    #[must_use]
    pub fn is_lost(&self, region: RegionIndex) -> bool {
        self.states.get(&region) == Some(&State::Lost)
    }

    /// Lets regions take the place of others, which are no more: all run here since `tick`, and go
    /// to where they are bound for, unless the process there has no room for all of them.
    pub fn replace(
        &mut self,
        gone: &[RegionIndex],
        new: &[RegionIndex],
        (to, tick): (Place, Tick),
    ) {
        self.states.retain(|region, _| !gone.contains(region));
        let to = match to {
            Place::There(link) if !self.has_room(link, new) => Place::Here,
            Place::Here | Place::There(_) => to,
        };
        for &region in new {
            self.states.insert(region, here(tick));
            self.send_to(region, to);
        }
    }

    /// Returns what a region needs in `tick`, and takes it for done.
    pub fn turn(&mut self, region: RegionIndex, tick: Tick) -> Turn {
        let Some(state) = self.states.get_mut(&region) else { return Turn::Wait };
        match state {
            State::Running { place, goal, is_due, .. } if place != goal || *is_due => {
                *state = State::Packing { from: *place, to: *goal, since: tick };
                Turn::Pack
            }
            State::Running { place, asked, .. } => {
                let missed = tick.since(*asked).saturating_sub(1);
                *asked = tick;
                Turn::Step { place: *place, missed }
            }
            State::Packing { .. } | State::Lost => Turn::Wait,
        }
    }

    /// Takes note that a region has answered its step to `tick`.
    pub fn answer(&mut self, region: RegionIndex, tick: Tick) {
        if let Some(State::Running { answered, .. }) = self.states.get_mut(&region) {
            *answered = tick;
        }
    }

    /// Returns where a region that is being packed up is to go on.
    #[must_use]
    pub fn bound_for(&self, region: RegionIndex) -> Option<Place> {
        match self.states.get(&region)? {
            State::Packing { to, .. } => Some(*to),
            State::Running { .. } | State::Lost => None,
        }
    }

    /// Takes note that a region which was packed up at `tick` goes on where it was bound for.
    pub fn packed(&mut self, region: RegionIndex, tick: Tick) {
        let Some(state) = self.states.get_mut(&region) else { return };
        if let State::Packing { to, .. } = *state {
            let (asked, answered) = (tick, tick);
            *state = State::Running { place: to, goal: to, is_due: false, asked, answered };
        }
    }

    /// Returns the processes that have been silent for too long at `tick`.
    #[must_use]
    pub fn silent(&self, tick: Tick) -> BTreeSet<LinkId> {
        let is_late = |answered: Tick| tick.since(answered) > self.silence_ticks;
        let late = self.states.values().filter_map(|state| match *state {
            State::Running { place: Place::There(link), asked, answered, .. }
                if asked != answered && is_late(answered) =>
            {
                Some(link)
            }
            State::Packing { from: Place::There(link), since, .. }
                if tick.since(since) > PACKING_SILENCES * self.silence_ticks =>
            {
                Some(link)
            }
            State::Running { .. } | State::Packing { .. } | State::Lost => None,
        });
        late.collect()
    }

    /// Takes note that a region that came home cannot go on.
    pub fn damage(&mut self, region: RegionIndex) {
        if let Some(state) = self.states.get_mut(&region) {
            *state = State::Lost;
        }
    }

    /// Takes note that a process is gone; returns the regions that are lost with it.
    pub fn lose(&mut self, link: LinkId) -> Vec<RegionIndex> {
        let there = Place::There(link);
        let mut lost = Vec::new();
        for (&index, state) in &mut self.states {
            match state {
                State::Running { place, .. } if *place == there => {
                    *state = State::Lost;
                    lost.push(index);
                }
                State::Packing { from, .. } if *from == there => {
                    *state = State::Lost;
                    lost.push(index);
                }
                State::Running { goal, .. } if *goal == there => *goal = Place::Here,
                State::Packing { to, .. } if *to == there => *to = Place::Here,
                State::Running { .. } | State::Packing { .. } | State::Lost => {}
            }
        }
        lost
    }

    /// Lets a lost region go on here after `tick`.
    pub fn recover(&mut self, region: RegionIndex, tick: Tick) {
        if let Some(state) = self.states.get_mut(&region) {
            *state = here(tick);
        }
    }
}

const fn here(tick: Tick) -> State {
    State::Running {
        place: Place::Here,
        goal: Place::Here,
        is_due: false,
        asked: tick,
        answered: tick,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: LinkId = LinkId(1);
    const OTHER: LinkId = LinkId(2);

    fn regions(numbers: &[u32]) -> Vec<RegionIndex> {
        numbers.iter().copied().map(RegionIndex).collect()
    }

    /// Returns what each of three regions needs in `tick`: steps here (h) or there (t), those
    /// missed too; packing (p), nothing (-).
    fn turns(hosting: &mut Hosting, tick: u64) -> String {
        let letter = |turn| match turn {
            Turn::Step { place: Place::Here, missed } => "h".repeat(missed as usize + 1),
            Turn::Step { place: Place::There(_), missed } => "t".repeat(missed as usize + 1),
            Turn::Pack => "p".into(),
            Turn::Wait => "-".into(),
        };
        (0..3).map(|region| letter(hosting.turn(RegionIndex(region), Tick(tick)))).collect()
    }

    fn moved() -> Hosting {
        let mut hosting = Hosting::new(regions(&[0, 1, 2]), Tick(0), 20);
        hosting.claim(LINK, &regions(&[1, 2])).unwrap();
        assert_eq!(turns(&mut hosting, 1), "hpp");
        assert_eq!(turns(&mut hosting, 2), "h--");
        for region in regions(&[1, 2]) {
            assert_eq!(hosting.bound_for(region), Some(Place::There(LINK)));
            hosting.packed(region, Tick(0));
            hosting.answer(region, Tick(2));
        }
        hosting
    }

    #[test]
    fn a_region_moves_between_two_steps() {
        let mut hosting = moved();
        assert_eq!(turns(&mut hosting, 3), "htttttt", "two ticks went by on the way");
        assert_eq!(hosting.place(RegionIndex(1)), Some(Place::There(LINK)));
        hosting.bring_home(LINK);
        assert_eq!(turns(&mut hosting, 4), "hpp");
        assert!(hosting.uses(LINK));
        for region in regions(&[1, 2]) {
            assert_eq!(hosting.bound_for(region), Some(Place::Here));
            hosting.packed(region, Tick(4));
        }
        assert_eq!(turns(&mut hosting, 5), "hhh");
        assert!(!hosting.uses(LINK));
    }

    #[test]
    fn what_somebody_has_is_not_given_away() {
        let mut hosting = moved();
        let mut check = |wanted: &[u32], expected: &str| {
            let refused = hosting.claim(OTHER, &regions(wanted)).unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        };
        check(&[0, 1], "region 1 is run by another process");
        check(&[3], "no region 3");
        check(&[], "no region was asked for");
        assert_eq!(turns(&mut hosting, 3), "htttttt", "a refused claim moves nothing");
    }

    #[test]
    fn a_silent_process_is_found_out_and_its_regions_begin_anew_here() {
        let mut hosting = moved();
        for tick in 3..=22 {
            turns(&mut hosting, tick);
            hosting.answer(RegionIndex(1), Tick(tick));
        }
        assert!(hosting.silent(Tick(22)).is_empty(), "20 ticks are not too long");
        turns(&mut hosting, 23);
        assert_eq!(hosting.silent(Tick(23)), [LINK].into());
        assert_eq!(hosting.lose(LINK), regions(&[1, 2]));
        assert_eq!(turns(&mut hosting, 24), "h--");
        hosting.recover(RegionIndex(2), Tick(24));
        assert_eq!(turns(&mut hosting, 25), "h-h");
    }

    #[test]
    fn whoever_joins_and_is_gone_at_once_leaves_everything_here() {
        let mut hosting = Hosting::new(regions(&[0, 1, 2]), Tick(0), 20);
        hosting.claim(LINK, &regions(&[1])).unwrap();
        assert!(hosting.lose(LINK).is_empty());
        assert_eq!(turns(&mut hosting, 1), "hhh");
        hosting.claim(LINK, &regions(&[1])).unwrap();
        assert_eq!(turns(&mut hosting, 2), "hph");
        assert!(hosting.lose(LINK).is_empty(), "it is packed here and stays");
        assert_eq!(hosting.bound_for(RegionIndex(1)), Some(Place::Here));
    }

    #[test]
    fn one_lost_on_its_way_home_is_lost() {
        let mut hosting = moved();
        hosting.bring_home(LINK);
        assert_eq!(turns(&mut hosting, 3), "hpp");
        assert_eq!(hosting.claim(OTHER, &regions(&[1])), Err(BadClaim::OnItsWay(1)));
        assert!(hosting.silent(Tick(203)).is_empty(), "packing takes its time");
        assert_eq!(hosting.silent(Tick(204)), [LINK].into());
        assert_eq!(hosting.lose(LINK), regions(&[1, 2]));
        assert_eq!(hosting.bound_for(RegionIndex(1)), None);
        assert_eq!(hosting.claim(OTHER, &regions(&[1])), Err(BadClaim::OnItsWay(1)));
    }

    #[test]
    fn a_region_is_taken_up_where_it_is_and_others_take_its_place() {
        let mut hosting = moved();
        assert_eq!(turns(&mut hosting, 3), "htttttt");
        hosting.take_up(RegionIndex(1));
        assert_eq!(hosting.claim(OTHER, &regions(&[1])), Err(BadClaim::OnItsWay(1)));
        assert!(hosting.is_settled(RegionIndex(1)) && !hosting.is_home(RegionIndex(1), Tick(3)));
        assert_eq!(turns(&mut hosting, 4), "hpt");
        assert_eq!(hosting.packed_at(RegionIndex(1)), Some(Place::There(LINK)));
        let to = hosting.bound_for(RegionIndex(1)).expect("on its way");
        hosting.replace(&regions(&[1]), &regions(&[3, 4]), (to, Tick(3)));
        assert_eq!(hosting.place(RegionIndex(1)), None);
        assert_eq!(hosting.place(RegionIndex(3)), Some(Place::Here));
        assert_eq!(hosting.turn(RegionIndex(3), Tick(5)), Turn::Pack, "it goes where it was");
        assert_eq!(hosting.bound_for(RegionIndex(3)), Some(Place::There(LINK)));
        assert_eq!(hosting.lose(LINK), regions(&[2]));
        assert!(hosting.is_lost(RegionIndex(2)));
        let step = Turn::Step { place: Place::Here, missed: 1 };
        assert_eq!(hosting.turn(RegionIndex(4), Tick(5)), step, "its process is gone: it stays");
        hosting.answer(RegionIndex(4), Tick(5));
        assert!(hosting.is_home(RegionIndex(4), Tick(5)));
    }

    #[test]
    fn a_process_runs_no_more_than_it_may_whatever_is_split() {
        let full: Vec<u32> = (0..REGIONS_MAX as u32).collect();
        let split = |count: usize| {
            let mut hosting = Hosting::new(regions(&full), Tick(0), 20);
            hosting.claim(LINK, &regions(&full[..count])).unwrap();
            hosting.take_up(RegionIndex(0));
            assert_eq!(hosting.turn(RegionIndex(0), Tick(1)), Turn::Pack);
            let to = hosting.bound_for(RegionIndex(0)).expect("on its way");
            let quarters = regions(&[100, 101, 102, 103]);
            hosting.replace(&regions(&[0]), &quarters, (to, Tick(0)));
            quarters.iter().filter(|&&region| !hosting.is_settled(region)).count()
        };
        assert_eq!(split(REGIONS_MAX - 3), 4, "the quarters follow the whole");
        assert_eq!(split(REGIONS_MAX - 2), 0, "they stay here, all of them");
        let mut hosting = Hosting::new(regions(&full), Tick(0), 20);
        hosting.claim(LINK, &regions(&full[1..])).unwrap();
        assert!(hosting.has_room(LINK, &regions(&[0])));
        hosting.send_to(RegionIndex(0), Place::There(LINK));
        assert!(hosting.has_room(LINK, &regions(&[0])), "it is there already");
        assert!(!hosting.has_room(LINK, &regions(&[100])));
        assert!(hosting.has_room(OTHER, &regions(&[100])));
    }
}
