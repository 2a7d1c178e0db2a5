//! Phase 4, rules: acts are begun, finished and stopped, and what comes of them is applied.
//!
//! What is possible is [`protocol::rules`]' to say; here its outcomes change the shard, go to the
//! journal as one entry each, and are told to those they concern once they are on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::ids::{EntityId, PersonId};
use protocol::message::ServerMessage;
use protocol::message::server::{Begun, Being, Done, Holding, OfferEnded, Offered, Refused};
use protocol::motion::Mode;
use protocol::rules::{
    self, Act, ActorView, Args, Effect, Holder, Outcome, Pose, RuleBook, Thing, Things, Verb, View,
    Why,
};
use protocol::state::EntityState;
use protocol::units::Tick;

use super::batch::{Change, Command, Entry, Letter, StepOutput};
use super::entities::{About, Entity, Owner};
use super::{Errand, Shard};
use crate::region::RegionIndex;

/// How far a ghost may be from where it is shown: a tick of running, and rounding.
const GHOST_SLACK_CM: u32 = 100;

/// Ticks between two looks at things that change by themselves: once a second at 20 Hz.
const REGROW_TICKS: u64 = 20;

/// The shard as the rules read it.
struct Scene<'a> {
    shard: &'a Shard,
}

impl View for Scene<'_> {
    fn book(&self) -> &RuleBook {
        &self.shard.rules.book
    }

    fn things(&self) -> &Things {
        &self.shard.things
    }

    fn now(&self) -> Tick {
        self.shard.tick
    }

    fn hz(&self) -> u16 {
        self.shard.rules.motion.hz
    }

    fn actor(&self, id: EntityId) -> Option<ActorView> {
        if let Some(avatar) = self.shard.avatars.get(&id) {
            let (position, yaw) = (avatar.body.position(), avatar.body.yaw);
            return Some(ActorView { position, yaw, muted: false });
        }
        // Somebody across the border can be waved at; dealing with them goes over there.
        let ghost = self.shard.entities.by_id(id)?;
        match ghost.about.being {
            Being::Avatar { .. } => Some(ActorView {
                position: ghost.state.position,
                yaw: ghost.state.heading(),
                muted: false,
            }),
            Being::Thing { .. } => None,
        }
    }

    fn ground_cm(&self, x: i32, z: i32) -> Option<i32> {
        self.shard.ground.heights.height_cm(x, z)
    }
}

impl Shard {
    /// Begins an act, here or, if it is about something of a neighbour's in reach, over there: at the
    /// end of this step, which its actor makes here like everybody.
    pub(super) fn begin_act(
        &mut self,
        id: EntityId,
        request: u32,
        act: Act,
        output: &mut StepOutput,
    ) {
        let Some(to) = self.elsewhere(&act) else {
            return self.begin_act_here(id, request, &act, output);
        };
        // Who names something far away stays where they are, and is told.
        match self.too_far(id, &act) {
            Some(why) => self.tell(id, Refused { request, why }.into(), None, output),
            None => drop(self.errands.insert(id, Errand { to, request, act })),
        }
    }

    pub(super) fn begin_act_here(
        &mut self,
        id: EntityId,
        request: u32,
        act: &Act,
        output: &mut StepOutput,
    ) {
        if !self.avatars.contains_key(&id) {
            return;
        }
        let mut mint = self.mint.lend();
        let begun = rules::begin(id, act, &Scene { shard: self }, &mut mint);
        self.mint = mint;
        match begun {
            Ok(outcome) => {
                let until = outcome.until;
                let reply = Reply { id, request };
                if let Some(until) = until {
                    if let Some(avatar) = self.avatars.get_mut(&id) {
                        avatar.busy_request = Some(request);
                    }
                    self.realize(outcome, None, output);
                    self.tell(id, Begun { request, until }.into(), None, output);
                } else {
                    self.realize(outcome, Some(reply), output);
                }
            }
            Err(why) => self.tell(id, Refused { request, why }.into(), None, output),
        }
    }

    /// Returns why somebody cannot reach the target of an act across the border, if so.
    fn too_far(&self, id: EntityId, act: &Act) -> Option<Why> {
        let here = self.avatars.get(&id)?.body.position();
        let there = self.entities.by_id(act.target?)?.state.position;
        let (cm, reach_cm) = (rules::reach_to(here, there), act.verb.row().reach_cm);
        (cm > reach_cm.saturating_add(GHOST_SLACK_CM)).then_some(Why::TooFar { cm, reach_cm })
    }

    /// Returns whose shard must carry an act out, if it is not this one.
    pub(super) fn elsewhere(&self, act: &Act) -> Option<RegionIndex> {
        let is_between = match act.verb {
            Verb::Take
            | Verb::Put
            | Verb::Give
            | Verb::Offer
            | Verb::Use
            | Verb::Open
            | Verb::Close
            | Verb::Lock
            | Verb::Gather
            | Verb::Make
            | Verb::Read
            | Verb::Write => true,
            Verb::Accept | Verb::Decline | Verb::Withdraw => {
                let Args::Offer(offer) = act.args else { return None };
                if let Some(offer) = self.things.offer(offer) {
                    // The one who asked came over; the one who offered still stands next door.
                    return match self.entities.by_id(offer.from)?.owner {
                        Owner::Here => None,
                        Owner::Neighbour(region) => Some(region),
                    };
                }
                return self.offers_gone.get(&offer).copied();
            }
            Verb::Drop | Verb::Build | Verb::Greet | Verb::Emote | Verb::Say | Verb::Stop => false,
        };
        let target = act.target.filter(|_| is_between)?;
        match self.entities.by_id(target)?.owner {
            Owner::Here => None,
            Owner::Neighbour(region) => Some(region),
        }
    }

    /// Finishes what is due, and stops what somebody walked away from.
    pub(super) fn finish_acts(&mut self, output: &mut StepOutput) {
        let left: Vec<EntityId> = self
            .things
            .works()
            .filter(|work| {
                self.avatars.get(&work.actor).is_none_or(|avatar| {
                    rules::has_moved_away(work, avatar.body.position())
                        || avatar.body.mode != Mode::Work
                })
            })
            .map(|work| work.actor)
            .collect();
        for id in left {
            self.stop_act(id, output);
        }
        for id in self.things.due(self.tick) {
            let mut mint = self.mint.lend();
            let finished = rules::finish(id, &Scene { shard: self }, &mut mint);
            self.mint = mint;
            let Some(finished) = finished else { continue };
            let request = self.avatars.get_mut(&id).and_then(|avatar| avatar.busy_request.take());
            let reply = request.map(|request| Reply { id, request });
            match finished.refused {
                None => self.realize(finished.outcome, reply, output),
                Some(why) => {
                    self.realize(finished.outcome, None, output);
                    if let Some(Reply { id, request }) = reply {
                        self.tell(id, Refused { request, why }.into(), None, output);
                    }
                }
            }
        }
        let expired = self.things.expired(self.tick);
        if !expired.is_empty() {
            let outcome = Outcome { effects: expired, ..Outcome::default() };
            self.realize(outcome, None, output);
        }
    }

    /// Stops what a client asked to be stopped.
    pub(super) fn cancel(&mut self, id: EntityId, request: u32, output: &mut StepOutput) {
        let busy = self.avatars.get(&id).and_then(|avatar| avatar.busy_request);
        if busy == Some(request) {
            self.stop_act(id, output);
        }
    }

    /// Stops what somebody is at, if anything; they are told.
    pub(super) fn stop_act(&mut self, id: EntityId, output: &mut StepOutput) {
        let Some(outcome) = rules::interrupt(id, &Scene { shard: self }) else { return };
        self.realize(outcome, None, output);
    }

    /// Puts a stored thing, or a traveller's, in.
    pub(super) fn put_thing(&mut self, thing: Thing) {
        let id = thing.id;
        // A thing that is here already came before: it is the same one, told twice.
        if self.things.apply(&Effect::Create(thing)).is_ok() {
            self.sync_thing(id);
        }
    }

    /// Brings what things look like up to date once a second: trees that bear again.
    pub(super) fn refresh_things(&mut self) {
        if !self.tick.0.is_multiple_of(REGROW_TICKS) {
            return;
        }
        let regrowing = self.things.iter().filter(|thing| thing.state.gathered > 0);
        let ids: Vec<EntityId> = regrowing.map(|thing| thing.id).collect();
        for id in ids {
            self.sync_thing(id);
        }
    }

    /// Tells somebody here everything they hold.
    pub(super) fn tell_holding(&self, id: EntityId, after: Option<usize>, output: &mut StepOutput) {
        let things = self.things.held_by(id).cloned().collect();
        self.tell(id, Holding { tick: self.tick, things }.into(), after, output);
    }

    /// Applies what an act brings about: to the world, the journal, and those it concerns.
    pub(super) fn realize(
        &mut self,
        outcome: Outcome,
        reply: Option<Reply>,
        output: &mut StepOutput,
    ) {
        let touched = touched(&outcome.effects);
        let before: BTreeMap<EntityId, Option<Keeper>> =
            touched.iter().map(|&thing| (thing, self.keeper(thing))).collect();
        self.things.apply_all(&outcome.effects).expect("rules work effects out for this state");
        let mut changes = Vec::new();
        let mut holders = BTreeSet::new();
        for (&thing, before) in &before {
            let after = self.keeper(thing);
            if let Some(was) = before.filter(|was| after.map(|now| now.person) != Some(was.person))
            {
                changes.push(Change::Drop { thing, holder: was.person });
            }
            if let (Some(now), Some(thing)) = (after, self.things.get(thing)) {
                changes.push(Change::Keep { thing: thing.clone(), holder: now.person });
            }
            holders.extend(before.iter().chain(&after).filter_map(|keeper| keeper.avatar));
            self.sync_thing(thing);
            let place = self.things.get(thing).and_then(Thing::place);
            if place.is_some_and(|at| self.rules.regions.index_of(at) != self.region.index) {
                self.put_outside.push(thing);
            }
        }
        let mut events = Vec::new();
        for happening in outcome.happenings {
            events.push(happening.numbered(self.mint.mint(), self.tick));
        }
        let entry = (!changes.is_empty()).then(|| {
            output.journal.push(Entry { changes, event: events.first().cloned() });
            output.journal.len() - 1
        });
        let text = self.carry_out(&outcome.effects, output);
        for event in events {
            self.spread(event, None, output);
        }
        for holder in holders {
            self.tell_holding(holder, entry, output);
        }
        if let Some(Reply { id, request }) = reply {
            let done = Done { request, tick: self.tick, text };
            self.tell(id, done.into(), entry, output);
        }
    }

    /// Carries out what effects mean beyond things: poses and offers. Returns what was read.
    fn carry_out(&mut self, effects: &[Effect], output: &mut StepOutput) -> Option<String> {
        let mut read = None;
        for effect in effects {
            match effect {
                Effect::Pose { actor, pose } => {
                    let Some(avatar) = self.avatars.get_mut(actor) else { continue };
                    match pose {
                        Pose::Free => avatar.body.stand_up(),
                        Pose::Sit => drop(avatar.body.settle(Mode::Sit)),
                        Pose::Work => drop(avatar.body.settle(Mode::Work)),
                    }
                }
                Effect::Tell { text, .. } => read = Some(text.clone()),
                Effect::Offer(offer) => {
                    self.parties.insert(offer.id, (offer.from, offer.to));
                    for party in [offer.from, offer.to] {
                        let message = Offered { offer: offer.clone() };
                        self.tell(party, message.into(), None, output);
                    }
                }
                Effect::EndOffer { offer, end } => {
                    let Some((from, to)) = self.parties.remove(offer) else { continue };
                    for avatar in [from, to] {
                        let ended = OfferEnded { offer: *offer, end: *end };
                        if self.avatars.contains_key(&avatar) {
                            self.tell(avatar, ended.into(), None, output);
                        } else {
                            // Handed over since, or gone for good.
                            output.strays.push(Command::EndOffer { avatar, ended });
                        }
                    }
                }
                Effect::Move { .. }
                | Effect::Split { .. }
                | Effect::Merge { .. }
                | Effect::Create(_)
                | Effect::Consume { .. }
                | Effect::Set { .. }
                | Effect::Begin(_) => {}
                Effect::EndWork { actor } => {
                    // What was finished has its answer; what was stopped gets it here.
                    let avatar = self.avatars.get_mut(actor);
                    let request = avatar.and_then(|avatar| avatar.busy_request.take());
                    if let Some(request) = request {
                        let why = Why::Interrupted;
                        self.tell(*actor, Refused { request, why }.into(), None, output);
                    }
                }
            }
        }
        read
    }

    /// Tells the client of an avatar here something.
    pub(super) fn tell(
        &self,
        id: EntityId,
        message: ServerMessage,
        after: Option<usize>,
        output: &mut StepOutput,
    ) {
        let viewer = self.avatars.get(&id).and_then(|avatar| avatar.viewer.as_ref());
        if let Some(viewer) = viewer {
            output.letters.push(Letter { to: viewer.client, message, after });
        }
    }

    /// Returns with whom a thing is kept; nothing if it is not here.
    fn keeper(&self, thing: EntityId) -> Option<Keeper> {
        match self.things.get(thing)?.holder {
            Holder::Held(id) => {
                let person = self.avatars.get(&id).map(|avatar| avatar.person);
                Some(Keeper { avatar: Some(id), person })
            }
            Holder::Inside(_) | Holder::Placed { .. } => {
                Some(Keeper { avatar: None, person: None })
            }
        }
    }

    /// Brings the table of entities in line with a thing.
    fn sync_thing(&mut self, id: EntityId) {
        let standing = self.things.get(id).and_then(|thing| self.appearance(thing));
        let Some((state, being)) = standing else {
            let is_ours = self.entities.by_id(id).is_some_and(|entity| entity.owner == Owner::Here);
            if is_ours {
                self.entities.remove(id);
            }
            return self.sync_pillar(id);
        };
        let about = match self.entities.by_id(id) {
            Some(known) if known.about.being == being => Arc::clone(&known.about),
            Some(known) => Arc::new(About { being, version: known.about.version.wrapping_add(1) }),
            None => Arc::new(About { being, version: 0 }),
        };
        self.entities.put(Entity { id, owner: Owner::Here, state, about, told_at: self.tick });
        self.sync_pillar(id);
    }

    /// Returns how a thing that stands in the world looks.
    fn appearance(&self, thing: &Thing) -> Option<(EntityState, Being)> {
        let Holder::Placed { at, yaw } = thing.holder else { return None };
        let kind = self.rules.book.kind(thing.kind)?;
        let flags = thing.flags(kind, self.tick);
        let state =
            EntityState { position: at, yaw: yaw.coarse(), flags, ..EntityState::default() };
        let being = Being::Thing { kind: thing.kind, count: thing.count, text: thing.text() };
        Some((state, being))
    }
}

/// With whom a thing is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Keeper {
    avatar: Option<EntityId>,
    person: Option<PersonId>,
}

/// Who waits for an answer to what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply {
    id: EntityId,
    request: u32,
}

/// Returns the things that effects change.
fn touched(effects: &[Effect]) -> BTreeSet<EntityId> {
    let mut things = BTreeSet::new();
    for effect in effects {
        match effect {
            Effect::Move { thing, .. }
            | Effect::Consume { thing, .. }
            | Effect::Set { thing, .. } => drop(things.insert(*thing)),
            Effect::Split { thing, new, .. } => things.extend([*thing, *new]),
            Effect::Merge { from, into, .. } => things.extend([*from, *into]),
            Effect::Create(thing) => drop(things.insert(thing.id)),
            Effect::Offer(_)
            | Effect::EndOffer { .. }
            | Effect::Begin(_)
            | Effect::EndWork { .. }
            | Effect::Pose { .. }
            | Effect::Tell { .. } => {}
        }
    }
    things
}
