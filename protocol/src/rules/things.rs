//! Every thing of a region, who holds it, and what is going on between people: the shard's store.
//!
//! [`Things`] applies effects and answers questions. It decides nothing: whether something may
//! be done is the rules' business, and only [`Things::apply`] changes anything.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::effect::{Effect, Work};
use super::kind::KindId;
use super::limits::NEAR_CELLS_MAX;
use super::offer::{Offer, OfferEnd, OfferId};
use super::thing::{Holder, Thing};
use crate::ids::EntityId;
use crate::units::{Position, Tick};

/// Width of a cell of the index of places, in cm.
const CELL_CM: i32 = 1_600;

/// An effect that does not fit: the journal or the caller is broken, nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// It names a thing that is not here.
    #[error("thing {0} is not here")]
    NoThing(EntityId),
    /// It brings a thing whose id is taken.
    #[error("thing {0} is here already")]
    Twice(EntityId),
    /// It takes more than there is, or nothing.
    #[error("thing {thing} has {has}, cannot lose {count}")]
    Count {
        /// The thing.
        thing: EntityId,
        /// How many there are.
        has: u32,
        /// How many should go.
        count: u32,
    },
    /// It joins stacks of different kinds, or a stack with itself.
    #[error("thing {from} cannot join {into}")]
    Unlike {
        /// The one.
        from: EntityId,
        /// The other.
        into: EntityId,
    },
    /// It ends an offer that does not stand.
    #[error("offer {0:?} does not stand")]
    NoOffer(OfferId),
}

/// The things of a region, its offers, and who is busy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Things {
    things: BTreeMap<EntityId, Thing>,
    offers: BTreeMap<OfferId, Offer>,
    works: BTreeMap<EntityId, Work>,
    /// What each person or container holds. Kept equal to `things` by `put` and `pull`.
    held: BTreeMap<EntityId, BTreeSet<EntityId>>,
    /// What each person owns in the world. Kept like `held`.
    owned: BTreeMap<EntityId, BTreeSet<EntityId>>,
    /// What stands in each cell of the ground. Kept like `held`.
    cells: BTreeMap<(i32, i32), BTreeSet<EntityId>>,
}

/// Everything in [`Things`] as a record for snapshots; made by [`Things::record`].
#[derive(
    Clone,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct ThingsRecord {
    /// The things in the order of their ids.
    pub things: Vec<Thing>,
    /// The offers in the order of their ids.
    pub offers: Vec<Offer>,
    /// Who is busy, in the order of their ids.
    pub works: Vec<Work>,
}

impl Things {
    /// Returns everything as a record.
    #[must_use]
    pub fn record(&self) -> ThingsRecord {
        ThingsRecord {
            things: self.things.values().cloned().collect(),
            offers: self.offers.values().cloned().collect(),
            works: self.works.values().cloned().collect(),
        }
    }

    /// Returns what `record` describes.
    ///
    /// # Errors
    /// [`Misfit::Twice`] if an id appears twice; the record is damaged.
    pub fn restore(record: ThingsRecord) -> Result<Self, Misfit> {
        let mut things = Self::default();
        things.bring_in(record)?;
        Ok(things)
    }

    /// Adds what `record` describes, for a hand-off from another region.
    ///
    /// # Errors
    /// [`Misfit`] if a thing is here already or is none; nothing is changed then.
    pub fn bring_in(&mut self, record: ThingsRecord) -> Result<(), Misfit> {
        let mut ids = BTreeSet::new();
        for thing in &record.things {
            if self.things.contains_key(&thing.id) || !ids.insert(thing.id) {
                return Err(Misfit::Twice(thing.id));
            }
            if thing.count == 0 {
                return Err(Misfit::Count { thing: thing.id, has: 0, count: 0 });
            }
        }
        record.things.into_iter().for_each(|thing| self.put(thing));
        self.offers.extend(record.offers.into_iter().map(|offer| (offer.id, offer)));
        self.works.extend(record.works.into_iter().map(|work| (work.actor, work)));
        Ok(())
    }

    /// Returns the thing of this id.
    #[must_use]
    pub fn get(&self, id: EntityId) -> Option<&Thing> {
        self.things.get(&id)
    }

    /// Returns every thing in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Thing> {
        self.things.values()
    }

    /// Returns how many stacks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.things.len()
    }

    /// Returns whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.things.is_empty()
    }

    /// Returns what a person holds or a container keeps, in the order of their ids.
    pub fn held_by(&self, holder: EntityId) -> impl Iterator<Item = &Thing> {
        let ids = self.held.get(&holder).into_iter().flatten();
        ids.filter_map(|id| self.things.get(id))
    }

    /// Returns how many stacks a person holds or a container keeps.
    #[must_use]
    pub fn stacks_of(&self, holder: EntityId) -> usize {
        self.held.get(&holder).map_or(0, BTreeSet::len)
    }

    /// Returns how many things of `kind` somebody holds.
    #[must_use]
    pub fn count_of(&self, holder: EntityId, kind: KindId) -> u32 {
        let counts = self.held_by(holder).filter(|thing| thing.kind == kind);
        counts.fold(0, |sum, thing| sum.saturating_add(thing.count))
    }

    /// Returns how many things in the world belong to a person.
    #[must_use]
    pub fn owned_by(&self, owner: EntityId) -> usize {
        self.owned.get(&owner).map_or(0, BTreeSet::len)
    }

    /// Returns what stands within `reach_cm` of `at` over the ground, in the order of cells and
    /// ids; at most about 250 m far.
    pub fn near(&self, at: Position, reach_cm: u32) -> impl Iterator<Item = &Thing> {
        let reach = i32::try_from(reach_cm).unwrap_or(i32::MAX).min(NEAR_CELLS_MAX / 2 * CELL_CM);
        let cell = |cm: i32, by: i32| cm.saturating_add(by).div_euclid(CELL_CM);
        let columns = cell(at.x, -reach)..=cell(at.x, reach);
        let rows = move || cell(at.z, -reach)..=cell(at.z, reach);
        let ids =
            columns.flat_map(move |x| self.cells.range((x, *rows().start())..=(x, *rows().end())));
        let things = ids.flat_map(|(_, ids)| ids).filter_map(|id| self.things.get(id));
        things.filter(move |thing| thing.place().is_some_and(|place| place.is_within(at, reach_cm)))
    }

    /// Returns the offer of this number.
    #[must_use]
    pub fn offer(&self, id: OfferId) -> Option<&Offer> {
        self.offers.get(&id)
    }

    /// Returns every open offer in the order of their numbers.
    pub fn offers(&self) -> impl Iterator<Item = &Offer> {
        self.offers.values()
    }

    /// Returns what somebody is busy with.
    #[must_use]
    pub fn work(&self, actor: EntityId) -> Option<&Work> {
        self.works.get(&actor)
    }

    /// Returns everybody's work in the order of their ids.
    pub fn works(&self) -> impl Iterator<Item = &Work> {
        self.works.values()
    }

    /// Returns who is done at `now`, in the order of their ids; each is to be finished.
    #[must_use]
    pub fn due(&self, now: Tick) -> Vec<EntityId> {
        let due = self.works.values().filter(|work| work.until <= now);
        due.map(|work| work.actor).collect()
    }

    /// Returns the effects that end the offers nobody answered in time.
    #[must_use]
    pub fn expired(&self, now: Tick) -> Vec<Effect> {
        let expired = self.offers.values().filter(|offer| offer.until < now);
        let end = OfferEnd::Expired;
        expired.map(|offer| Effect::EndOffer { offer: offer.id, end }).collect()
    }

    /// Applies `effects` in order.
    ///
    /// # Errors
    /// The first [`Misfit`]; effects before it have been applied. Effects made by the rules for
    /// this very state always fit.
    pub fn apply_all(&mut self, effects: &[Effect]) -> Result<(), Misfit> {
        effects.iter().try_for_each(|effect| self.apply(effect))
    }

    /// Applies one effect.
    ///
    /// # Errors
    /// [`Misfit`] if it does not fit what is here; nothing is changed then.
    pub fn apply(&mut self, effect: &Effect) -> Result<(), Misfit> {
        match effect {
            Effect::Move { thing, to } => self.change(*thing, |thing| thing.holder = *to),
            Effect::Split { thing, count, new, to } => self.split(*thing, *count, *new, *to),
            Effect::Merge { from, count, into } => self.merge(*from, *count, *into),
            Effect::Create(thing) => self.add(thing.clone()),
            Effect::Consume { thing, count } => self.lose(*thing, *count),
            Effect::Set { thing, change } => self.change(*thing, |thing| thing.set(change)),
            Effect::Offer(offer) => {
                self.offers.insert(offer.id, offer.clone());
                Ok(())
            }
            Effect::EndOffer { offer, .. } => {
                self.offers.remove(offer).map(drop).ok_or(Misfit::NoOffer(*offer))
            }
            Effect::Begin(work) => {
                self.works.insert(work.actor, work.clone());
                Ok(())
            }
            Effect::EndWork { actor } => {
                // Ending what has ended already is no error: stopping and finishing may meet.
                self.works.remove(actor);
                Ok(())
            }
            Effect::Pose { .. } | Effect::Tell { .. } => Ok(()),
        }
    }

    /// Takes a person's things, offers and work out, for a hand-off to another region.
    #[must_use]
    pub fn take_out(&mut self, actor: EntityId) -> ThingsRecord {
        let ids: Vec<EntityId> = self.held.get(&actor).into_iter().flatten().copied().collect();
        let things = ids.into_iter().filter_map(|id| self.pull(id)).collect();
        let is_theirs = |offer: &Offer| offer.from == actor || offer.to == actor;
        let (offers, rest) =
            std::mem::take(&mut self.offers).into_iter().partition(|(_, offer)| is_theirs(offer));
        self.offers = rest;
        let offers: BTreeMap<OfferId, Offer> = offers;
        let works = self.works.remove(&actor).into_iter().collect();
        ThingsRecord { things, offers: offers.into_values().collect(), works }
    }

    /// Adds a thing that is not here yet.
    fn add(&mut self, thing: Thing) -> Result<(), Misfit> {
        if self.things.contains_key(&thing.id) {
            return Err(Misfit::Twice(thing.id));
        }
        if thing.count == 0 {
            return Err(Misfit::Count { thing: thing.id, has: 0, count: 0 });
        }
        self.put(thing);
        Ok(())
    }

    fn split(&mut self, id: EntityId, count: u32, new: EntityId, to: Holder) -> Result<(), Misfit> {
        let thing = self.things.get(&id).ok_or(Misfit::NoThing(id))?;
        if count == 0 || thing.count <= count {
            return Err(Misfit::Count { thing: id, has: thing.count, count });
        }
        let part = Thing { id: new, count, holder: to, ..thing.clone() };
        self.add(part)?;
        self.lose(id, count)
    }

    fn merge(&mut self, from: EntityId, count: u32, into: EntityId) -> Result<(), Misfit> {
        let source = self.things.get(&from).ok_or(Misfit::NoThing(from))?;
        let target = self.things.get(&into).ok_or(Misfit::NoThing(into))?;
        if from == into || source.kind != target.kind {
            return Err(Misfit::Unlike { from, into });
        }
        let Some(sum) = target.count.checked_add(count) else {
            return Err(Misfit::Unlike { from, into });
        };
        self.lose(from, count)?;
        self.change(into, |target| target.count = sum)
    }

    fn lose(&mut self, id: EntityId, count: u32) -> Result<(), Misfit> {
        let has = self.things.get(&id).ok_or(Misfit::NoThing(id))?.count;
        if count == 0 || has < count {
            return Err(Misfit::Count { thing: id, has, count });
        }
        if has == count {
            self.pull(id);
            return Ok(());
        }
        self.change(id, |thing| thing.count = has - count)
    }

    fn change(&mut self, id: EntityId, how: impl FnOnce(&mut Thing)) -> Result<(), Misfit> {
        let mut thing = self.pull(id).ok_or(Misfit::NoThing(id))?;
        how(&mut thing);
        self.put(thing);
        Ok(())
    }

    /// Adds a thing and its entries in every index.
    fn put(&mut self, thing: Thing) {
        let id = thing.id;
        match thing.holder {
            Holder::Held(holder) | Holder::Inside(holder) => {
                self.held.entry(holder).or_default().insert(id);
            }
            Holder::Placed { at, .. } => {
                self.cells.entry(cell_of(at)).or_default().insert(id);
                if let Some(owner) = thing.owner {
                    self.owned.entry(owner).or_default().insert(id);
                }
            }
        }
        self.things.insert(id, thing);
    }

    /// Removes a thing and its entries in every index.
    fn pull(&mut self, id: EntityId) -> Option<Thing> {
        let thing = self.things.remove(&id)?;
        if let Some(holder) = thing.holder.of() {
            unlink(&mut self.held, holder, id);
        }
        if let Some(at) = thing.place() {
            unlink(&mut self.cells, cell_of(at), id);
            if let Some(owner) = thing.owner {
                unlink(&mut self.owned, owner, id);
            }
        }
        Some(thing)
    }
}

const fn cell_of(at: Position) -> (i32, i32) {
    (at.x.div_euclid(CELL_CM), at.z.div_euclid(CELL_CM))
}

/// Removes an entry from an index, and the row it leaves empty.
fn unlink<K: Ord>(index: &mut BTreeMap<K, BTreeSet<EntityId>>, key: K, id: EntityId) {
    let Some(row) = index.get_mut(&key) else { return };
    row.remove(&id);
    if row.is_empty() {
        index.remove(&key);
    }
}

#[cfg(test)]
mod tests;
