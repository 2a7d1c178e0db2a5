//! A crowd beside those who act: everybody lends their avatar about while the server is ended, and
//! comes back by ticket; what was acknowledged to each is asked for afterwards.
//!
//! A few by default; `ECUMENE_CROWD=200` makes it a crowd.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use protocol::ids::PersonId;
use protocol::io::ConnectOptions;
use protocol::io::clock::now_us;
use protocol::message::common::Lending;
use protocol::replica::Detail;
use protocol::session::Answer;
use protocol::units::Tick;
use server::io::clock::unix_s;
use tests::guest::{Guest, PATIENCE, options};
use tests::process::ServerProcess;
use tokio::task::JoinSet;

/// People in the suite.
const PEOPLE: usize = 6;

/// To how many each lends at most: half of what is allowed.
const LENT_MAX: u64 = 8;

/// The first to whom is lent: nobody who is there.
const FIRST: u64 = 0x100;

/// Pause between two lendings.
const PAUSE: Duration = Duration::from_millis(60);

/// How often one looks whether one is back.
const LOOK: Duration = Duration::from_millis(20);

/// Somebody who lends their avatar about.
struct Lender {
    guest: Guest,
    acknowledged: RefCell<Vec<PersonId>>,
}

/// People who lend, all on one thread.
pub struct Crowd {
    lenders: Vec<Rc<Lender>>,
    under_way: JoinSet<Result<()>>,
    /// Lendings that were acknowledged and found again.
    pub kept: usize,
    /// Seconds from the server's being back until each was, of all rounds.
    pub resumed_s: Vec<f64>,
}

impl Crowd {
    /// Brings them in.
    pub async fn join(server: &ServerProcess) -> Result<Self> {
        let count = std::env::var("ECUMENE_CROWD").ok().and_then(|text| text.parse().ok());
        let mut lenders = Vec::new();
        for index in 0..count.unwrap_or(PEOPLE) {
            let me = ConnectOptions {
                ground: None,
                ground_reach: 0,
                detail: Detail::Newest,
                ..options(server, &format!("Lender{index}"))?
            };
            let guest = Guest::enter(server, me).await?;
            lenders.push(Rc::new(Lender { guest, acknowledged: RefCell::default() }));
        }
        Ok(Self { lenders, under_way: JoinSet::new(), kept: 0, resumed_s: Vec::new() })
    }

    /// Lets everyone lend on until the connection breaks.
    pub fn begin(&mut self) {
        for lender in &self.lenders {
            self.under_way.spawn_local(lend_on(Rc::clone(lender)));
        }
    }

    /// The newest tick that anybody saw.
    pub fn newest(&self) -> Tick {
        let seen =
            |lender: &Rc<Lender>| lender.guest.client.look(|view| view.replica.clock().newest());
        self.lenders.iter().map(seen).max().unwrap_or_default()
    }

    /// Waits until everyone is back, and asks for all that was acknowledged.
    pub async fn check(&mut self, since: Tick, serving_us: u64) -> Result<()> {
        while let Some(done) = self.under_way.join_next().await {
            done??;
        }
        let mut back = JoinSet::new();
        for lender in &self.lenders {
            back.spawn_local(come_back(Rc::clone(lender), since));
        }
        while let Some(at_us) = back.join_next().await {
            self.resumed_s.push(at_us??.saturating_sub(serving_us) as f64 / 1e6);
        }
        let mut checks = JoinSet::new();
        for lender in &self.lenders {
            let lender = Rc::clone(lender);
            checks.spawn_local(async move { lender.check().await });
        }
        while let Some(kept) = checks.join_next().await {
            self.kept += kept??;
        }
        Ok(())
    }
}

async fn lend_on(lender: Rc<Lender>) -> Result<()> {
    for to in (FIRST..FIRST + LENT_MAX).map(PersonId) {
        // Without a connection there is nothing to say it on.
        let Ok(answer) = lender.lend(to).await else { return Ok(()) };
        match answer {
            Answer::Done { .. } => lender.acknowledged.borrow_mut().push(to),
            Answer::Unknown => return Ok(()),
            // What cannot be kept for now is refused; the server may be going already.
            Answer::Refused(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

async fn come_back(lender: Rc<Lender>, since: Tick) -> Result<u64> {
    let mut waited = Duration::ZERO;
    loop {
        let is_back = lender
            .guest
            .client
            .look(|view| view.session.is_in() && since < view.replica.clock().newest());
        if is_back {
            return Ok(now_us());
        }
        ensure!(waited < 2 * PATIENCE, "somebody does not come back");
        tokio::time::sleep(LOOK).await;
        waited += LOOK;
    }
}

impl Lender {
    async fn lend(&self, to: PersonId) -> Result<Answer> {
        let lending = Lending { avatar: self.guest.avatar(), to, ends_at: unix_s() + 10_000 };
        let lent = tokio::time::timeout(PATIENCE, self.guest.client.lend(lending)).await;
        Ok(lent.context("no answer to a lending")??)
    }

    /// Looks whether all lendings that were acknowledged are there, takes them back, and returns
    /// how many.
    async fn check(&self) -> Result<usize> {
        let acknowledged = self.acknowledged.take();
        // The answer names all of them.
        let Answer::Done { text: Some(told), .. } = self.lend(PersonId(FIRST - 1)).await? else {
            anyhow::bail!("a lending is not acknowledged with a list");
        };
        for to in &acknowledged {
            ensure!(
                told.contains(&format!("{to} for ")),
                "{to} was lent to, and is not in: {told}"
            );
        }
        // What was under way when the server ended may have been kept, too: all of it goes.
        let all = (FIRST - 1..FIRST + LENT_MAX).map(PersonId);
        for to in all.filter(|to| told.contains(&format!("{to} for "))) {
            self.guest.client.recall(self.guest.avatar(), to).await?;
        }
        Ok(acknowledged.len())
    }
}
