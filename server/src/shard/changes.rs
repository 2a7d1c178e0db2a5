//! When what a slot shows changed last.
//!
//! Most of what anyone sees stands still. Looking this up costs a viewer a few bytes, where holding
//! the entity itself against what was told would cost two cache lines.

use protocol::ids::EntityId;
use protocol::state::EntityState;
use protocol::units::Tick;

use super::entities::Entities;
use super::interest::Slot;

/// The changes of one shard's table, by slot.
#[derive(Debug, Default)]
pub struct Changes {
    shown: Vec<(EntityId, EntityState)>,
    last: Vec<Tick>,
}

impl Changes {
    /// Takes note of what every slot shows at `tick`.
    pub fn note(&mut self, tick: Tick, entities: &Entities) {
        let slots = entities.slots();
        self.shown.resize(slots, (EntityId(0), EntityState::default()));
        // What was never seen has just changed.
        self.last.resize(slots, tick);
        for (slot, entity) in entities.iter() {
            let (shown, now) = (&mut self.shown[slot as usize], (entity.id, entity.state));
            if *shown != now {
                *shown = now;
                self.last[slot as usize] = tick;
            }
        }
    }

    /// Returns whether a slot has shown the same thing in the same state ever since `tick`.
    #[must_use]
    pub fn none_since(&self, tick: Tick, slot: Slot) -> bool {
        self.last.get(slot as usize).is_some_and(|&last| last <= tick)
    }
}
