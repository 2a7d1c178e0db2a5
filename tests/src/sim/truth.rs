//! What is so, told by the shards themselves before anything else sees it: where everyone was at
//! every tick, and what was done in which order.
//!
//! Everything that clients and the disk show is held against this. It believes the shards; that
//! they agree with each other is checked here.

use std::collections::{BTreeMap, BTreeSet};

use protocol::ids::{EntityId, PersonId, ShardId};
use protocol::message::ServerMessage;
use protocol::rules::{Detail, Holder, Lot, Phase, Thing, Verb};
use protocol::units::{Position, Tick, Yaw};
use server::region::{Redrawn, RegionIndex, Regions};
use server::shard::MARGIN_CM;
use server::shard::batch::{Change, Entry, StepOutput};
use server::shard::viewer::ClientKey;
use server::store::{Epoch, MemoryStore, Store as _};

use super::keeping::{Keeping, Rows, apply};
use super::scene;
use super::tally::Tally;

/// Nothing, or what was violated.
pub type Check = Result<(), String>;

/// Ticks that are remembered: the longest that a frame is under way, an outage of a link included.
const KEPT_TICKS: u64 = 160;

/// How far a body gets in one tick, in centimetres: a run, twice over.
const PACE_CM: u64 = 60;

/// How far from where it stood a body may be put that stands in something solid.
const BESIDE_CM: u64 = 300;

/// Ticks that are made up for after a move; the server's own bound.
const MADE_UP_MAX: u64 = 8;

/// Ticks after which a disturbance is over: what was late has come by then.
const SETTLED_TICKS: u64 = 6;

/// Where an avatar was at one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Where.
    pub position: Position,
    /// Looking where.
    pub yaw: Yaw,
    /// Whose shard stepped it.
    pub region: RegionIndex,
}

/// What is so.
#[derive(Debug)]
pub struct Truth {
    regions: Regions,
    ticks: BTreeMap<u64, BTreeMap<EntityId, Seat>>,
    last: BTreeMap<EntityId, (Tick, Position)>,
    /// Where those stood whose region began anew, and when.
    before: BTreeMap<EntityId, (Tick, Position)>,
    stepped: BTreeMap<RegionIndex, Tick>,
    stacks: BTreeMap<RegionIndex, usize>,
    /// The last tick at which a region's shard did not answer in time, or began anew.
    irregular: BTreeMap<RegionIndex, Tick>,
    anew: BTreeSet<RegionIndex>,
    /// Regions that were on their way for longer than is made up for.
    skipping: BTreeSet<RegionIndex>,
    /// Everything by the journal, whatever of it is stored.
    pub keeping: Keeping,
    /// What the store held when this run began, and all that was done since.
    base: Rows,
    entries: Vec<Entry>,
    /// Which entry the answer to a request confirms.
    confirms: BTreeMap<(ClientKey, u32), usize>,
    /// How many entries clients were told of.
    acknowledged: usize,
    placements: BTreeMap<EntityId, BTreeSet<Position>>,
    owners: BTreeMap<EntityId, PersonId>,
    /// Who holds how many of what, by what events say.
    pub tally: Tally,
}

impl Truth {
    /// Returns a world in which these things lie about.
    #[must_use]
    pub fn of(regions: Regions, things: &[Thing]) -> Self {
        let keeping = Keeping::of(things);
        let mut truth = Self {
            regions,
            ticks: BTreeMap::new(),
            last: BTreeMap::new(),
            before: BTreeMap::new(),
            stepped: BTreeMap::new(),
            stacks: BTreeMap::new(),
            irregular: BTreeMap::new(),
            anew: BTreeSet::new(),
            skipping: BTreeSet::new(),
            base: keeping.rows().clone(),
            keeping,
            entries: Vec::new(),
            confirms: BTreeMap::new(),
            acknowledged: 0,
            placements: BTreeMap::new(),
            owners: BTreeMap::new(),
            tally: Tally::default(),
        };
        things.iter().for_each(|thing| truth.note_place(thing));
        truth
    }

    /// Notes whose an avatar is.
    pub fn own(&mut self, avatar: EntityId, person: PersonId) {
        self.owners.insert(avatar, person);
    }

    /// Takes in what a step put out, before anything else is done with it.
    ///
    /// # Errors
    /// What contradicts what was so before.
    pub fn step(&mut self, region: RegionIndex, tick: Tick, output: &StepOutput) -> Check {
        let is_anew = self.anew.remove(&region);
        let skips = self.skipping.remove(&region);
        if let Some(&before) = self.stepped.get(&region).filter(|_| !is_anew && !skips) {
            let passed = tick.0.saturating_sub(before.0);
            if passed == 0 || (passed != 1 && passed <= MADE_UP_MAX) {
                return Err(format!(
                    "the shard of region {} made a step to tick {} after one to {}",
                    region.0, tick.0, before.0
                ));
            }
        }
        self.stepped.insert(region, tick);
        let leaving = output.travellers.iter().map(|(_, it)| it.things.things.len());
        let leaving =
            leaving.chain(output.things.iter().map(|(_, things)| things.len())).sum::<usize>();
        self.stacks.insert(region, output.counts.things + leaving);
        for seen in &output.whereabouts {
            let seat = Seat { position: seen.position, yaw: seen.yaw, region };
            self.seat(tick, seen.avatar, seat, is_anew)?;
        }
        for (_, traveller) in &output.travellers {
            let (position, yaw) = (traveller.avatar.body.position(), traveller.avatar.body.yaw);
            self.seat(tick, traveller.avatar.id, Seat { position, yaw, region }, is_anew)?;
        }
        for gone in &output.departed {
            self.last.remove(&gone.avatar);
            self.before.remove(&gone.avatar);
        }
        let first = self.entries.len();
        for entry in &output.journal {
            self.keeping.take_in(entry).map_err(|why| self.explain(entry, &why))?;
            self.note_event(entry);
            for change in &entry.changes {
                if let Change::Keep { thing, holder } = change {
                    let by =
                        if let Holder::Held(avatar) = thing.holder { Some(avatar) } else { None };
                    if by.map(|avatar| self.owners.get(&avatar)) != holder.as_ref().map(Some) {
                        let why = format!("it is kept with {holder:?}");
                        return Err(self.explain(entry, &why));
                    }
                    self.note_place(thing);
                }
            }
            self.entries.push(entry.clone());
        }
        for letter in &output.letters {
            if let (ServerMessage::Done(done), Some(after)) = (&letter.message, letter.after) {
                self.confirms.insert((letter.to, done.request), first + after + 1);
            }
        }
        if output.journal.is_empty() { Ok(()) } else { self.keeping.check() }
    }

    /// Returns where somebody who has not left the world was stepped to last, by `tick`.
    #[must_use]
    pub fn last_place(&self, avatar: EntityId, tick: Tick) -> Option<Position> {
        let last = self.last.get(&avatar).filter(|(then, _)| *then <= tick);
        last.or_else(|| self.before.get(&avatar)).map(|&(_, at)| at)
    }

    fn seat(&mut self, tick: Tick, avatar: EntityId, seat: Seat, is_anew: bool) -> Check {
        let everyone = self.ticks.entry(tick.0).or_default();
        if let Some(other) = everyone.insert(avatar, seat) {
            return Err(format!(
                "{avatar} is stepped to tick {} by regions {} and {}",
                tick.0, other.region.0, seat.region.0
            ));
        }
        let before = self.last.insert(avatar, (tick, seat.position));
        if let Some((then, at)) = before {
            if is_anew {
                self.before.insert(avatar, (then, at));
            }
            // Who begins anew begins where they stood, however long that took.
            let ticks = if is_anew { 2 } else { tick.since(then).max(1) };
            let reach = PACE_CM * ticks + if is_anew { BESIDE_CM } else { 0 };
            let far = at.ground_distance_squared(seat.position).isqrt();
            if reach < far {
                return Err(format!(
                    "{avatar} went {far} cm between ticks {} and {}",
                    then.0, tick.0
                ));
            }
        }
        Ok(())
    }

    /// Adds to what is wrong with an entry what was done last with the things in it.
    fn explain(&self, entry: &Entry, why: &str) -> String {
        let things: BTreeSet<EntityId> = entry.changes.iter().filter_map(thing_of).collect();
        let is_about =
            |it: &&Entry| it.changes.iter().filter_map(thing_of).any(|id| things.contains(&id));
        let before: Vec<String> = self
            .entries
            .iter()
            .rev()
            .filter(is_about)
            .take(3)
            .map(|it| format!("{it:?}"))
            .collect();
        let kept: Vec<_> =
            self.keeping.rows().keys().filter(|(_, id)| things.contains(id)).collect();
        let before = before.join("; ");
        format!(
            "{why}, in {entry:?}; they are kept as {kept:?}; before that, newest first: {before}"
        )
    }

    fn note_place(&mut self, thing: &Thing) {
        if let Some(at) = thing.place() {
            self.placements.entry(thing.id).or_default().insert(at);
        }
    }

    fn note_event(&mut self, entry: &Entry) {
        let Some(event) = &entry.event else { return };
        let Some(&actor) = self.owners.get(&event.actor) else { return };
        let other = event.target.and_then(|target| self.owners.get(&target).copied());
        if event.phase != Phase::Done {
            return;
        }
        match (&event.detail, event.verb) {
            (Detail::Lot(lot), Verb::Take) => self.tally.get(actor, *lot),
            (Detail::Lot(lot), Verb::Drop) => self.tally.give(actor, *lot),
            (Detail::Lot(lot), Verb::Give) => {
                self.tally.give(actor, *lot);
                other.into_iter().for_each(|other| self.tally.get(other, *lot));
            }
            (Detail::Traded { gave, got, .. }, _) => {
                let Some(maker) = other else { return };
                let mut pass = |lots: &[Lot], from, to| {
                    for &lot in lots {
                        self.tally.give(from, lot);
                        self.tally.get(to, lot);
                    }
                };
                pass(gave, maker, actor);
                pass(got, actor, maker);
            }
            (_, _) => {}
        }
    }

    /// Takes note that an avatar comes in with what was read of its owner.
    ///
    /// # Errors
    /// When that is not what they hold.
    pub fn come_in(&mut self, avatar: EntityId, person: PersonId, things: &[Thing]) -> Check {
        self.last.remove(&avatar);
        self.before.remove(&avatar);
        let read: BTreeMap<EntityId, u32> =
            things.iter().map(|thing| (thing.id, thing.count)).collect();
        let held = self.keeping.held_by(person);
        if read == held {
            return Ok(());
        }
        Err(format!("{avatar} comes in with {read:?}, and {person} holds {held:?}"))
    }

    /// Notes that a region is stepped by nobody, or late, at `tick`.
    pub fn disturb(&mut self, region: RegionIndex, tick: Tick) {
        self.irregular.insert(region, tick);
    }

    /// Notes that a region was on its way for so many ticks, not all of which may be made up for.
    pub fn miss(&mut self, region: RegionIndex, ticks: u64) {
        if MADE_UP_MAX < ticks {
            self.skipping.insert(region);
        }
    }

    /// Notes that a region's shard begins anew.
    pub fn begin_anew(&mut self, region: RegionIndex, tick: Tick) {
        self.anew.insert(region);
        self.disturb(region, tick);
    }

    /// Goes by another division of the world, after a restart.
    pub fn divide(&mut self, regions: &Regions) {
        self.regions = regions.clone();
    }

    /// Notes that regions were split or merged in tick `now`, whose shards had made their steps to
    /// `made`.
    pub fn redivide(&mut self, drawn: &Redrawn, (made, now): (Tick, Tick)) {
        self.regions = drawn.regions.clone();
        for gone in &drawn.gone {
            self.stepped.remove(gone);
            self.stacks.remove(gone);
            self.irregular.remove(gone);
            self.anew.remove(gone);
        }
        for &new in &drawn.new {
            self.stepped.insert(new, made);
            self.disturb(new, now);
        }
    }

    /// Returns whether a region and all around it were stepped in time for `ticks` before `tick`.
    #[must_use]
    pub fn is_calm(&self, region: RegionIndex, tick: Tick, ticks: u64) -> bool {
        // One that is no more was split or merged lately.
        let Some(square) = self.regions.region(region) else { return false };
        let near = self.regions.neighbours(square, scene::VIEW_CM + 2 * MARGIN_CM);
        let near = near.iter().chain([&square]);
        let irregular = near.filter_map(|it| self.irregular.get(&it.index));
        irregular.max().is_none_or(|last| ticks < tick.since(*last))
    }

    /// Returns where an avatar was at a tick.
    #[must_use]
    pub fn at(&self, tick: Tick, avatar: EntityId) -> Option<Seat> {
        self.ticks.get(&tick.0)?.get(&avatar).copied()
    }

    /// Returns whether an avatar was in the world at `tick` and at the `ticks` before it.
    #[must_use]
    pub fn was_in(&self, avatar: EntityId, tick: Tick, ticks: u64) -> bool {
        (0..=ticks.min(tick.0)).all(|ago| self.at(Tick(tick.0 - ago), avatar).is_some())
    }

    /// Returns where everyone was at a tick.
    pub fn everyone(&self, tick: Tick) -> impl Iterator<Item = (EntityId, Seat)> + '_ {
        self.ticks.get(&tick.0).into_iter().flatten().map(|(&avatar, &seat)| (avatar, seat))
    }

    /// Returns whether an avatar is in the world, as far as is known.
    #[must_use]
    pub fn is_in(&self, avatar: EntityId) -> bool {
        self.last.contains_key(&avatar)
    }

    /// Returns whether a thing ever lay there.
    #[must_use]
    pub fn was_placed(&self, thing: EntityId, at: Position) -> bool {
        self.placements.get(&thing).is_some_and(|places| places.contains(&at))
    }

    /// Checks that shards and journal know of equally many stacks, when all have made the step to
    /// `tick`.
    ///
    /// # Errors
    /// When they do not.
    pub fn check_stacks(&self, tick: Tick) -> Check {
        let is_late = |at: &Tick| tick.since(*at) <= SETTLED_TICKS;
        if self.stepped.values().any(|&stepped| stepped != tick)
            || self.irregular.values().any(is_late)
        {
            return Ok(());
        }
        let stacks = self.stacks.values().sum::<usize>();
        // What people hold who are away is in no shard.
        let here = self.everyone(tick).filter_map(|(avatar, _)| self.owners.get(&avatar));
        let here: BTreeSet<PersonId> = here.copied().collect();
        let holders = self.keeping.rows().keys().map(|(holder, _)| holder);
        let kept = holders.filter(|it| it.is_none_or(|holder| here.contains(&holder))).count();
        if stacks == kept {
            return Ok(());
        }
        Err(format!("shards hold {stacks} stacks, by the journal there are {kept}"))
    }

    /// Checks that an avatar of a region was stepped lately, if its region was stepped in time.
    ///
    /// # Errors
    /// When nobody steps it.
    pub fn check_owned(&self, avatar: EntityId, region: RegionIndex, tick: Tick) -> Check {
        let Some(&(last, _)) = self.last.get(&avatar) else { return Ok(()) };
        if tick.since(last) <= SETTLED_TICKS || !self.is_calm(region, tick, SETTLED_TICKS) {
            return Ok(());
        }
        Err(format!("{avatar} of region {} is owned by no shard since tick {}", region.0, last.0))
    }

    /// Takes note that a client was told that a request is done.
    pub fn acknowledge(&mut self, client: ClientKey, request: u32) {
        if let Some(&entry) = self.confirms.get(&(client, request)) {
            self.acknowledged = self.acknowledged.max(entry);
        }
    }

    /// Goes on with what a power cut left on the disk; returns how many entries are gone.
    ///
    /// # Errors
    /// When `found` is not what was stored at some moment after the last thing a client was told.
    pub fn survive(&mut self, found: Rows) -> Result<usize, String> {
        let mut rows = self.base.clone();
        for entry in &self.entries[..self.acknowledged] {
            apply(&mut rows, entry)?;
        }
        let mut kept = self.acknowledged;
        while rows != found {
            let Some(entry) = self.entries.get(kept) else {
                let expected = differences(&rows, &found);
                return Err(format!(
                    "the disk holds what never was, or lacks what was confirmed: {expected}"
                ));
            };
            apply(&mut rows, entry)?;
            kept += 1;
        }
        let lost = self.entries.len() - kept;
        let tally = Tally::of(&found);
        self.keeping = Keeping::with(found.clone());
        self.base = found;
        self.tally = tally;
        self.ticks.clear();
        self.last.clear();
        self.before.clear();
        self.stepped.clear();
        self.stacks.clear();
        self.irregular.clear();
        self.skipping.clear();
        self.entries.clear();
        self.confirms.clear();
        self.acknowledged = 0;
        Ok(lost)
    }

    /// Leaves half of the last batch of several changes on a disk, as no disk may.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn tear(&self, store: &MemoryStore) -> Check {
        let torn = self.entries[self.acknowledged..].iter().rfind(|it| 1 < it.changes.len());
        let Some(entry) = torn else { return Ok(()) };
        let half = Entry { changes: entry.changes[..1].to_vec(), event: None };
        let mut batch = server::rows::entry_batch(&half, ShardId(1), Epoch(0));
        batch.speaker = None;
        store.append(batch).map(drop).map_err(|error| error.to_string())
    }

    /// Checks that the disk holds all that was done, and that events tell the same.
    ///
    /// # Errors
    /// What differs.
    pub fn check_store(&self, found: &Rows) -> Check {
        if found != self.keeping.rows() {
            let what = differences(self.keeping.rows(), found);
            return Err(format!("the store does not hold what was done: {what}"));
        }
        self.tally.check(&Tally::of(found))
    }

    /// Forgets old ticks.
    pub fn forget(&mut self, tick: Tick) {
        let first = tick.0.saturating_sub(KEPT_TICKS);
        self.ticks = self.ticks.split_off(&first);
    }
}

const fn thing_of(change: &Change) -> Option<EntityId> {
    match change {
        Change::Keep { thing, .. } => Some(thing.id),
        Change::Drop { thing, .. } => Some(*thing),
        Change::Looks { .. } => None,
    }
}

/// Says in words how two tables of things differ.
fn differences(expected: &Rows, found: &Rows) -> String {
    let missing = expected.iter().filter(|&(key, thing)| found.get(key) != Some(thing)).count();
    let strange = found.iter().filter(|&(key, thing)| expected.get(key) != Some(thing));
    let first =
        strange.clone().next().map(|((holder, id), _)| format!("; such as {id} with {holder:?}"));
    format!("{missing} rows missing, {} strange{}", strange.count(), first.unwrap_or_default())
}
