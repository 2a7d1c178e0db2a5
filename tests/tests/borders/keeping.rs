//! What the store would hold after each journal entry: every thing once, and as many as before.

use std::collections::BTreeMap;

use protocol::ids::{EntityId, PersonId};
use protocol::rules::{KindId, Thing};
use server::shard::batch::{Change, Entry};

/// Things by holder and id, as rows lie in the store.
#[derive(Debug, Default)]
pub struct Keeping {
    rows: BTreeMap<(Option<PersonId>, EntityId), Thing>,
    placed: BTreeMap<KindId, u64>,
}

impl Keeping {
    pub fn of(things: &[Thing]) -> Self {
        let rows = things.iter().map(|thing| ((None, thing.id), thing.clone())).collect();
        let mut keeping = Self { rows, placed: BTreeMap::new() };
        keeping.placed = keeping.counts();
        keeping
    }

    /// Takes in an entry, whose changes are all or nothing.
    pub fn take_in(&mut self, entry: &Entry) {
        for change in &entry.changes {
            match change {
                Change::Keep { thing, holder } => {
                    self.rows.insert((*holder, thing.id), thing.clone());
                }
                Change::Drop { thing, holder } => {
                    let gone = self.rows.remove(&(*holder, *thing));
                    assert!(gone.is_some(), "{thing} was not kept with {holder:?}");
                }
                Change::Looks { .. } => {}
            }
        }
    }

    /// Checks that nothing is doubled or lost, after all entries of a tick.
    pub fn check(&self) {
        let mut holders = BTreeMap::new();
        for (holder, thing) in self.rows.keys() {
            let before = holders.insert(*thing, *holder);
            assert_eq!(before, None, "{thing} is kept twice, also with {holder:?}");
        }
        assert_eq!(self.counts(), self.placed, "as many of each kind as at first");
    }

    /// Returns how many stacks there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn held_by(&self, person: PersonId) -> BTreeMap<EntityId, u32> {
        let theirs = self.rows.iter().filter(|((holder, _), _)| *holder == Some(person));
        theirs.map(|((_, id), thing)| (*id, thing.count)).collect()
    }

    /// Returns every stack that lies in the world.
    pub fn placed(&self) -> impl Iterator<Item = &Thing> {
        self.rows.iter().filter(|((holder, _), _)| holder.is_none()).map(|(_, thing)| thing)
    }

    fn counts(&self) -> BTreeMap<KindId, u64> {
        let mut counts = BTreeMap::new();
        for thing in self.rows.values() {
            *counts.entry(thing.kind).or_default() += u64::from(thing.count);
        }
        counts
    }
}
