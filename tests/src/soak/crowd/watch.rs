//! What a crowd does so that kills of its server can be judged: acts that are acknowledged, who is
//! away and who is back, and looks at everybody while nobody acts.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use protocol::ids::{EntityId, PersonId};
use protocol::io::clock::now_us;
use protocol::message::common::Lending;
use protocol::message::server::Welcome;
use protocol::rules::{KindId, Thing};
use protocol::session::{Answer, BadRequest, Session};
use serde_json::json;
use server::io::clock::unix_s;
use tokio::time::sleep;

use super::super::ledger::{Deed, Ledger, Told, Verdict};
use super::super::report::Report;
use super::{Crowd, Wish};
use crate::dice::Dice;

/// Inputs between two lendings of a client: four seconds at 20 Hz.
const LENT_INPUTS: u64 = 80;

/// To how many a client lends at most: half of what is allowed.
const LENT_MAX: u64 = 8;

/// The first to whom is lent: nobody who is there.
const FIRST: u64 = 0x100;

/// Lent to so that the answer names everybody to whom is lent.
const PROBE: PersonId = PersonId(FIRST - 1);

/// Seconds for which is lent: longer than any run.
const LENT_S: u64 = 1_000_000;

/// How often it is looked whether everybody has been told.
const LOOK: Duration = Duration::from_millis(10);

/// What clients may do now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing that changes what is kept.
    #[default]
    Still,
    /// Everything.
    Acting,
    /// They ask what they have.
    Looking,
}

/// What was found at the end of what the server had acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Clients that were inside.
    pub inside: u64,
    /// What was found of those who came back and were told what they hold.
    pub verdict: Verdict,
}

impl Kept {
    /// Writes it into a report, if everybody was looked at; of `acknowledged` acts.
    pub fn fill(&self, report: &mut Report, acknowledged: u64) {
        let Verdict { looked_at, lost, doubled } = self.verdict;
        if self.inside <= looked_at && 0 < acknowledged {
            report.set("writes_lost", Some(lost as f64));
        }
        report.more.insert("writes_acknowledged".into(), json!(acknowledged));
        report.more.insert("writes_doubled".into(), json!(doubled));
        report.more.insert("writes_looked_at".into(), json!(looked_at));
    }
}

/// What is watched of all clients.
#[derive(Debug)]
pub(super) struct Watch {
    /// Whether clients lend their avatars.
    lends: bool,
    phase: Cell<Phase>,
    ledger: RefCell<Ledger>,
    told: RefCell<Vec<Telling>>,
    /// Who was inside when the server was killed, and is not back yet.
    away: RefCell<Vec<bool>>,
    back: RefCell<Back>,
}

/// What a client was told since its stay began.
#[derive(Clone, Debug, Default)]
struct Telling {
    things: Option<Vec<(EntityId, KindId, u32)>>,
    /// The request that asks to whom it lends.
    probe: Option<u32>,
    lent: Option<BTreeSet<PersonId>>,
}

/// Who came back since the server was killed.
#[derive(Clone, Debug, Default)]
pub struct Back {
    /// When each of them did, by the clock.
    pub at_us: Vec<u64>,
    /// How many went on with their stay.
    pub resumed: u32,
    /// How many began anew.
    pub anew: u32,
}

impl Watch {
    /// Returns what is watched of so many clients, none of whom has anything; if the server is killed
    /// nobody acts before it is said, and everybody lends, too.
    pub(super) fn new(clients: usize, is_killed: bool) -> Self {
        Self {
            lends: is_killed,
            phase: Cell::new(if is_killed { Phase::Still } else { Phase::Acting }),
            ledger: RefCell::new(Ledger::new(clients)),
            told: RefCell::new(vec![Telling::default(); clients]),
            away: RefCell::new(vec![false; clients]),
            back: RefCell::default(),
        }
    }

    /// Notes that a stay begins.
    pub(super) fn begun(&self, client: usize, welcome: &Welcome) {
        self.told.borrow_mut()[client] = Telling::default();
        if std::mem::take(&mut self.away.borrow_mut()[client]) {
            let mut back = self.back.borrow_mut();
            back.at_us.push(now_us());
            if welcome.resumed {
                back.resumed += 1;
            } else {
                back.anew += 1;
            }
        }
    }

    /// Notes that a stay has ended.
    pub(super) fn ended(&self, client: usize) {
        self.ledger.borrow_mut().broke(client);
    }

    /// Returns whether a client is away because the server was killed.
    pub(super) fn is_away(&self, client: usize) -> bool {
        self.away.borrow()[client]
    }

    /// Returns whether clients may change what is kept.
    pub(super) fn may_act(&self) -> bool {
        self.phase.get() == Phase::Acting
    }

    /// Notes what a client asked to do.
    pub(super) fn asked(&self, client: usize, request: u32, deed: Deed) {
        self.ledger.borrow_mut().asked(client, request, deed);
    }

    /// Notes an answer.
    pub(super) fn answered(&self, client: usize, request: u32, answer: &Answer) {
        let (is_done, text) = match answer {
            Answer::Done { text, .. } => (true, text.as_deref()),
            Answer::Refused(_) | Answer::Unknown => (false, None),
        };
        let told = &mut self.told.borrow_mut()[client];
        if told.probe == Some(request) {
            told.lent = text.map(lent_to);
        }
        self.ledger.borrow_mut().answered(client, request, is_done);
    }

    /// Notes everything that a client holds.
    pub(super) fn holds(&self, client: usize, things: &[Thing]) {
        let things = things.iter().map(|thing| (thing.id, thing.kind, thing.count)).collect();
        self.told.borrow_mut()[client].things = Some(things);
    }

    /// Asks for what a client has, if it is to be looked at, or lends its avatar when that is due;
    /// returns whether something was asked.
    ///
    /// # Errors
    /// The session's.
    pub(super) fn ask(
        &self,
        (client, avatar, phase): (usize, EntityId, u64),
        (session, dice): (&mut Session, &mut Dice),
        at_us: u64,
    ) -> Result<Option<u32>, BadRequest> {
        match self.phase.get() {
            Phase::Still => Ok(None),
            Phase::Looking => {
                let told = &mut self.told.borrow_mut()[client];
                if told.probe.is_some() {
                    return Ok(None);
                }
                told.probe = Some(session.lend(lending(avatar, PROBE), at_us)?);
                Ok(told.probe)
            }
            Phase::Acting if self.lends && phase.is_multiple_of(LENT_INPUTS) => {
                let to = PersonId(FIRST + dice.below(LENT_MAX));
                let is_lent = self.ledger.borrow().lends_to(client).any(|lent| lent == to);
                let (request, deed) = if is_lent {
                    (session.recall(avatar, to, at_us)?, Deed::Recall(to))
                } else {
                    (session.lend(lending(avatar, to), at_us)?, Deed::Lend(to))
                };
                self.asked(client, request, deed);
                Ok(Some(request))
            }
            Phase::Acting => Ok(None),
        }
    }

    /// Returns what everybody inside was told; nothing while somebody was not.
    fn all_told(&self, is_inside: impl Fn(usize) -> bool) -> Option<BTreeMap<usize, Told>> {
        let told = self.told.borrow();
        let inside = (0..told.len()).filter(|&client| is_inside(client));
        inside.map(|client| Some((client, told[client].whole()?))).collect()
    }

    fn told(&self, is_inside: impl Fn(usize) -> bool) -> BTreeMap<usize, Told> {
        let told = self.told.borrow();
        let inside = (0..told.len()).filter(|&client| is_inside(client));
        inside.filter_map(|client| Some((client, told[client].whole()?))).collect()
    }
}

impl Telling {
    fn whole(&self) -> Option<Told> {
        Some(Told { things: self.things.clone()?, lent: self.lent.clone()? })
    }
}

/// What the crowd is told of kills, and tells of them. It has no effect without a watch.
impl Crowd {
    /// Lets everybody begin to do what is acknowledged, after one look at what they have.
    pub async fn act(self: &Rc<Self>, patience: Duration) {
        let Some(watch) = &self.watch else { return };
        let told = self.look(watch, patience).await;
        watch.ledger.borrow_mut().begin(&told);
        watch.phase.set(Phase::Acting);
    }

    /// Notes that the server is being killed; returns how many were inside.
    pub fn fell(&self) -> u32 {
        let Some(watch) = &self.watch else { return 0 };
        watch.phase.set(Phase::Still);
        *watch.back.borrow_mut() = Back::default();
        let connections = self.connections.borrow();
        let mut away = watch.away.borrow_mut();
        for (away, connection) in away.iter_mut().zip(connections.iter()) {
            *away = connection.is_some();
        }
        u32::try_from(away.iter().filter(|away| **away).count()).unwrap_or(u32::MAX)
    }

    /// Waits until everybody is back; returns who is by then.
    pub async fn come_back(self: &Rc<Self>, patience: Duration) -> Back {
        let Some(watch) = &self.watch else { return Back::default() };
        let until_us = now_us() + patience.as_micros() as u64;
        while watch.away.borrow().contains(&true) && now_us() < until_us {
            sleep(LOOK).await;
        }
        watch.back.borrow().clone()
    }

    /// Holds what everybody has against what was acknowledged; then they act on.
    pub async fn settle(self: &Rc<Self>, patience: Duration) -> Verdict {
        let Some(watch) = &self.watch else { return Verdict::default() };
        let told = self.look(watch, patience).await;
        let verdict = watch.ledger.borrow_mut().check(&told);
        watch.phase.set(Phase::Acting);
        verdict
    }

    /// Lets everybody break off at the end and go on with their stays, and holds what they are told
    /// then against what was acknowledged; nothing without a watch, or if somebody did not come back.
    pub async fn look_back(self: &Rc<Self>, patience: Duration) -> Option<Kept> {
        let watch = self.watch.as_ref()?;
        for (client, wake) in self.wake.iter().enumerate() {
            // It is away until its next stay has begun.
            watch.away.borrow_mut()[client] = self.connections.borrow()[client].is_some();
            self.wishes.borrow_mut()[client] = Wish::Break;
            wake.notify_one();
        }
        let inside = watch.away.borrow().iter().filter(|away| **away).count() as u64;
        self.come_back(patience).await;
        let verdict = self.settle(patience).await;
        Some(Kept { inside, verdict })
    }

    /// Returns how many acts were acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.watch.as_ref().map_or(0, |watch| watch.ledger.borrow().acknowledged())
    }

    /// Lets everybody be told what they have.
    async fn look(&self, watch: &Watch, patience: Duration) -> BTreeMap<usize, Told> {
        for told in watch.told.borrow_mut().iter_mut() {
            (told.probe, told.lent) = (None, None);
        }
        watch.phase.set(Phase::Looking);
        let is_inside = |client: usize| self.connections.borrow()[client].is_some();
        let until_us = now_us() + patience.as_micros() as u64;
        while now_us() < until_us {
            if let Some(told) = watch.all_told(is_inside) {
                return told;
            }
            sleep(LOOK).await;
        }
        watch.told(is_inside)
    }
}

fn lending(avatar: EntityId, to: PersonId) -> Lending {
    Lending { avatar, to, ends_at: unix_s() + LENT_S }
}

/// Returns to whom an avatar is lent, by the words that answer a lending.
fn lent_to(text: &str) -> BTreeSet<PersonId> {
    let named = (FIRST - 1..FIRST + LENT_MAX).map(PersonId);
    named.filter(|to| text.contains(&format!("{to} for "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lendings_are_read_from_the_answer() {
        let lent = lent_to("e-7 is lent to p-ff for 9h 2m, p-103 for 1h 1m");
        assert_eq!(lent, BTreeSet::from([PROBE, PersonId(0x103)]));
        assert_eq!(lent_to("e-7 is lent to nobody"), BTreeSet::new());
    }
}
