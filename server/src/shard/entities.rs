//! Everything a shard can show: its own avatars and things, and its neighbours' ghosts.
//!
//! A slot stays an entity's for as long as the shard knows it, also while it turns from a ghost
//! into one of the shard's own and back, so whoever watches it notices nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::ids::EntityId;
use protocol::message::server::Being;
use protocol::state::EntityState;
use protocol::units::Tick;
use rkyv::with::AsVec;

use super::interest::Slot;
use super::pack::BadPack;
use crate::region::RegionIndex;

/// What an entity is besides its state; shared by all who are told.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct About {
    /// What it is, as clients are told.
    pub being: Being,
    /// Grows with each change, so that those who know an older one are told again.
    pub version: u32,
}

/// Who steps an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Owner {
    /// This shard.
    Here,
    /// The shard of a region next to this one.
    Neighbour(RegionIndex),
}

/// One entity, as everyone is shown it.
#[derive(Clone, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Entity {
    /// Its name for good.
    pub id: EntityId,
    /// Who steps it.
    pub owner: Owner,
    /// How it looks at the current tick.
    pub state: EntityState,
    /// What it is.
    pub about: Arc<About>,
    /// When a neighbour told of it last, or was given it; means nothing of what is stepped here.
    pub told_at: Tick,
}

/// The table of entities, by slot and by id.
#[derive(Clone, Debug, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Entities {
    slots: Vec<Option<Entity>>,
    free: Vec<Slot>,
    #[rkyv(with = AsVec)]
    by_id: BTreeMap<EntityId, Slot>,
}

impl Entities {
    /// Puts an entity in, or changes the one of that id; returns its slot.
    pub fn put(&mut self, entity: Entity) -> Slot {
        if let Some(&slot) = self.by_id.get(&entity.id) {
            self.slots[slot as usize] = Some(entity);
            return slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot::try_from(self.slots.len() - 1).expect("a shard bounds its entities")
        });
        self.by_id.insert(entity.id, slot);
        self.slots[slot as usize] = Some(entity);
        slot
    }

    /// Takes an entity out.
    pub fn remove(&mut self, id: EntityId) -> Option<Entity> {
        let slot = self.by_id.remove(&id)?;
        self.free.push(slot);
        self.slots[slot as usize].take()
    }

    /// Returns the slot of an id.
    #[must_use]
    pub fn slot(&self, id: EntityId) -> Option<Slot> {
        self.by_id.get(&id).copied()
    }

    /// Returns the entity of an id.
    #[must_use]
    pub fn by_id(&self, id: EntityId) -> Option<&Entity> {
        self.get(self.slot(id)?)
    }

    /// Returns the entity in a slot.
    #[must_use]
    pub fn get(&self, slot: Slot) -> Option<&Entity> {
        self.slots.get(slot as usize)?.as_ref()
    }

    /// Returns the entity in a slot, to be changed.
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut Entity> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// Returns how many slots there are, taken or free.
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Returns every entity with its slot, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Entity)> + Clone {
        (0..).zip(&self.slots).filter_map(|(slot, entity)| Some((slot, entity.as_ref()?)))
    }

    /// Visits every entity, to be changed, by slot.
    pub fn for_each_mut(&mut self, visit: impl FnMut(&mut Entity)) {
        self.slots.iter_mut().flatten().for_each(visit);
    }

    /// Takes out those of `owner`'s entities that are gone.
    pub fn remove_all_of(&mut self, owner: Owner, is_gone: impl Fn(EntityId) -> bool) {
        let gone = self.iter().filter(|(_, entity)| entity.owner == owner && is_gone(entity.id));
        let gone: Vec<EntityId> = gone.map(|(_, entity)| entity.id).collect();
        for id in gone {
            self.remove(id);
        }
    }

    /// Returns this table if each entity stands in the slot that its id leads to, and every other
    /// slot is free once.
    ///
    /// # Errors
    /// [`BadPack::Entity`] with the first that does not, [`BadPack::Slots`].
    pub(super) fn check(self) -> Result<Self, BadPack> {
        let is_at = |id, slot| self.get(slot).is_some_and(|entity| entity.id == id);
        if let Some((&id, _)) = self.by_id.iter().find(|&(&id, &slot)| !is_at(id, slot)) {
            return Err(BadPack::Entity(id));
        }
        let free: BTreeSet<Slot> = self.free.iter().copied().collect();
        let is_free = |slot: &Slot| matches!(self.slots.get(*slot as usize), Some(None));
        let is_whole = free.len() == self.free.len()
            && free.iter().all(is_free)
            && self.by_id.len() + free.len() == self.slots.len();
        if is_whole { Ok(self) } else { Err(BadPack::Slots) }
    }

    /// Returns how many entities this shard steps.
    #[must_use]
    pub fn owned(&self) -> usize {
        self.iter().filter(|(_, entity)| entity.owner == Owner::Here).count()
    }

    /// Returns how many entities there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thing(id: u64, owner: Owner) -> Entity {
        let being = Being::Thing { kind: protocol::rules::KindId(1), count: 1, text: None };
        Entity {
            id: EntityId(id),
            owner,
            state: EntityState::default(),
            about: Arc::new(About { being, version: 0 }),
            told_at: Tick(0),
        }
    }

    #[test]
    fn a_ghost_that_becomes_real_keeps_its_slot() {
        let mut entities = Entities::default();
        let ghost = entities.put(thing(7, Owner::Neighbour(RegionIndex(2))));
        entities.put(thing(8, Owner::Here));
        assert_eq!(entities.put(thing(7, Owner::Here)), ghost);
        assert_eq!(entities.len(), 2);
    }

    #[test]
    fn a_freed_slot_is_used_again_and_no_longer_answers_to_its_old_id() {
        let mut entities = Entities::default();
        let slot = entities.put(thing(7, Owner::Here));
        assert!(entities.remove(EntityId(7)).is_some());
        assert!(entities.remove(EntityId(7)).is_none());
        assert_eq!(entities.put(thing(9, Owner::Here)), slot);
        assert!(entities.by_id(EntityId(7)).is_none());
        assert_eq!(entities.get(slot).map(|entity| entity.id), Some(EntityId(9)));
    }
}
