//! Bytes of offers that are not whole yet: who sends, what a broken stream left, and how much
//! memory all of it may take.
//!
//! Memory counts as bytes come, not as they are promised. Time is an argument.

use std::collections::{BTreeMap, BTreeSet};

use protocol::asset::Partial;
use protocol::ids::{ContentHash, PersonId};
use protocol::limits::ASSET_BYTES_MAX;

/// Bytes of all unfinished offers together: four of the largest, which is what a busy world needs
/// and a small machine has.
pub const PARTS_BYTES_MAX: u64 = 4 * ASSET_BYTES_MAX;

/// Seconds for which the bytes of a broken offer are remembered: a client comes back in less.
pub const PART_KEPT_S: u64 = 120;

/// People who may send at once; each costs a stream and a place here.
pub const SENDERS_MAX: usize = 256;

/// Every unfinished offer.
#[derive(Debug, Default)]
pub struct Parts {
    sending: BTreeSet<PersonId>,
    idle: BTreeMap<PersonId, Idle>,
    bytes: u64,
}

#[derive(Debug)]
struct Idle {
    partial: Partial,
    since_s: u64,
}

impl Parts {
    /// Returns how many bytes are held.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Begins a person's upload, or goes on with what a broken one left of the same content.
    /// Nothing while they send already, or too many do.
    pub fn begin(&mut self, person: PersonId, hash: ContentHash, length: u64) -> Option<Partial> {
        if self.sending.contains(&person) || SENDERS_MAX <= self.sending.len() {
            return None;
        }
        let left = self.idle.remove(&person).map(|idle| idle.partial);
        let partial = match left {
            Some(partial) if partial.hash() == hash && partial.length() == length => partial,
            Some(other) => {
                self.bytes -= other.got();
                Partial::new(hash, length).ok()?
            }
            None => Partial::new(hash, length).ok()?,
        };
        self.sending.insert(person);
        Some(partial)
    }

    /// Makes room for `more` bytes of an upload; what broken ones left goes first, the oldest
    /// first of all. Returns whether there is room now.
    #[must_use]
    pub fn grow(&mut self, more: u64) -> bool {
        while PARTS_BYTES_MAX < self.bytes + more {
            let oldest = self.idle.iter().min_by_key(|(_, idle)| idle.since_s);
            let Some((&person, _)) = oldest else { return false };
            self.forget(person);
        }
        self.bytes += more;
        true
    }

    /// Remembers what a broken upload left.
    pub fn rest(&mut self, person: PersonId, partial: Partial, now_s: u64) {
        self.sending.remove(&person);
        if 0 < partial.got() {
            self.idle.insert(person, Idle { partial, since_s: now_s });
        }
    }

    /// Notes that an upload is over and that its `got` bytes are held elsewhere or dropped.
    pub fn end(&mut self, person: PersonId, got: u64) {
        self.sending.remove(&person);
        self.bytes -= got;
    }

    /// Forgets what broken uploads left long ago.
    pub fn forget_old(&mut self, now_s: u64) {
        let old = self.idle.iter().filter(|(_, idle)| idle.since_s + PART_KEPT_S <= now_s);
        let old: Vec<PersonId> = old.map(|(&person, _)| person).collect();
        old.into_iter().for_each(|person| self.forget(person));
    }

    /// Forgets what a person's broken upload left.
    pub fn forget(&mut self, person: PersonId) {
        if let Some(idle) = self.idle.remove(&person) {
            self.bytes -= idle.partial.got();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: ContentHash = ContentHash([1; 32]);

    /// Sends `count` bytes of an upload that has begun.
    fn send(parts: &mut Parts, partial: &mut Partial, count: usize) {
        assert!(parts.grow(count as u64));
        partial.push(&vec![7; count]).expect("no more than promised");
    }

    #[test]
    fn a_promise_takes_no_room() {
        let mut parts = Parts::default();
        for person in 0..SENDERS_MAX as u64 {
            assert!(parts.begin(PersonId(person), HASH, ASSET_BYTES_MAX).is_some());
        }
        assert_eq!(parts.bytes(), 0);
        assert!(parts.begin(PersonId(u64::MAX), HASH, 1).is_none(), "too many send");
        parts.end(PersonId(0), 0);
        assert!(parts.begin(PersonId(u64::MAX), HASH, 1).is_some());
    }

    #[test]
    fn a_broken_upload_goes_on_where_it_stopped() {
        let (mut parts, ada) = (Parts::default(), PersonId(1));
        let mut partial = parts.begin(ada, HASH, 100).expect("free");
        send(&mut parts, &mut partial, 40);
        assert!(parts.begin(ada, HASH, 100).is_none(), "one at a time");
        parts.rest(ada, partial, 10);
        let partial = parts.begin(ada, HASH, 100).expect("free");
        assert_eq!((partial.got(), parts.bytes()), (40, 40));
        parts.end(ada, 40);
        assert_eq!(parts.bytes(), 0);
    }

    #[test]
    fn another_offer_drops_what_was_left_and_so_does_time() {
        let (mut parts, ada) = (Parts::default(), PersonId(1));
        let mut partial = parts.begin(ada, HASH, 100).expect("free");
        send(&mut parts, &mut partial, 40);
        parts.rest(ada, partial, 10);
        let mut other = parts.begin(ada, ContentHash([2; 32]), 100).expect("free");
        assert_eq!((other.got(), parts.bytes()), (0, 0));
        send(&mut parts, &mut other, 30);
        parts.rest(ada, other, 10);
        parts.forget_old(10 + PART_KEPT_S - 1);
        assert_eq!(parts.bytes(), 30);
        parts.forget_old(10 + PART_KEPT_S);
        assert_eq!(parts.bytes(), 0);
        assert_eq!(parts.begin(ada, ContentHash([2; 32]), 100).map(|it| it.got()), Some(0));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_leavings_go_first() {
        let mut parts = Parts::default();
        let largest = usize::try_from(ASSET_BYTES_MAX).expect("a small number");
        for person in 1..=4 {
            let mut partial = parts.begin(PersonId(person), HASH, ASSET_BYTES_MAX).expect("free");
            send(&mut parts, &mut partial, largest);
            parts.rest(PersonId(person), partial, 10 - person);
        }
        assert_eq!(parts.bytes(), PARTS_BYTES_MAX);
        let mut partial = parts.begin(PersonId(5), HASH, ASSET_BYTES_MAX).expect("free");
        send(&mut parts, &mut partial, 1);
        // The fourth rested first.
        let gone = parts.begin(PersonId(4), HASH, ASSET_BYTES_MAX).expect("free");
        assert_eq!(gone.got(), 0);
        let there = parts.begin(PersonId(1), HASH, ASSET_BYTES_MAX).expect("free");
        assert_eq!(there.got(), ASSET_BYTES_MAX);
        // What is being sent is never dropped for others.
        let mut parts = Parts::default();
        assert!(parts.begin(PersonId(1), HASH, ASSET_BYTES_MAX).is_some());
        assert!(parts.grow(PARTS_BYTES_MAX));
        assert!(!parts.grow(1));
    }
}
