//! A naive model of who holds what: numbers moved by what events say, and nothing else.
//!
//! It knows no stacks, no places and no rules, so it cannot make the shards' mistakes.

use std::collections::BTreeMap;

use protocol::ids::PersonId;
use protocol::rules::{KindId, Lot};

use super::keeping::Rows;

/// How many of each kind everyone holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<(PersonId, KindId), i64>);

impl Tally {
    /// Returns what people hold by the rows of a store.
    #[must_use]
    pub fn of(rows: &Rows) -> Self {
        let mut tally = Self::default();
        for ((holder, _), thing) in rows {
            if let Some(person) = holder {
                tally.get(*person, Lot { kind: thing.kind, count: thing.count });
            }
        }
        tally
    }

    /// Somebody gets something.
    pub fn get(&mut self, person: PersonId, lot: Lot) {
        self.change((person, lot.kind), i64::from(lot.count));
    }

    /// Somebody gives something away.
    pub fn give(&mut self, person: PersonId, lot: Lot) {
        self.change((person, lot.kind), -i64::from(lot.count));
    }

    fn change(&mut self, place: (PersonId, KindId), by: i64) {
        let held = self.0.entry(place).or_default();
        *held += by;
        if *held == 0 {
            self.0.remove(&place);
        }
    }

    /// Checks that both say the same.
    ///
    /// # Errors
    /// The first person and kind of whom they do not.
    pub fn check(&self, other: &Self) -> Result<(), String> {
        let differs = |place: &&(PersonId, KindId)| self.0.get(*place) != other.0.get(*place);
        match self.0.keys().chain(other.0.keys()).find(differs) {
            None => Ok(()),
            Some(place) => Err(format!(
                "by events {} holds {:?} of kind {}, by the store {:?}",
                place.0,
                self.0.get(place).unwrap_or(&0),
                place.1.0,
                other.0.get(place).unwrap_or(&0)
            )),
        }
    }
}
