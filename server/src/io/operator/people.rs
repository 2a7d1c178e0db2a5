//! Ends what is kept of people: of those whom an operator names, and of guests who stay away.
//!
//! The gateway makes somebody nobody first; only then is anything taken out of the store.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use protocol::ids::PersonId;
use tracing::{error, info};

use super::{Host, stopping};
use crate::actors::gateway::{Forget, Forgotten, NotNow, Unlend, Whom};
use crate::admin::{AdminReply, Who};
use crate::guests::{self, FORGOTTEN_MAX};
use crate::io::files::FileError;
use crate::io::launch::write_access;
use crate::io::{clock, forget};
use crate::store::StoreError;

/// How long the world may take to be done with somebody: two ticks, when all is well.
const NOBODY_WITHIN: Duration = Duration::from_secs(10);

/// Looks at those who lend to somebody before it is given up: each waits for what the looks before
/// met on its way to the store, which is there within milliseconds.
const LENDERS_LOOKS_MAX: u32 = 20;

/// Pause between two such looks.
const LENDERS_LOOKED_AT: Duration = Duration::from_millis(100);

/// Pause between two guests: each takes some writes that the ticking thread's may have to wait
/// for.
const GUESTS_EVERY: Duration = Duration::from_millis(100);

/// Somebody who is still kept, at least in part.
#[derive(Debug, thiserror::Error)]
enum NotForgotten {
    #[error(transparent)]
    NotNow(#[from] NotNow),
    #[error("the server is stopping")]
    Stopping,
    #[error("the world was not done with them within {} s; try again", NOBODY_WITHIN.as_secs())]
    StillBusy,
    #[error("not everything could be erased, try again: {0}")]
    Store(#[from] StoreError),
    #[error("not everything could be erased, try again: the thread that does it ended early")]
    Thread,
    #[error("what others lend to them changes all the time; try again")]
    Lenders,
    #[error("their role and mute could not be erased, try again: {0}")]
    Decisions(#[from] FileError),
}

impl Host {
    /// Erases what is kept of somebody; answers once that is durable.
    pub(super) async fn erase(&self, who: &Who) -> AdminReply {
        let person = match self.person(who) {
            Ok(person) => person,
            Err(error) => return AdminReply::Failed(error.to_string()),
        };
        match self.forget(person, Whom::Anybody).await {
            Ok(0) => AdminReply::Failed(format!(
                "nothing is kept of {person}; `ecumene player list` shows the ids of those who \
                 are in"
            )),
            Ok(_) => AdminReply::Done(erased(person)),
            Err(NotForgotten::Stopping) => stopping(),
            Err(error) => AdminReply::Failed(error.to_string()),
        }
    }

    /// Drops a person's role and mute; returns how many of these there were.
    fn forget_decisions(&self, person: PersonId) -> Result<usize, FileError> {
        let _one_at_a_time = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.tokens.access.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut access = before.clone();
        access.forget(person);
        if access == before {
            return Ok(0);
        }
        write_access(&self.data, &access)?;
        *self.tokens.access.write().unwrap_or_else(PoisonError::into_inner) = access;
        Ok(1)
    }

    /// Takes somebody out of the world and out of the store, durably; returns how much there was to
    /// take, 0: nothing at all.
    async fn forget(&self, person: PersonId, whom: Whom) -> Result<usize, NotForgotten> {
        let asked = self.gateway.send(Forget(person, whom)).await;
        let is_nobody = asked.map_err(|_| NotForgotten::Stopping)??;
        let outcome = match tokio::time::timeout(NOBODY_WITHIN, is_nobody).await {
            Ok(Ok(())) => self.take_from_store(person, whom).await,
            Ok(Err(_)) => Err(NotForgotten::Stopping),
            Err(_) => Err(NotForgotten::StillBusy),
        };
        // However it went, they may come in again.
        if self.gateway.send(Forgotten(person)).await.is_err() {
            info!("the world stops");
        }
        outcome
    }

    async fn take_from_store(&self, person: PersonId, whom: Whom) -> Result<usize, NotForgotten> {
        let lobby = Arc::clone(&self.lobby);
        let days = self.guest_days();
        let take = move || {
            // Since a guest was found to be long away they may have come and gone.
            let record = forget::record_of(&*lobby.store, person)?;
            let is_due = record.is_some_and(|it| guests::is_due(&it, clock::unix_s(), days));
            if whom == Whom::OnlyAway && !is_due {
                return Ok(0);
            }
            lobby.forget(person)
        };
        let mut count =
            tokio::task::spawn_blocking(take).await.map_err(|_| NotForgotten::Thread)??;
        // A guest's id is never given again, so nobody could use what was lent to it.
        if whom == Whom::Anybody {
            count += self.end_lendings_to(person).await?;
            count += self.forget_decisions(person)?;
        }
        self.lobby.store.flush().await?;
        Ok(count)
    }

    /// Ends what is lent to somebody; returns by how many who are away.
    async fn end_lendings_to(&self, to: PersonId) -> Result<usize, NotForgotten> {
        let mut count = 0;
        for _ in 0..LENDERS_LOOKS_MAX {
            let store = Arc::clone(&self.lobby.store);
            let as_of = store.durable();
            let look = move || forget::people_who(&*store, |record| record.lends_to(to));
            let looked = tokio::task::spawn_blocking(look).await;
            let lenders = looked.map_err(|_| NotForgotten::Thread)??;
            count = lenders.len().max(count);
            let again = self.gateway.send(Unlend { to, lenders, as_of }).await;
            if !again.map_err(|_| NotForgotten::Stopping)? {
                return Ok(count);
            }
            tokio::time::sleep(LENDERS_LOOKED_AT).await;
        }
        Err(NotForgotten::Lenders)
    }

    /// Forgets guests who were away for longer than the settings allow, some at a time.
    pub(super) async fn forget_guests(&self) {
        let days = self.guest_days();
        if days == 0 {
            return;
        }
        let store = Arc::clone(&self.lobby.store);
        let look = move || {
            forget::people_who(&*store, |record| guests::is_due(record, clock::unix_s(), days))
        };
        let found = match tokio::task::spawn_blocking(look).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return error!(%error, "cannot look for guests to forget"),
            Err(error) => return error!(%error, "the look for guests to forget ended early"),
        };
        let mut count = 0_usize;
        for record in found.into_iter().take(FORGOTTEN_MAX) {
            match self.forget(record.person, Whom::OnlyAway).await {
                Ok(0) | Err(NotForgotten::NotNow(NotNow::IsIn(_))) => {}
                Ok(_) => count += 1,
                // What is wrong for one is wrong for all; there is another look later.
                Err(error) => return error!(%error, "cannot forget a guest"),
            }
            tokio::time::sleep(GUESTS_EVERY).await;
        }
        if 0 < count {
            info!(count, days, "forgot guests who stayed away");
        }
    }

    fn guest_days(&self) -> u32 {
        let config = self.lobby.config.read().unwrap_or_else(PoisonError::into_inner);
        config.admission.guest_days
    }
}

/// Returns what an operator is told when somebody was erased.
#[must_use]
pub fn erased(person: PersonId) -> String {
    format!(
        "everything kept of {person} is erased, here and in every backup; they may come again as a \
         newcomer"
    )
}
