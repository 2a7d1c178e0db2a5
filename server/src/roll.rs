//! Who is connected, found by person, by avatar and by name without looking at everybody.
//!
//! A person has one connection at a time, an avatar one driver, and names differ in more than
//! letter case; whoever comes in sees to that before they are added.

use std::collections::{BTreeMap, BTreeSet};

use protocol::ids::{EntityId, PersonId};

use crate::admission::names;
use crate::shard::viewer::ClientKey;

/// The connected clients of one world.
#[derive(Debug, Default)]
pub struct Roll {
    people: BTreeMap<PersonId, ClientKey>,
    drivers: BTreeMap<EntityId, ClientKey>,
    /// Names as they are compared.
    names: BTreeSet<String>,
}

impl Roll {
    /// Adds a client.
    pub fn add(&mut self, client: ClientKey, (person, avatar): (PersonId, EntityId), name: &str) {
        self.people.insert(person, client);
        self.drivers.insert(avatar, client);
        self.names.insert(names::folded(name));
    }

    /// Takes a client out again that was added like this.
    pub fn remove(&mut self, (person, avatar): (PersonId, EntityId), name: &str) {
        self.people.remove(&person);
        self.drivers.remove(&avatar);
        self.names.remove(&names::folded(name));
    }

    /// Returns the client of a person.
    #[must_use]
    pub fn client_of(&self, person: PersonId) -> Option<ClientKey> {
        self.people.get(&person).copied()
    }

    /// Returns the client that drives an avatar.
    #[must_use]
    pub fn driver_of(&self, avatar: EntityId) -> Option<ClientKey> {
        self.drivers.get(&avatar).copied()
    }

    /// Returns the name that somebody who wants to be called `wanted` goes by.
    #[must_use]
    pub fn name_for(&self, wanted: &str) -> String {
        names::distinct(wanted, |folded| self.names.contains(folded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_gone_is_not_found_and_their_name_is_free() {
        let (ada, avatar, key) = (PersonId(1), EntityId(2), ClientKey(3));
        let mut roll = Roll::default();
        roll.add(key, (ada, avatar), "Ada");
        assert_eq!((roll.client_of(ada), roll.driver_of(avatar)), (Some(key), Some(key)));
        assert_eq!((roll.name_for("ADA"), roll.name_for("Ben")), ("ADA 2".into(), "Ben".into()));
        roll.remove((ada, avatar), "Ada");
        assert_eq!((roll.client_of(ada), roll.driver_of(avatar)), (None, None));
        assert_eq!(roll.name_for("ADA"), "ADA");
    }
}
