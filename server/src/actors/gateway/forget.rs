//! Makes somebody nobody here, so that what is kept of them can be erased on another thread.
//!
//! From [`Forget`] until [`Forgotten`] the person cannot come in. Erasing itself is not done here.

use actix::prelude::*;
use protocol::close::CloseCode;
use protocol::ids::PersonId;
use protocol::units::Tick;
use tokio::sync::oneshot;
use tracing::info;

use super::{GatewayActor, Unseated};
use crate::admission::Refusal;
use crate::departures::EXAMINED_MS_MAX;
use crate::io::clock;
use crate::io::lobby::Examined;
use crate::people::PersonRecord;
use crate::shard::viewer::ClientKey;
use crate::store::Number;

/// Ticks until a step has been asked for that knows of what is asked now.
const STEPS_AWAY: u64 = 2;

/// Seconds after which somebody who is being erased may come in as a newcomer.
const RETRY_S: u32 = 2;

/// Who is to be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Anybody: who is in is put out.
    Anybody,
    /// Only somebody who is not in the world.
    OnlyAway,
}

/// Makes a person nobody. What is returned answers when everything of them is in the store's
/// order, so that it can be erased; [`Forgotten`] must follow.
#[derive(Debug, Message)]
#[rtype(result = "Result<oneshot::Receiver<()>, NotNow>")]
pub struct Forget(pub PersonId, pub Whom);

/// The person was erased, or could not be; they may come in again, as whatever the store says.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Forgotten(pub PersonId);

/// Ends what absent people lent to somebody; returns whether some of it must be looked at again,
/// for something newer is on its way to the store.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct Unlend {
    /// To whom.
    pub to: PersonId,
    /// Those who lent, as stored.
    pub lenders: Vec<PersonRecord>,
    /// Everything up to this batch was in what was read.
    pub as_of: Number,
}

/// Why somebody is not forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// Somebody else is at it.
    #[error("{0} is being erased already; try again shortly")]
    Already(PersonId),
    /// They are in.
    #[error("{0} is in the world")]
    IsIn(PersonId),
    /// What they did last cannot be written.
    #[error("the world cannot be written just now; see `ecumene status`, then try again")]
    CannotWrite,
}

/// Somebody who is being forgotten, or was a moment ago.
#[derive(Debug)]
pub(super) struct Forgetting {
    /// The step that every region must have made.
    after: Tick,
    /// Whether every region has made one already: the avatar was taken out where it was, or had
    /// just crossed a border and is taken out behind it by the next.
    is_sent_after: bool,
    ready: Option<oneshot::Sender<()>>,
    /// Unix time in milliseconds at which it was over, and milliseconds of the gateway's clock.
    done: Option<(u64, u64)>,
}

impl Forgetting {
    /// Returns whether what was read of somebody at `at_ms` (Unix time) may be of before.
    fn is_since(&self, at_ms: u64) -> bool {
        self.done.is_none_or(|(done_ms, _)| at_ms <= done_ms)
    }
}

impl Handler<Forget> for GatewayActor {
    type Result = Result<oneshot::Receiver<()>, NotNow>;

    fn handle(&mut self, Forget(person, whom): Forget, _: &mut Self::Context) -> Self::Result {
        self.begin_forgetting(person, whom)
    }
}

impl Handler<Forgotten> for GatewayActor {
    type Result = ();

    fn handle(&mut self, Forgotten(person): Forgotten, _: &mut Self::Context) {
        let now_ms = self.now_ms();
        if let Some(forgetting) = self.forgetting.get_mut(&person) {
            forgetting.done = Some((clock::unix_ms(), now_ms));
        }
    }
}

impl Handler<Unlend> for GatewayActor {
    type Result = bool;

    fn handle(&mut self, unlend: Unlend, _: &mut Self::Context) -> Self::Result {
        let Unlend { to, lenders, as_of } = unlend;
        self.unlend(to, lenders, as_of)
    }
}

impl GatewayActor {
    fn begin_forgetting(
        &mut self,
        person: PersonId,
        whom: Whom,
    ) -> Result<oneshot::Receiver<()>, NotNow> {
        if self.forgetting.get(&person).is_some_and(|forgetting| forgetting.done.is_none()) {
            return Err(NotNow::Already(person));
        }
        let is_in = self.people.contains_key(&person)
            || self.clients.values().any(|client| client.person == person);
        if whom == Whom::OnlyAway && is_in {
            return Err(NotNow::IsIn(person));
        }
        if !self.can_store() {
            return Err(NotNow::CannotWrite);
        }
        self.take_out(person);
        let (ready, is_ready) = oneshot::channel();
        let after = self.now().after(STEPS_AWAY);
        let forgetting = Forgetting { after, is_sent_after: false, ready: Some(ready), done: None };
        self.forgetting.insert(person, forgetting);
        info!(%person, "forgetting");
        Ok(is_ready)
    }

    /// Takes a person and their avatar out of the world, without keeping anything of them.
    fn take_out(&mut self, person: PersonId) {
        let avatar = self.people.get(&person).map(|record| record.avatar);
        let concerned: Vec<(ClientKey, bool)> = self
            .clients
            .iter()
            .filter(|(_, client)| client.person == person || Some(client.avatar) == avatar)
            .map(|(&key, client)| (key, client.person == person))
            .collect();
        for (client, is_themselves) in concerned {
            let refusal = if is_themselves {
                Refusal::for_good(CloseCode::Kicked, "what is kept of you here is erased")
            } else {
                let why = "the avatar's owner is here no more";
                Refusal::for_good(CloseCode::LendingEnded, why)
            };
            self.put_out(client, &refusal);
        }
        if let Some(avatar) = avatar {
            self.send_home(avatar);
        }
        self.departures.forget(person);
        let lenders = self.people.values_mut().filter_map(|record| {
            let is_changed = record.recall(person);
            is_changed.then(|| record.clone())
        });
        let lenders: Vec<PersonRecord> = lenders.collect();
        self.save_people(&lenders);
    }

    /// Says of those who are being forgotten when nothing of them is under way any more.
    pub(super) fn settle_forgetting(&mut self) {
        let (now, now_ms, is_all_appended) = (self.now(), self.now_ms(), self.unsaved.is_empty());
        for forgetting in self.forgetting.values_mut() {
            // A region that runs elsewhere, or is on its way there, takes its time.
            let mut regions = self.outfit.regions.iter();
            let is_made =
                regions.all(|region| self.hosting.has_made(region.index, forgetting.after));
            if !is_all_appended || !is_made {
                continue;
            }
            if !forgetting.is_sent_after {
                (forgetting.is_sent_after, forgetting.after) = (true, now.after(STEPS_AWAY));
            } else if let Some(ready) = forgetting.ready.take()
                && ready.send(()).is_err()
            {
                tracing::debug!("nobody waits any more for somebody to be nobody");
            }
        }
        self.forgetting.retain(|_, forgetting| {
            let since_ms = |(_, done_ms): (u64, u64)| now_ms.saturating_sub(done_ms);
            forgetting.done.is_none_or(|done| since_ms(done) < 2 * EXAMINED_MS_MAX)
        });
    }

    /// Returns why somebody cannot come in who, or whose lender, was or is being forgotten.
    pub(super) fn check_forgetting(&self, examined: &Examined) -> Result<(), Unseated> {
        for person in [examined.admitted.person, examined.owner.person] {
            let Some(forgetting) = self.forgetting.get(&person) else { continue };
            if forgetting.done.is_none() {
                let why = "what is kept of you, or of who lent you the avatar, is being erased";
                return Err(Refusal::for_now(CloseCode::Internal, why, RETRY_S).into());
            }
            if forgetting.is_since(examined.at_ms) {
                return Err(Unseated::Stale);
            }
        }
        Ok(())
    }

    /// Ends what a record, read at `at_ms` (Unix time), lends to people who were forgotten since;
    /// returns whether it lent anything to them.
    pub(super) fn recall_from_forgotten(&self, record: &mut PersonRecord, at_ms: u64) -> bool {
        let gone = self.forgetting.iter().filter(|(_, forgetting)| forgetting.is_since(at_ms));
        gone.fold(false, |is_changed, (&person, _)| record.recall(person) || is_changed)
    }

    fn unlend(&mut self, to: PersonId, lenders: Vec<PersonRecord>, as_of: Number) -> bool {
        let mut again = false;
        let mut changed = Vec::new();
        for mut record in lenders {
            // Of those who are here, or leave, it ended when the forgetting began.
            let is_here = self.people.contains_key(&record.person);
            if is_here || self.departures.has_record(record.avatar) {
                continue;
            }
            if self.departures.outdates(record.avatar, as_of) {
                again = true;
            } else if record.recall(to) {
                changed.push(record);
            }
        }
        self.save_people(&changed);
        again
    }
}
