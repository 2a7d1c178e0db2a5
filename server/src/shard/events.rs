//! Who perceives what: events and speech, here and across the border.

use std::sync::Arc;

use protocol::ids::EntityId;
use protocol::message::common::{Appearance, Audience};
use protocol::message::server::{Being, Done, Happened, Heard};
use protocol::rules::Event;
use protocol::utterance::Utterance;

use super::Shard;
use super::batch::{Change, Entry, Letter, Perceived, Ripple, Speaker, StepOutput};
use super::entities::About;

impl Shard {
    /// Lets everyone in reach perceive an event.
    pub(super) fn spread(&mut self, event: Event, after: Option<usize>, output: &mut StepOutput) {
        let ripple = Ripple {
            place: event.place,
            reach_cm: event.reach_cm,
            actor: event.actor,
            what: Perceived::Event(event),
        };
        self.send_ripple(ripple, after, output);
    }

    /// Speaks to those near.
    pub(super) fn say(
        &mut self,
        (id, speaker): (EntityId, Speaker),
        request: u32,
        whisper: bool,
        utterance: Utterance,
        output: &mut StepOutput,
    ) {
        let Some(avatar) = self.avatars.get(&id) else { return };
        let Speaker { person, name } = speaker;
        let to = if whisper { Audience::Whisper } else { Audience::Nearby };
        let heard = Heard { tick: self.tick, person, avatar: Some(id), name, to, utterance };
        let reach_cm = if whisper { self.rules.whisper_cm } else { self.rules.nearby_cm };
        let place = avatar.body.position();
        if let Some(viewer) = &avatar.viewer {
            let done = Done { request, tick: self.tick, text: None };
            output.letters.push(Letter { to: viewer.client, message: done.into(), after: None });
        }
        let ripple = Ripple { place, reach_cm, actor: id, what: Perceived::Speech(heard) };
        self.send_ripple(ripple, None, output);
    }

    fn send_ripple(&mut self, ripple: Ripple, after: Option<usize>, output: &mut StepOutput) {
        let ripple = Arc::new(ripple);
        for border in &self.borders {
            let reach = i32::try_from(ripple.reach_cm).unwrap_or(i32::MAX);
            if border.region.distance_cm(ripple.place) <= reach.saturating_add(super::MARGIN_CM) {
                output.ripples.push((border.region.index, Arc::clone(&ripple)));
            }
        }
        self.deliver(&ripple, after, output);
    }

    /// Lets this shard's own clients perceive what began next door.
    pub fn perceive(&self, ripple: &Ripple, output: &mut StepOutput) {
        self.deliver(ripple, None, output);
    }

    fn deliver(&self, ripple: &Ripple, after: Option<usize>, output: &mut StepOutput) {
        for avatar in self.avatars.values() {
            let Some(viewer) = &avatar.viewer else { continue };
            let place = avatar.body.position();
            if viewer.hides(ripple.actor) || !ripple.place.is_within(place, ripple.reach_cm) {
                continue;
            }
            let message = match &ripple.what {
                Perceived::Event(event) => Happened { events: vec![event.clone()] }.into(),
                Perceived::Speech(heard) => heard.clone().into(),
            };
            output.letters.push(Letter { to: viewer.client, message, after });
        }
    }

    /// Changes an avatar's looks, for good.
    pub(super) fn wear(&mut self, id: EntityId, appearance: Appearance, output: &mut StepOutput) {
        let Some(avatar) = self.avatars.get_mut(&id) else { return };
        let Being::Avatar { person, name, .. } = &avatar.about.being else { return };
        let being =
            Being::Avatar { person: *person, name: name.clone(), appearance: appearance.clone() };
        let version = avatar.about.version.wrapping_add(1);
        avatar.about = Arc::new(About { being, version });
        if let Some(slot) = self.entities.slot(id)
            && let Some(entity) = self.entities.get_mut(slot)
        {
            entity.about = Arc::clone(&avatar.about);
        }
        let change = Change::Looks { person: avatar.person, appearance };
        output.journal.push(Entry { changes: vec![change], event: None });
    }
}
