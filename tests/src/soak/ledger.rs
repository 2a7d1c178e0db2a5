//! What every client was told is done for good, held against what the server says it has later.
//!
//! An acknowledged act must be there after a server was killed, once. What was asked for and not
//! answered by then may be there or not. Who asks, and when nobody acts so that it can be looked, is
//! the crowd's; nothing is sent here.

use std::collections::{BTreeMap, BTreeSet};

use protocol::ids::{EntityId, PersonId};
use protocol::rules::KindId;

/// Something that changes what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Takes one thing.
    Take(KindId),
    /// Gives one thing to a client; to nothing if it is nobody of the crowd.
    Give(KindId, Option<usize>),
    /// Lends the avatar.
    Lend(PersonId),
    /// Ends a lending.
    Recall(PersonId),
}

/// What the server says that a client has: each thing with its kind and how many, and to whom the
/// avatar is lent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The things.
    pub things: Vec<(EntityId, KindId, u32)>,
    /// To whom the avatar is lent.
    pub lent: BTreeSet<PersonId>,
}

/// What a look at everybody found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Clients that were looked at.
    pub looked_at: u64,
    /// Acts that were acknowledged and are not there.
    pub lost: u64,
    /// Acts that are there more often than they were asked for, and things that two hold.
    pub doubled: u64,
}

/// The books of a crowd.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    accounts: Vec<Account>,
    acknowledged: u64,
}

/// What is known of one client.
#[derive(Clone, Debug, Default)]
struct Account {
    unanswered: BTreeMap<u32, Deed>,
    /// Things by kind, as acknowledged: how many, and how many fewer or more it may be by what was
    /// not answered.
    things: BTreeMap<KindId, Balance>,
    /// To whom the avatar is lent; nothing where that was not answered.
    lent: BTreeMap<PersonId, Option<bool>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Balance {
    count: i64,
    fewer: i64,
    more: i64,
}

impl Ledger {
    /// Returns the books of so many clients, none of whom has anything.
    #[must_use]
    pub fn new(clients: usize) -> Self {
        Self { accounts: vec![Account::default(); clients], acknowledged: 0 }
    }

    /// Returns how many deeds were acknowledged.
    #[must_use]
    pub const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Notes that a client asked for a deed.
    pub fn asked(&mut self, client: usize, request: u32, deed: Deed) {
        self.accounts[client].unanswered.insert(request, deed);
    }

    /// Notes how a request of a client went: done and kept, or refused and without effect.
    pub fn answered(&mut self, client: usize, request: u32, is_done: bool) {
        let Some(deed) = self.accounts[client].unanswered.remove(&request) else { return };
        if !is_done {
            return;
        }
        self.acknowledged += 1;
        match deed {
            Deed::Take(kind) => self.balance(client, kind).count += 1,
            Deed::Give(kind, to) => {
                self.balance(client, kind).count -= 1;
                if let Some(to) = to {
                    self.balance(to, kind).count += 1;
                }
            }
            Deed::Lend(to) => drop(self.accounts[client].lent.insert(to, Some(true))),
            Deed::Recall(to) => drop(self.accounts[client].lent.insert(to, Some(false))),
        }
    }

    /// Notes that a client's connection is gone: what was not answered may have been done or not.
    pub fn broke(&mut self, client: usize) {
        for deed in std::mem::take(&mut self.accounts[client].unanswered).into_values() {
            match deed {
                Deed::Take(kind) => self.balance(client, kind).more += 1,
                Deed::Give(kind, to) => {
                    self.balance(client, kind).fewer += 1;
                    if let Some(to) = to {
                        self.balance(to, kind).more += 1;
                    }
                }
                Deed::Lend(to) | Deed::Recall(to) => {
                    self.accounts[client].lent.insert(to, None);
                }
            }
        }
    }

    /// Returns to whom a client lends as far as it knows, without those of whom it is not sure.
    pub fn lends_to(&self, client: usize) -> impl Iterator<Item = PersonId> {
        let lent = self.accounts[client].lent.iter();
        lent.filter(|(_, is_lent)| **is_lent == Some(true)).map(|(&to, _)| to)
    }

    /// Takes what clients have as it is told, before anything was looked at.
    pub fn begin(&mut self, told: &BTreeMap<usize, Told>) {
        for (&client, told) in told {
            self.accounts[client] = Account::of(told);
        }
    }

    /// Holds what clients were acknowledged against what they are told while nobody acts; from then
    /// on they have what they were told.
    pub fn check(&mut self, told: &BTreeMap<usize, Told>) -> Verdict {
        let mut verdict = Verdict::default();
        let mut holders: BTreeMap<EntityId, u64> = BTreeMap::new();
        for (&client, told) in told {
            let account = &self.accounts[client];
            verdict.looked_at += 1;
            let counts = counts(told);
            let kinds: BTreeSet<KindId> =
                counts.keys().chain(account.things.keys()).copied().collect();
            for kind in kinds {
                let count = counts.get(&kind).copied().unwrap_or(0);
                let known = account.things.get(&kind).copied().unwrap_or_default();
                let missing = known.count - known.fewer - count;
                let surplus = count - known.count - known.more;
                verdict.lost += u64::try_from(missing).unwrap_or(0);
                verdict.doubled += u64::try_from(surplus).unwrap_or(0);
            }
            let lent = account.lent.iter();
            let is_lost = |&(to, is_lent): &(&PersonId, &Option<bool>)| {
                is_lent.is_some_and(|is_lent| is_lent != told.lent.contains(to))
            };
            verdict.lost += lent.filter(is_lost).count() as u64;
            for &(thing, ..) in &told.things {
                *holders.entry(thing).or_default() += 1;
            }
        }
        verdict.doubled += holders.values().map(|&holders| holders - 1).sum::<u64>();
        self.begin(told);
        verdict
    }

    fn balance(&mut self, client: usize, kind: KindId) -> &mut Balance {
        self.accounts[client].things.entry(kind).or_default()
    }
}

impl Account {
    fn of(told: &Told) -> Self {
        let things = counts(told).into_iter();
        Self {
            unanswered: BTreeMap::new(),
            things: things
                .map(|(kind, count)| (kind, Balance { count, ..Balance::default() }))
                .collect(),
            lent: told.lent.iter().map(|&to| (to, Some(true))).collect(),
        }
    }
}

fn counts(told: &Told) -> BTreeMap<KindId, i64> {
    let mut counts = BTreeMap::new();
    for &(_, kind, count) in &told.things {
        *counts.entry(kind).or_default() += i64::from(count);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    const APPLE: KindId = KindId(3);
    const NOBODY: PersonId = PersonId(0x100);

    fn holds(count: u32) -> Told {
        let things = if count == 0 { Vec::new() } else { vec![(EntityId(7), APPLE, count)] };
        Told { things, lent: BTreeSet::new() }
    }

    /// Lets client 0 ask, be answered (or not), and break off; then it is told so.
    fn check(deed: Deed, answer: Option<bool>, told: Told, expected: (u64, u64)) {
        let mut ledger = Ledger::new(2);
        ledger.begin(&BTreeMap::from([(0, holds(1))]));
        ledger.asked(0, 1, deed);
        if let Some(is_done) = answer {
            ledger.answered(0, 1, is_done);
        }
        ledger.broke(0);
        let verdict = ledger.check(&BTreeMap::from([(0, told)]));
        assert_eq!((verdict.lost, verdict.doubled), expected, "{deed:?} {answer:?}");
        assert_eq!(verdict.looked_at, 1);
    }

    #[test]
    fn what_was_acknowledged_must_be_there_once() {
        check(Deed::Take(APPLE), Some(true), holds(2), (0, 0));
        check(Deed::Take(APPLE), Some(true), holds(1), (1, 0));
        check(Deed::Take(APPLE), Some(true), holds(3), (0, 1));
        check(Deed::Give(APPLE, None), Some(true), holds(0), (0, 0));
        check(Deed::Give(APPLE, None), Some(true), holds(1), (0, 1));
    }

    #[test]
    fn what_was_refused_must_not_be_there() {
        check(Deed::Take(APPLE), Some(false), holds(1), (0, 0));
        check(Deed::Take(APPLE), Some(false), holds(2), (0, 1));
        check(Deed::Give(APPLE, None), Some(false), holds(0), (1, 0));
    }

    #[test]
    fn what_was_not_answered_may_be_there_once() {
        for count in [1, 2] {
            check(Deed::Take(APPLE), None, holds(count), (0, 0));
        }
        check(Deed::Take(APPLE), None, holds(3), (0, 1));
        check(Deed::Take(APPLE), None, holds(0), (1, 0));
    }

    #[test]
    fn lendings_are_there_and_recalled_ones_are_not() {
        let lends = || Told { lent: BTreeSet::from([NOBODY]), ..holds(1) };
        check(Deed::Lend(NOBODY), Some(true), lends(), (0, 0));
        check(Deed::Lend(NOBODY), Some(true), holds(1), (1, 0));
        check(Deed::Recall(NOBODY), Some(true), lends(), (1, 0));
        for told in [lends(), holds(1)] {
            check(Deed::Lend(NOBODY), None, told, (0, 0));
        }
    }

    #[test]
    fn a_gift_is_with_one_of_two_and_never_with_both() {
        for (answer, giver, taker, expected) in [
            (Some(true), 0, 1, (0, 0)),
            (Some(true), 0, 0, (1, 0)),
            (None, 1, 0, (0, 0)),
            (None, 0, 1, (0, 0)),
            // Each alone could be; both hold the same thing.
            (None, 1, 1, (0, 1)),
        ] {
            let mut ledger = Ledger::new(2);
            ledger.begin(&BTreeMap::from([(0, holds(1)), (1, holds(0))]));
            ledger.asked(0, 1, Deed::Give(APPLE, Some(1)));
            if let Some(is_done) = answer {
                ledger.answered(0, 1, is_done);
            }
            ledger.broke(0);
            let told = BTreeMap::from([(0, holds(giver)), (1, holds(taker))]);
            let verdict = ledger.check(&told);
            assert_eq!((verdict.lost, verdict.doubled), expected, "{answer:?} {giver} {taker}");
            // Whatever was found counts once.
            let again = BTreeMap::from([(0, holds(giver))]);
            assert_eq!(ledger.check(&again), Verdict { looked_at: 1, ..Verdict::default() });
        }
    }
}
