//! When what a slot shows changed last.
//!
//! Most of what anyone sees stands still. Looking this up costs a viewer a few bytes, where holding
//! the entity itself, and what it is, against what was told would cost a line of memory each.

use protocol::ids::EntityId;
use protocol::message::server::Being;
use protocol::state::EntityState;
use protocol::units::Tick;

use super::entities::Entities;
use super::interest::Slot;

/// The changes of one shard's table, by slot.
#[derive(Debug, Default)]
pub struct Changes {
    shown: Vec<(EntityId, EntityState)>,
    /// When the state changed.
    last: Vec<Tick>,
    bearers: Vec<Bearer>,
}

/// Who bears a slot.
#[derive(Clone, Copy, Debug)]
struct Bearer {
    /// Since when it bears it.
    since: Tick,
    /// Since when it is what it is.
    about_since: Tick,
    version: u32,
    is_avatar: bool,
}

impl Changes {
    /// Takes note of what every slot shows at `tick`.
    pub fn note(&mut self, tick: Tick, entities: &Entities) {
        let slots = entities.slots();
        let nobody = Bearer { since: tick, about_since: tick, version: 0, is_avatar: false };
        self.shown.resize(slots, (EntityId(0), EntityState::default()));
        // What was never seen has just changed.
        self.last.resize(slots, tick);
        self.bearers.resize(slots, nobody);
        for (slot, entity) in entities.iter() {
            let slot = slot as usize;
            let (shown, bearer) = (&mut self.shown[slot], &mut self.bearers[slot]);
            if shown.0 != entity.id {
                let is_avatar = matches!(entity.about.being, Being::Avatar { .. });
                *bearer = Bearer { version: entity.about.version, is_avatar, ..nobody };
            } else if bearer.version != entity.about.version {
                (bearer.version, bearer.about_since) = (entity.about.version, tick);
            }
            let now = (entity.id, entity.state);
            if *shown != now {
                *shown = now;
                self.last[slot] = tick;
            }
        }
    }

    /// Returns whether a slot has shown the same thing in the same state ever since `tick`.
    #[must_use]
    pub fn none_since(&self, tick: Tick, slot: Slot) -> bool {
        self.last.get(slot as usize).is_some_and(|&last| last <= tick)
    }

    /// Returns whether whoever bears a slot has borne it since the step of `tick`.
    #[must_use]
    pub fn is_same_since(&self, tick: Tick, slot: Slot) -> bool {
        self.bearers.get(slot as usize).is_some_and(|bearer| bearer.since <= tick)
    }

    /// Returns whether whoever bears a slot has also been what it is since the step of `tick`.
    #[must_use]
    pub fn is_as_announced(&self, tick: Tick, slot: Slot) -> bool {
        self.bearers.get(slot as usize).is_some_and(|bearer| bearer.about_since <= tick)
    }

    /// Returns whether an avatar bears a slot.
    #[must_use]
    pub fn is_avatar(&self, slot: Slot) -> bool {
        self.bearers.get(slot as usize).is_some_and(|bearer| bearer.is_avatar)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use protocol::ids::PersonId;
    use protocol::message::common::Appearance;
    use protocol::rules::KindId;

    use super::super::entities::{About, Entity, Owner};
    use super::*;

    fn entity(id: u64, version: u32, being: Being) -> Entity {
        let about = Arc::new(About { being, version });
        let state = EntityState::default();
        Entity { id: EntityId(id), owner: Owner::Here, state, about, told_at: Tick(0) }
    }

    fn thing(count: u32) -> Being {
        Being::Thing { kind: KindId(1), count, text: None }
    }

    #[test]
    fn a_slot_tells_since_when_it_is_whose_and_what() {
        let (mut entities, mut changes) = (Entities::default(), Changes::default());
        let slot = entities.put(entity(7, 0, thing(1)));
        let told = |changes: &Changes, tick| {
            let tick = Tick(tick);
            (changes.is_same_since(tick, slot), changes.is_as_announced(tick, slot))
        };
        changes.note(Tick(5), &entities);
        assert_eq!((told(&changes, 4), told(&changes, 5)), ((false, false), (true, true)));
        assert!(!changes.is_avatar(slot));

        entities.put(entity(7, 1, thing(2)));
        changes.note(Tick(6), &entities);
        assert_eq!((told(&changes, 5), told(&changes, 6)), ((true, false), (true, true)));
        assert!(changes.none_since(Tick(5), slot), "its state is the same");

        entities.remove(EntityId(7));
        let (person, name) = (PersonId(1), String::new());
        let avatar = Being::Avatar { person, name, appearance: Appearance::default() };
        assert_eq!(entities.put(entity(8, 1, avatar)), slot);
        changes.note(Tick(7), &entities);
        assert_eq!((told(&changes, 6), told(&changes, 7)), ((false, false), (true, true)));
        assert!(changes.is_avatar(slot) && !changes.none_since(Tick(6), slot));
    }
}
