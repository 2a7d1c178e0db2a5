//! Phase 7, hand-off: coming in, going out, and moving on to the shard next door.
//!
//! A traveller takes everything along: body, inputs, things, view. Its old shard keeps showing it
//! as the neighbour's ghost, so nobody sees the border; its new one takes it in by id, once. What
//! somebody in the margin puts down across the border goes the same way.

use std::collections::BTreeSet;
use std::sync::Arc;

use protocol::ids::EntityId;
use protocol::message::server::Refused;
use protocol::motion::{self, Body};
use protocol::rules::{Act, Effect, Offer, OfferEnd, Outcome, ThingsRecord, Why};
use protocol::units::Position;

use super::avatar::Avatar;
use super::batch::{StepOutput, Traveller, Whereabouts};
use super::entities::{Entity, Owner};
use super::input::InputQueue;
use super::viewer::{ClientKey, Told, Viewer};
use super::{Errand, MARGIN_CM, Shard};
use crate::region::RegionIndex;

/// Offers whose way is remembered: those open between two people who crossed a border lately.
const OFFERS_GONE_MAX: usize = 1_024;

impl Shard {
    /// Takes an avatar in; one that is here already stays as it is.
    pub(super) fn arrive(&mut self, traveller: Traveller, output: &mut StepOutput) {
        let Traveller { mut avatar, things, viewer, errand } = traveller;
        if self.avatars.contains_key(&avatar.id) {
            return;
        }
        let id = avatar.id;
        // Whoever is shown something comes from next door, where motion kept them clear of things.
        if viewer.is_none() {
            self.put_beside(&mut avatar.body);
        }
        self.entities.put(Entity {
            id,
            owner: Owner::Here,
            state: avatar.body.state(),
            about: Arc::clone(&avatar.about),
            told_at: self.tick,
        });
        let ThingsRecord { things, offers, works } = things;
        for thing in things {
            self.put_thing(thing);
        }
        for offer in offers {
            self.offers_gone.remove(&offer.id);
            self.parties.insert(offer.id, (offer.from, offer.to));
            self.things.apply(&Effect::Offer(offer)).expect("an offer always fits");
        }
        for work in works {
            self.things.apply(&Effect::Begin(work)).expect("work always fits");
        }
        avatar.viewer = viewer.map(|mut viewer| {
            viewer.move_to(&self.entities);
            viewer
        });
        self.avatars.insert(id, avatar);
        if let Some((request, act)) = errand {
            // Whom it was meant for may have gone on meanwhile: what is given to somebody who is
            // another shard's would be nobody's.
            match self.elsewhere(&act) {
                None => self.begin_act_here(id, request, &act, output),
                Some(_) => {
                    let why = Why::NotThere;
                    self.tell(id, Refused { request, why }.into(), None, output);
                }
            }
        }
    }

    /// Puts a body that stands in something solid beside it: somebody may have built where it was
    /// left, and newcomers are spread without looking.
    fn put_beside(&self, body: &mut Body) {
        let at = body.position();
        let place = motion::free_place(at, &self.ground, &self.rules.motion);
        if place != at {
            let height = self.ground.heights.height_cm(place.x, place.z);
            let y = height.unwrap_or(place.y);
            *body = Body::standing(Position { y, ..place }, body.yaw);
        }
    }

    /// Takes an avatar out of the world, with what it holds.
    pub(super) fn leave(&mut self, id: EntityId, output: &mut StepOutput) {
        self.stop_act(id, output);
        let is_party = |offer: &&Offer| offer.from == id || offer.to == id;
        let open = self.things.offers().filter(is_party);
        let end = OfferEnd::Withdrawn;
        let effects = open.map(|offer| Effect::EndOffer { offer: offer.id, end }).collect();
        self.realize(Outcome { effects, ..Outcome::default() }, None, output);
        if let Some((avatar, _)) = self.take_out(id) {
            self.entities.remove(id);
            output.departed.push(Whereabouts::of(id, avatar.person, &avatar.body));
            // A neighbour that still shows it as a ghost must hear that it is gone.
            for border in &mut self.borders {
                border.owe(id);
            }
        }
    }

    /// Begins to show an avatar's surroundings to a client, which was announced `told` so far.
    pub(super) fn attach(
        &mut self,
        id: EntityId,
        (client, told): (ClientKey, Told),
        hidden: BTreeSet<EntityId>,
        output: &mut StepOutput,
    ) {
        let Some(avatar) = self.avatars.get_mut(&id) else { return };
        avatar.viewer = Some(Box::new(Viewer::new(client, self.rules.motion.hz, hidden, told)));
        avatar.inputs = InputQueue::facing(avatar.body.yaw);
        self.tell_holding(id, None, output);
    }

    /// Shows nothing to the avatar's client any more.
    pub(super) fn detach(&mut self, id: EntityId, stops: bool, output: &mut StepOutput) {
        let Some(avatar) = self.avatars.get_mut(&id) else { return };
        avatar.viewer = None;
        avatar.inputs = InputQueue::facing(avatar.body.yaw);
        if stops {
            self.stop_act(id, output);
        }
    }

    /// Hands over what was put down across a border: a thing belongs to the region it stands in,
    /// with what lies in it.
    pub(super) fn hand_things_over(&mut self, output: &mut StepOutput) {
        for id in std::mem::take(&mut self.put_outside) {
            // Somebody may have taken it up again in this very step.
            let Some(thing) = self.things.get(id).cloned() else { continue };
            let Some(at) = thing.place() else { continue };
            let region = self.rules.regions.index_of(at);
            let whole = Effect::Consume { thing: id, count: thing.count };
            self.things.apply(&whole).expect("it is here");
            let mut things = vec![thing];
            things.extend(self.things.take_out(id).things);
            self.show_as_theirs(id, region);
            output.things.push((region, things));
        }
    }

    /// Hands over everyone who has an errand across a border or has walked out of the region.
    pub(super) fn hand_over(&mut self, output: &mut StepOutput) {
        for (id, Errand { to, request, act }) in std::mem::take(&mut self.errands) {
            self.send_over(id, to, Some((request, act)), output);
        }
        let outside = self.avatars.values().filter(|avatar| {
            self.region.distance_cm(avatar.body.position()) > MARGIN_CM
                && self.rules.regions.index_of(avatar.body.position()) != self.region.index
        });
        let leavers: Vec<(EntityId, RegionIndex)> = outside
            .map(|avatar| (avatar.id, self.rules.regions.index_of(avatar.body.position())))
            .collect();
        for (id, region) in leavers {
            self.send_over(id, region, None, output);
        }
    }

    /// Sends an avatar to another region's shard, to do something there if it has an errand.
    fn send_over(
        &mut self,
        id: EntityId,
        region: RegionIndex,
        errand: Option<(u32, Act)>,
        output: &mut StepOutput,
    ) {
        let Some((mut avatar, things)) = self.take_out(id) else { return };
        for offer in &things.offers {
            self.offers_gone.insert(offer.id, region);
        }
        while self.offers_gone.len() > OFFERS_GONE_MAX {
            self.offers_gone.pop_first();
        }
        self.show_as_theirs(id, region);
        let viewer = avatar.viewer.take();
        let traveller = Traveller { avatar, things, viewer, errand };
        output.travellers.push((region, Box::new(traveller)));
    }

    /// Goes on showing what was handed over, in its slot, until the neighbour tells of it.
    fn show_as_theirs(&mut self, id: EntityId, region: RegionIndex) {
        if let Some(slot) = self.entities.slot(id)
            && let Some(entity) = self.entities.get_mut(slot)
        {
            entity.owner = Owner::Neighbour(region);
            entity.told_at = self.tick;
        }
        for border in self.borders.iter_mut().filter(|border| border.region.index == region) {
            border.send(id, self.tick);
        }
    }

    fn take_out(&mut self, id: EntityId) -> Option<(Avatar, ThingsRecord)> {
        let avatar = self.avatars.remove(&id)?;
        let things = self.things.take_out(id);
        for offer in &things.offers {
            self.parties.remove(&offer.id);
        }
        Some((avatar, things))
    }
}
