//! A trade that is cut short by `kill -9` at each of its steps: both sides have what they had, or
//! both have what they agreed on.

use std::time::Duration;

use anyhow::{Context, Result};
use protocol::ids::EntityId;
use protocol::rules::{Act, Args, Lot, Portion, Verb};
use protocol::session::Answer;
use protocol::units::Tick;
use tests::guest::{Guest, run};
use tests::process::ServerProcess;

/// The step after which the server dies.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The offer is sent.
    OfferSent,
    /// The offer stands.
    OfferMade,
    /// Milliseconds ago the acceptance was sent.
    AcceptSent(u64),
    /// The acceptance was acknowledged.
    Accepted,
}

const STEPS: [Step; 9] = [
    Step::OfferSent,
    Step::OfferMade,
    Step::AcceptSent(0),
    Step::AcceptSent(15),
    Step::AcceptSent(30),
    Step::AcceptSent(45),
    Step::AcceptSent(60),
    Step::AcceptSent(90),
    Step::Accepted,
];

fn holds(guest: &Guest, thing: EntityId) -> bool {
    guest.holding().iter().any(|held| held.id == thing)
}

/// Trades the one's thing for the other's up to a step; returns whether it was acknowledged.
async fn trade(from: &Guest, to: &Guest, step: Step) -> Result<bool> {
    let (gives, gets) = (from.holding(), to.holding());
    let (give, get) = (gives.first().context("to give")?, gets.first().context("to get")?);
    let deal = Args::Deal {
        give: vec![Portion { thing: give.id, count: 1 }],
        want: vec![Lot { kind: get.kind, count: 1 }],
    };
    let offer = Act::on(Verb::Offer, to.avatar()).with(deal);
    if matches!(step, Step::OfferSent) {
        from.client.begin(offer)?;
        tokio::time::sleep(Duration::from_millis(5)).await;
        return Ok(false);
    }
    from.does(offer).await?;
    let newest = |view: &protocol::io::View| view.replica.log().offers.back().map(|it| it.id);
    let offer = to.until("the offer", newest).await?;
    if matches!(step, Step::OfferMade) {
        return Ok(false);
    }
    let (_, mut answer) = to.client.begin(Act::new(Verb::Accept).with(Args::Offer(offer)))?;
    match step {
        Step::OfferSent | Step::OfferMade => Ok(false),
        Step::AcceptSent(ms) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(matches!(answer.try_recv(), Ok(Answer::Done { .. })))
        }
        Step::Accepted => Ok(matches!(answer.await?, Answer::Done { .. })),
    }
}

#[test]
fn a_trade_happens_as_a_whole_or_not_at_all() -> Result<()> {
    run(async {
        let mut server = ServerProcess::start(&["admission.handshakes_burst=1000"])?;
        let (ada, ben) = (Guest::join(&server, "Ada").await?, Guest::join(&server, "Ben").await?);
        for (guest, kind) in [(&ada, "cup"), (&ben, "bucket")] {
            let (thing, at) = guest.nearest(kind).await?;
            guest.go_to(at, 150).await?;
            guest.does(Act::on(Verb::Take, thing).with(Args::Count(1))).await?;
            guest.held(kind).await?;
        }
        ben.go_to(ada.position(), 200).await?;
        tokio::time::sleep(Duration::from_secs(6)).await;
        let (cup, bucket) = (ada.holding()[0].id, ben.holding()[0].id);
        let mut swapped = 0;
        for step in STEPS {
            let ada_has_cup = holds(&ada, cup);
            let acknowledged =
                trade(&ada, &ben, step).await.with_context(|| format!("{step:?}"))?;
            server.kill_9()?;
            let since = ada.client.look(|view| view.replica.clock().newest());
            server.restart()?;
            for guest in [&ada, &ben] {
                come_back(guest, since).await.with_context(|| format!("{step:?}"))?;
            }
            let cups = (holds(&ada, cup), holds(&ben, cup));
            let buckets = (holds(&ada, bucket), holds(&ben, bucket));
            assert!(cups.0 != cups.1, "{step:?}: the cup is with one of them: {cups:?}");
            assert_eq!(buckets, (cups.1, cups.0), "{step:?}: both or neither");
            let is_swapped = cups.0 != ada_has_cup;
            assert!(is_swapped || !acknowledged, "{step:?}: an acknowledged trade is undone");
            swapped += u32::from(is_swapped);
        }
        println!("{} kills, {swapped} trades took place as a whole", STEPS.len());
        assert!(1 <= swapped);
        Ok(())
    })
}

async fn come_back(guest: &Guest, since: Tick) -> Result<()> {
    guest
        .until_patiently("coming back after the kill", |view| {
            (view.session.is_in() && since < view.replica.log().holding_since).then_some(())
        })
        .await
}
