//! An act being worked out: a copy of the few things it touches, and the effects so far.
//!
//! Each effect is applied to the copy at once, so an act that takes and gives counts right, and
//! what is written down always fits. The world itself is only read.

use std::collections::BTreeSet;

use super::View;
use super::effect::{Change, Effect, Outcome};
use super::event::{Detail, Happening, Phase};
use super::kind::{Kind, KindId, Lot};
use super::limits::{HELD_STACKS_MAX, STACK_MAX};
use super::thing::{Holder, Thing};
use super::things::Things;
use super::verb::{Act, Verb};
use super::why::Why;
use super::{ActorView, reach_to};
use crate::ids::{EntityId, IdMint};
use crate::units::{Position, Tick};

/// An act being worked out.
pub struct Draft<'a, V: ?Sized> {
    pub view: &'a V,
    pub act: &'a Act,
    /// Who acts.
    pub id: EntityId,
    pub actor: ActorView,
    /// Copies of the things touched so far, after the effects so far.
    things: Things,
    /// What has ever been among the copies.
    seen: BTreeSet<EntityId>,
    /// Whose holdings are among the copies.
    copied: BTreeSet<EntityId>,
    mint: &'a mut IdMint,
    outcome: Outcome,
}

impl<'a, V: View + ?Sized> Draft<'a, V> {
    pub fn new(view: &'a V, act: &'a Act, id: EntityId, mint: &'a mut IdMint) -> Result<Self, Why> {
        let actor = view.actor(id).ok_or(Why::NotThere)?;
        let (things, seen, copied) = (Things::default(), BTreeSet::new(), BTreeSet::new());
        let mut draft =
            Self { view, act, id, actor, things, seen, copied, mint, outcome: Outcome::default() };
        draft.copy_holdings(id);
        Ok(draft)
    }

    pub fn into_outcome(self) -> Outcome {
        self.outcome
    }

    pub fn now(&self) -> Tick {
        self.view.now()
    }

    /// Returns a number that was never used before.
    pub fn mint(&mut self) -> u64 {
        self.mint.mint()
    }

    /// Returns the act's target.
    pub fn target(&self) -> Result<EntityId, Why> {
        self.act.target.ok_or(Why::NoTarget)
    }

    /// Returns the other person the act is about, within reach.
    pub fn other(&self, id: EntityId) -> Result<ActorView, Why> {
        let other = self.view.actor(id).ok_or(Why::NotThere)?;
        if id == self.id {
            return Err(Why::NotPossible);
        }
        self.check_reach(other.position)?;
        Ok(other)
    }

    /// Fails if `place` is out of the verb's reach.
    pub fn check_reach(&self, place: Position) -> Result<(), Why> {
        let reach_cm = self.act.verb.row().reach_cm;
        let cm = reach_to(self.actor.position, place);
        if cm <= reach_cm { Ok(()) } else { Err(Why::TooFar { cm, reach_cm }) }
    }

    /// Returns a thing that stands in the world within reach, and its kind.
    pub fn standing(&mut self, id: EntityId) -> Result<(Thing, &'a Kind), Why> {
        let thing = self.thing(id)?;
        let place = thing.place().ok_or(Why::NotThere)?;
        self.check_reach(place)?;
        let kind = self.kind(thing.kind)?;
        Ok((thing, kind))
    }

    /// Returns a thing one holds, and its kind.
    pub fn held(&mut self, id: EntityId) -> Result<(Thing, &'a Kind), Why> {
        let thing = self.thing(id)?;
        if thing.holder != Holder::Held(self.id) {
            return Err(Why::NotHolding { held: 0 });
        }
        let kind = self.kind(thing.kind)?;
        Ok((thing, kind))
    }

    /// Returns a thing as it is after the effects so far.
    pub fn thing(&mut self, id: EntityId) -> Result<Thing, Why> {
        if self.things.get(id).is_none() && !self.seen.contains(&id) {
            let thing = self.view.things().get(id).ok_or(Why::NotThere)?;
            self.copy(thing.clone());
        }
        self.things.get(id).cloned().ok_or(Why::NotThere)
    }

    /// Returns the kind of this number; it may be gone if the rules have changed.
    pub fn kind(&self, id: KindId) -> Result<&'a Kind, Why> {
        self.view.book().kind(id).ok_or(Why::NotPossible)
    }

    /// Returns how many of `kind` somebody holds after the effects so far.
    pub fn count_of(&mut self, holder: EntityId, kind: KindId) -> u32 {
        self.copy_holdings(holder);
        self.things.count_of(holder, kind)
    }

    /// Fails unless one holds a thing of `tool`.
    pub fn check_tool(&mut self, tool: Option<KindId>) -> Result<(), Why> {
        match tool {
            Some(kind) if self.count_of(self.id, kind) == 0 => Err(Why::Missing { kind, count: 1 }),
            Some(_) | None => Ok(()),
        }
    }

    /// Moves `count` of a stack to a person or into a container, onto stacks that have room.
    pub fn transfer(&mut self, id: EntityId, count: u32, to: Holder) -> Result<(), Why> {
        let thing = self.thing(id)?;
        if count == 0 || thing.count < count {
            return Err(Why::NotHolding { held: thing.count });
        }
        let mut rest = count;
        for (into, room) in self.room_in_stacks(&thing, to) {
            let fits = room.min(rest);
            if fits == 0 {
                break;
            }
            self.push(Effect::Merge { from: id, count: fits, into })?;
            rest -= fits;
        }
        let Some(left) = self.things.get(id).map(|thing| thing.count) else { return Ok(()) };
        if rest == 0 {
            return Ok(());
        }
        if rest == left {
            return self.push(Effect::Move { thing: id, to });
        }
        let new = EntityId(self.mint());
        self.push(Effect::Split { thing: id, count: rest, new, to })
    }

    /// Returns the stacks at `to` that `thing` can join and how much room each has.
    fn room_in_stacks(&mut self, thing: &Thing, to: Holder) -> Vec<(EntityId, u32)> {
        let (Holder::Held(holder) | Holder::Inside(holder)) = to else { return Vec::new() };
        self.copy_holdings(holder);
        let stack = self.view.book().kind(thing.kind).map_or(1, |kind| kind.stack);
        if !thing.is_plain() {
            return Vec::new();
        }
        let joins =
            |other: &&Thing| other.kind == thing.kind && other.id != thing.id && other.is_plain();
        let room = |other: &Thing| (other.id, stack.saturating_sub(other.count));
        self.things.held_by(holder).filter(joins).map(room).collect()
    }

    /// Brings `lot` into somebody's hands; the rules say where it comes from.
    pub fn create(&mut self, lot: Lot, to: EntityId) -> Result<(), Why> {
        let id = EntityId(self.mint());
        // It joins full stacks from nowhere: held by nobody for the length of this act.
        let limbo = Holder::Inside(id);
        self.push(Effect::Create(Thing::new(id, lot.kind, lot.count, limbo)))?;
        self.transfer(id, lot.count, Holder::Held(to))
    }

    /// Uses up `lot` out of what one holds.
    pub fn spend(&mut self, lot: Lot) -> Result<(), Why> {
        for (thing, count) in self
            .choose(self.id, lot)
            .map_err(|lacking| Why::Missing { kind: lot.kind, count: lacking })?
        {
            self.push(Effect::Consume { thing, count })?;
        }
        Ok(())
    }

    /// Returns the stacks of `holder` that make up `lot`, or how many are lacking.
    pub fn choose(&mut self, holder: EntityId, lot: Lot) -> Result<Vec<(EntityId, u32)>, u32> {
        self.copy_holdings(holder);
        let (mut chosen, mut rest) = (Vec::new(), lot.count);
        for thing in self.things.held_by(holder).filter(|thing| thing.kind == lot.kind) {
            let count = thing.count.min(rest);
            if count == 0 {
                break;
            }
            chosen.push((thing.id, count));
            rest -= count;
        }
        if rest == 0 { Ok(chosen) } else { Err(rest) }
    }

    /// Fails if somebody holds more stacks than they can.
    pub fn check_room(&mut self, holder: EntityId) -> Result<(), Why> {
        self.copy_holdings(holder);
        if self.things.stacks_of(holder) <= HELD_STACKS_MAX {
            return Ok(());
        }
        Err(Why::Full { stacks_max: u32::try_from(HELD_STACKS_MAX).unwrap_or(u32::MAX) })
    }

    /// Fails if a container keeps more stacks than its kind can.
    pub fn check_container(&mut self, container: EntityId, kind: &Kind) -> Result<(), Why> {
        self.copy_holdings(container);
        if self.things.stacks_of(container) <= usize::from(kind.holds) {
            return Ok(());
        }
        Err(Why::Full { stacks_max: u32::from(kind.holds) })
    }

    /// Changes a thing's state.
    pub fn set(&mut self, thing: EntityId, change: Change) -> Result<(), Why> {
        self.push(Effect::Set { thing, change })
    }

    /// Writes an effect down and applies it to the copies.
    pub fn push(&mut self, effect: Effect) -> Result<(), Why> {
        // Only things are copied; offers and work are checked by who writes them.
        let is_about_things = match effect {
            Effect::Move { .. }
            | Effect::Split { .. }
            | Effect::Merge { .. }
            | Effect::Create(_)
            | Effect::Consume { .. }
            | Effect::Set { .. } => true,
            Effect::Offer(_)
            | Effect::EndOffer { .. }
            | Effect::Begin(_)
            | Effect::EndWork { .. }
            | Effect::Pose { .. }
            | Effect::Tell { .. } => false,
        };
        if is_about_things {
            self.things.apply(&effect).map_err(|_| Why::NotThere)?;
        }
        self.outcome.effects.push(effect);
        Ok(())
    }

    /// Says what happened at one's own place.
    pub fn happen(&mut self, target: Option<EntityId>, detail: Detail) {
        let happening = happening(self.id, &self.actor, self.act.verb, target);
        self.outcome.happenings.push(Happening { detail, ..happening });
    }

    /// Says what happened.
    pub fn announce(&mut self, happening: Happening) {
        self.outcome.happenings.push(happening);
    }

    fn copy_holdings(&mut self, holder: EntityId) {
        if !self.copied.insert(holder) {
            return;
        }
        for thing in self.view.things().held_by(holder) {
            self.copy(thing.clone());
        }
    }

    /// Copies a thing the first time: one that this act has used up stays gone.
    fn copy(&mut self, thing: Thing) {
        if self.seen.insert(thing.id) {
            let copied = self.things.apply(&Effect::Create(thing));
            debug_assert!(copied.is_ok(), "only what was never copied is copied: {copied:?}");
        }
    }
}

/// Returns the happening of a verb done by somebody where they stand.
pub fn happening(
    id: EntityId,
    actor: &ActorView,
    verb: Verb,
    target: Option<EntityId>,
) -> Happening {
    Happening {
        place: actor.position,
        actor: id,
        verb,
        phase: Phase::Done,
        target,
        reach_cm: verb.row().noticed_cm,
        detail: Detail::None,
    }
}

/// Returns `count` if it is one that can be meant, all of `all` if none is given.
pub fn count_or_all(count: Option<u32>, all: u32) -> Result<u32, Why> {
    match count {
        None => Ok(all),
        Some(count) if (1..=STACK_MAX).contains(&count) && count <= all => Ok(count),
        Some(_) => Err(Why::NotHolding { held: all }),
    }
}
