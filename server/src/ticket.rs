//! Resume tickets: what lets a client that lost its connection continue its stay.
//!
//! A ticket names the stay and is authenticated with a key of the server's identity, so it holds
//! across a restart and nobody else can make one.

use std::collections::BTreeMap;

use protocol::ids::{EntityId, PersonId, SessionId};

/// Seconds for which a ticket is good: a night's stop for maintenance.
pub const TICKET_S_MAX: u64 = 24 * 3_600;

/// Bytes of the four numbers in front of the seal.
const BODY_BYTES: usize = 32;

/// What a ticket says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The stay to continue.
    pub session: SessionId,
    /// Whose.
    pub person: PersonId,
    /// The avatar that was driven.
    pub avatar: EntityId,
    /// Unix time in seconds at which it was issued.
    pub issued_s: u64,
}

/// Avatars whose going is remembered: more than one a second all day long; 2 MiB.
const ENDED_MAX: usize = 1 << 16;

/// What this run of the server knows of an avatar's last stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastStay {
    /// Nothing: the avatar was not in the world since this run began.
    Unknown,
    /// The avatar is in the world and nobody drives it; it was left in this stay, which may go on.
    Open(SessionId),
    /// The stay ended for good.
    Ended,
}

/// The avatars that left the world in this run, as long as a ticket could name them.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    at_s: BTreeMap<EntityId, u64>,
}

impl Ended {
    /// Notes that an avatar leaves the world at Unix time `now_s`.
    pub fn note(&mut self, avatar: EntityId, now_s: u64) {
        if ENDED_MAX <= self.at_s.len() {
            // A ticket is never younger than the stay's end, so none opens for these any more.
            self.at_s.retain(|_, at_s| now_s.saturating_sub(*at_s) <= TICKET_S_MAX);
        }
        while ENDED_MAX <= self.at_s.len() {
            // Whoever went first is told that a stay goes on which has ended: no harm in that.
            let first = self.at_s.iter().min_by_key(|&(_, at_s)| *at_s).map(|(&id, _)| id);
            let Some(first) = first else { break };
            self.at_s.remove(&first);
        }
        self.at_s.insert(avatar, now_s);
    }

    /// Forgets an avatar: it is in the world again.
    pub fn forget(&mut self, avatar: EntityId) {
        self.at_s.remove(&avatar);
    }

    /// Returns whether an avatar left the world in this run.
    #[must_use]
    pub fn contains(&self, avatar: EntityId) -> bool {
        self.at_s.contains_key(&avatar)
    }
}

/// Bytes that are no ticket of this server's, or one that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTicket {
    /// Another server's, or changed.
    #[error("the resume ticket was not made by this server; connect without it")]
    Forged,
    /// Too old.
    #[error("the resume ticket is {age_s} s old, at most {TICKET_S_MAX} s; connect without it")]
    Expired {
        /// Its age.
        age_s: u64,
    },
}

impl Ticket {
    /// Returns the ticket's bytes, sealed with `key`.
    #[must_use]
    pub fn seal(&self, key: &[u8; 32]) -> Vec<u8> {
        let numbers = [self.session.0, self.person.0, self.avatar.0, self.issued_s];
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let seal = blake3::keyed_hash(key, &bytes);
        bytes.extend_from_slice(seal.as_bytes());
        bytes
    }

    /// Returns the stay that goes on when `person` comes in to drive `avatar`; nothing if a new one
    /// begins.
    ///
    /// In one run of the server a stay goes on until it ends for good or the avatar is driven in
    /// another. Of an avatar that was not here in this run the ticket was issued before it began,
    /// and is all that is known: the stay goes on where a kill or a stop cut it off.
    #[must_use]
    pub fn continues(
        &self,
        (person, avatar): (PersonId, EntityId),
        last: LastStay,
    ) -> Option<SessionId> {
        if (person, avatar) != (self.person, self.avatar) {
            return None;
        }
        let goes_on = match last {
            LastStay::Unknown => true,
            LastStay::Open(session) => session == self.session,
            LastStay::Ended => false,
        };
        goes_on.then_some(self.session)
    }

    /// Reads a ticket at Unix time `now_s`.
    ///
    /// # Errors
    /// [`BadTicket`]; the sender is at fault.
    pub fn open(bytes: &[u8], key: &[u8; 32], now_s: u64) -> Result<Self, BadTicket> {
        let (body, seal) = bytes.split_at_checked(BODY_BYTES).ok_or(BadTicket::Forged)?;
        let seal: [u8; 32] = seal.try_into().map_err(|_| BadTicket::Forged)?;
        // Comparing hashes takes the same time wherever they differ.
        if blake3::keyed_hash(key, body) != blake3::Hash::from_bytes(seal) {
            return Err(BadTicket::Forged);
        }
        let mut numbers = body.as_chunks::<8>().0.iter().map(|&chunk| u64::from_le_bytes(chunk));
        let mut next = || numbers.next().unwrap_or_default();
        let ticket = Self {
            session: SessionId(next()),
            person: PersonId(next()),
            avatar: EntityId(next()),
            issued_s: next(),
        };
        let age_s = now_s.saturating_sub(ticket.issued_s);
        if age_s > TICKET_S_MAX { Err(BadTicket::Expired { age_s }) } else { Ok(ticket) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn ticket() -> Ticket {
        let (session, person, avatar) = (SessionId(1), PersonId(2), EntityId(3));
        Ticket { session, person, avatar, issued_s: 1_000 }
    }

    #[test]
    fn a_ticket_reads_back_until_it_ends() {
        let bytes = ticket().seal(&KEY);
        assert_eq!(Ticket::open(&bytes, &KEY, 1_000 + TICKET_S_MAX), Ok(ticket()));
        let late = Ticket::open(&bytes, &KEY, 1_001 + TICKET_S_MAX);
        assert_eq!(late, Err(BadTicket::Expired { age_s: TICKET_S_MAX + 1 }));
    }

    proptest! {
        #[test]
        fn nobody_makes_or_changes_a_ticket(
            bytes in prop::collection::vec(any::<u8>(), 0..128),
            at in any::<prop::sample::Index>(),
            change in 1..=u8::MAX,
        ) {
            prop_assert_eq!(Ticket::open(&bytes, &KEY, 1_000), Err(BadTicket::Forged));
            let mut changed = ticket().seal(&KEY);
            *at.get_mut(&mut changed) ^= change;
            prop_assert_eq!(Ticket::open(&changed, &KEY, 1_000), Err(BadTicket::Forged));
            let other = Ticket::open(&ticket().seal(&[8; 32]), &KEY, 1_000);
            prop_assert_eq!(other, Err(BadTicket::Forged));
        }
    }

    #[test]
    fn a_stay_goes_on_unless_this_run_knows_better() {
        let own = (PersonId(2), EntityId(3));
        let stay = Some(SessionId(1));
        let cases = [
            ("away in this stay", own, LastStay::Open(SessionId(1)), stay),
            ("cut off by a restart", own, LastStay::Unknown, stay),
            ("driven in another stay since", own, LastStay::Open(SessionId(9)), None),
            ("left for good", own, LastStay::Ended, None),
            ("another's ticket", (PersonId(9), EntityId(3)), LastStay::Unknown, None),
            ("another avatar", (PersonId(2), EntityId(9)), LastStay::Unknown, None),
        ];
        for (what, who, last, expected) in cases {
            assert_eq!(ticket().continues(who, last), expected, "{what}");
        }
    }

    #[test]
    fn departures_are_remembered_within_bounds() {
        let mut ended = Ended::default();
        let all = ENDED_MAX as u64 + 3;
        (0..all).for_each(|id| ended.note(EntityId(id), 1_000 + id));
        assert_eq!(ended.at_s.len(), ENDED_MAX);
        assert!(!ended.contains(EntityId(2)) && ended.contains(EntityId(3)));
        // A day later no ticket names any of them.
        ended.note(EntityId(all), 1_001 + all + TICKET_S_MAX);
        assert_eq!(ended.at_s.len(), 1);
        ended.forget(EntityId(all));
        assert!(!ended.contains(EntityId(all)));
    }

    #[test]
    fn a_changed_or_foreign_ticket_is_refused() {
        let bytes = ticket().seal(&KEY);
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            assert_eq!(Ticket::open(&changed, &KEY, 1_000), Err(BadTicket::Forged));
        }
        assert_eq!(Ticket::open(&bytes, &[8; 32], 1_000), Err(BadTicket::Forged));
        assert_eq!(Ticket::open(&bytes[..40], &KEY, 1_000), Err(BadTicket::Forged));
        assert_eq!(Ticket::open(&[], &KEY, 1_000), Err(BadTicket::Forged));
    }
}
