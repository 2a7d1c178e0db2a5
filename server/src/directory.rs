//! Who is where: the one table that every thread may read and the gateway writes.
//!
//! It answers for those who must not ask the ticking thread: operators' commands, the page.

use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use protocol::ids::{EntityId, PersonId, SessionId};

use crate::region::RegionIndex;
use crate::shard::viewer::ClientKey;

/// One person in the world.
#[derive(Clone, Debug)]
pub struct Presence {
    /// The name they go by.
    pub name: String,
    /// What they may do.
    pub role: String,
    /// The avatar they drive.
    pub avatar: EntityId,
    /// Their stay.
    pub session: SessionId,
    /// Their connection; nothing while they are away.
    pub client: Option<ClientKey>,
    /// Whose shard steps the avatar.
    pub region: RegionIndex,
    /// Until when they may not speak, as Unix time in seconds.
    pub muted_until: u64,
}

/// Who is where.
#[derive(Debug, Default)]
pub struct Directory {
    people: DashMap<PersonId, Presence>,
    /// How many of them are connected: asked by everyone who knocks.
    connected: AtomicUsize,
}

impl Directory {
    /// Puts a person in, or changes what is known of them.
    pub fn put(&self, person: PersonId, presence: Presence) {
        let is_connected = presence.client.is_some();
        let before = self.people.insert(person, presence);
        self.recount(before.is_some_and(|before| before.client.is_some()), is_connected);
    }

    /// Takes a person out.
    pub fn remove(&self, person: PersonId) -> Option<Presence> {
        let (_, presence) = self.people.remove(&person)?;
        self.recount(presence.client.is_some(), false);
        Some(presence)
    }

    /// Returns what is known of a person.
    #[must_use]
    pub fn find(&self, person: PersonId) -> Option<Presence> {
        self.people.get(&person).map(|entry| entry.value().clone())
    }

    /// Changes what is known of a person, if they are here.
    pub fn change(&self, person: PersonId, change: impl FnOnce(&mut Presence)) {
        if let Some(mut entry) = self.people.get_mut(&person) {
            let was_connected = entry.client.is_some();
            change(entry.value_mut());
            self.recount(was_connected, entry.client.is_some());
        }
    }

    /// Returns everyone of that name, ignoring case, by id.
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<PersonId> {
        let wanted = name.to_lowercase();
        let entries = self.people.iter();
        let mut found: Vec<PersonId> = entries
            .filter(|entry| entry.value().name.to_lowercase() == wanted)
            .map(|entry| *entry.key())
            .collect();
        found.sort_unstable();
        found
    }

    /// Returns everyone, by id.
    #[must_use]
    pub fn everyone(&self) -> Vec<(PersonId, Presence)> {
        let entries = self.people.iter();
        let mut all: Vec<_> = entries.map(|entry| (*entry.key(), entry.value().clone())).collect();
        all.sort_unstable_by_key(|&(person, _)| person);
        all
    }

    /// Returns how many people are connected.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }

    fn recount(&self, was_connected: bool, is_connected: bool) {
        match (was_connected, is_connected) {
            (false, true) => drop(self.connected.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.connected.fetch_sub(1, Ordering::Relaxed)),
            (false, false) | (true, true) => {}
        }
    }

    /// Returns how many people are here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.people.len()
    }

    /// Returns whether nobody is here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.people.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_are_away_are_here_and_not_connected() {
        let directory = Directory::default();
        let presence = |client| Presence {
            name: "Ada".into(),
            role: "player".into(),
            avatar: EntityId(1),
            session: SessionId(1),
            client,
            region: RegionIndex::default(),
            muted_until: 0,
        };
        let check = |expected: (usize, usize)| {
            assert_eq!((directory.clients(), directory.len()), expected);
        };
        directory.put(PersonId(1), presence(Some(ClientKey(1))));
        directory.put(PersonId(1), presence(Some(ClientKey(2))));
        check((1, 1));
        directory.change(PersonId(1), |presence| presence.client = None);
        check((0, 1));
        directory.put(PersonId(1), presence(Some(ClientKey(3))));
        directory.put(PersonId(2), presence(None));
        check((1, 2));
        directory.remove(PersonId(1));
        directory.remove(PersonId(2));
        check((0, 0));
    }
}
