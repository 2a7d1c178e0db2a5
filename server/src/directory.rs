//! Who is where: the one table that every thread may read and the gateway writes.
//!
//! It answers for those who must not ask the ticking thread: operators' commands, the page.

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
}

impl Directory {
    /// Puts a person in, or changes what is known of them.
    pub fn put(&self, person: PersonId, presence: Presence) {
        self.people.insert(person, presence);
    }

    /// Takes a person out.
    pub fn remove(&self, person: PersonId) -> Option<Presence> {
        self.people.remove(&person).map(|(_, presence)| presence)
    }

    /// Returns what is known of a person.
    #[must_use]
    pub fn find(&self, person: PersonId) -> Option<Presence> {
        self.people.get(&person).map(|entry| entry.value().clone())
    }

    /// Changes what is known of a person, if they are here.
    pub fn change(&self, person: PersonId, change: impl FnOnce(&mut Presence)) {
        if let Some(mut entry) = self.people.get_mut(&person) {
            change(entry.value_mut());
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
        self.people.iter().filter(|entry| entry.value().client.is_some()).count()
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
