//! Resume tickets: what lets a client that lost its connection continue its stay.
//!
//! A ticket names the stay and is authenticated with a key of the server's identity, so it holds
//! across a restart and nobody else can make one.

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
