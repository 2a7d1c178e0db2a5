//! What the store would hold after each journal entry: every thing once, and as many as before.
//!
//! It applies entries in the order in which they came about and asks no store.

use std::collections::BTreeMap;

use protocol::ids::{EntityId, PersonId};
use protocol::rules::{KindId, Thing};
use server::shard::batch::{Change, Entry};

/// Things by holder and id, as rows lie in the store.
pub type Rows = BTreeMap<(Option<PersonId>, EntityId), Thing>;

/// Every thing of a world, and with whom it is kept.
#[derive(Clone, Debug, Default)]
pub struct Keeping {
    rows: Rows,
    first: BTreeMap<KindId, u64>,
}

impl Keeping {
    /// Returns what is kept of a world that starts with these things lying about.
    #[must_use]
    pub fn of(things: &[Thing]) -> Self {
        Self::with(things.iter().map(|thing| ((None, thing.id), thing.clone())).collect())
    }

    /// Returns what is kept where a store holds these rows.
    #[must_use]
    pub fn with(rows: Rows) -> Self {
        let first = counts(&rows);
        Self { rows, first }
    }

    /// Takes in an entry, whose changes are all or nothing.
    ///
    /// # Errors
    /// What the entry takes away and was not there.
    pub fn take_in(&mut self, entry: &Entry) -> Result<(), String> {
        apply(&mut self.rows, entry)
    }

    /// Checks that nothing is doubled or lost.
    ///
    /// # Errors
    /// What is.
    pub fn check(&self) -> Result<(), String> {
        let mut holders = BTreeMap::new();
        for (holder, thing) in self.rows.keys() {
            if let Some(other) = holders.insert(*thing, *holder) {
                return Err(format!("{thing} is kept twice: with {other:?} and with {holder:?}"));
            }
        }
        let now = counts(&self.rows);
        if now == self.first {
            return Ok(());
        }
        Err(format!("by kind there were {:?} and now there are {now:?}", self.first))
    }

    /// Returns how many stacks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Returns whether there is nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns every row.
    #[must_use]
    pub const fn rows(&self) -> &Rows {
        &self.rows
    }

    /// Returns what somebody holds, and how many of it.
    #[must_use]
    pub fn held_by(&self, person: PersonId) -> BTreeMap<EntityId, u32> {
        let theirs = self.rows.iter().filter(|((holder, _), _)| *holder == Some(person));
        theirs.map(|((_, id), thing)| (*id, thing.count)).collect()
    }

    /// Returns every stack that lies in the world.
    pub fn placed(&self) -> impl Iterator<Item = &Thing> {
        self.rows.iter().filter(|((holder, _), _)| holder.is_none()).map(|(_, thing)| thing)
    }
}

/// Applies an entry to rows as a store does.
///
/// # Errors
/// What the entry takes away and was not there; all else of it is applied.
pub fn apply(rows: &mut Rows, entry: &Entry) -> Result<(), String> {
    let mut wrong = None;
    for change in &entry.changes {
        match change {
            Change::Keep { thing, holder } => {
                rows.insert((*holder, thing.id), thing.clone());
            }
            Change::Drop { thing, holder } => {
                if rows.remove(&(*holder, *thing)).is_none() {
                    wrong = Some(format!("{thing} was not kept with {holder:?}"));
                }
            }
            Change::Looks { .. } => {}
        }
    }
    wrong.map_or(Ok(()), Err)
}

fn counts(rows: &Rows) -> BTreeMap<KindId, u64> {
    let mut counts = BTreeMap::new();
    for thing in rows.values() {
        *counts.entry(thing.kind).or_default() += u64::from(thing.count);
    }
    counts
}
