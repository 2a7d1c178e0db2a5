//! Rounds of `kill -9`, and of power cuts, while people act: what was acknowledged is there
//! afterwards, once.
//!
//! Ten kills and four cuts by default; `ECUMENE_ROUNDS=50` runs the full figure.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use protocol::ids::{EntityId, PersonId, SessionId};
use protocol::io::ConnectOptions;
use protocol::io::clock::now_us;
use protocol::message::server::Being;
use protocol::rules::{Act, Args, KindId, Verb};
use protocol::session::Answer;
use protocol::units::{Position, Tick};
use tests::guest::{Guest, options, run};
use tests::measure::rounds;
use tests::power::{Plan, Power};
use tests::process::ServerProcess;
use tokio::task::LocalSet;

use super::crowd::Crowd;

const ROUNDS: u32 = 10;

const CUTS: u32 = 4;

const SETTINGS: [&str; 3] = [
    "admission.handshakes_burst=10000",
    "admission.handshakes_per_s=10000",
    "server.clients_max=2000",
];

const NAMES: [&str; 3] = ["Ada", "Ben", "Cleo"];

/// How long people act before the server dies, by round: other moments of a commit each time.
const ACTING: [Duration; 3] =
    [Duration::from_millis(310), Duration::from_millis(437), Duration::from_millis(523)];

/// Where a thing is, as far as it was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Ground,
    With(usize),
}

/// What was acknowledged, and what was still under way when the server died.
#[derive(Debug, Default)]
struct Ledger {
    places: BTreeMap<EntityId, (Tick, Place)>,
    /// The thing that each person's unanswered act is about.
    under_way: BTreeMap<usize, EntityId>,
    acknowledged: u64,
    /// The server was killed: nobody begins anything more.
    is_over: bool,
}

impl Ledger {
    fn on_the_ground(&self) -> Vec<EntityId> {
        let free = self.places.iter().filter(|(_, (_, place))| *place == Place::Ground);
        free.map(|(id, _)| *id).collect()
    }
}

/// Returns the axes and hammers of the workshop: they do not stack, so each stays itself.
async fn tools(guest: &Guest) -> Result<(BTreeSet<EntityId>, Vec<KindId>)> {
    let kinds = vec![guest.kind("axe")?, guest.kind("hammer")?];
    let tools = guest
        .until("four tools", |view| {
            let is_tool = |being: &Being| match being {
                Being::Thing { kind, .. } => kinds.contains(kind),
                Being::Avatar { .. } => false,
            };
            let all = view.replica.entities().filter(|entity| is_tool(&entity.being));
            let all: BTreeSet<EntityId> = all.map(|entity| entity.id).collect();
            (all.len() == 4).then_some(all)
        })
        .await?;
    Ok((tools, kinds))
}

/// Acts at random until the connection is lost.
async fn act_on(guests: &[Guest], own: usize, mut seed: u64, ledger: &RefCell<Ledger>) {
    let guest = &guests[own];
    while !ledger.borrow().is_over {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let draw = seed >> 33;
        let held: Vec<EntityId> = guest.holding().iter().map(|thing| thing.id).collect();
        let (thing, act, place) = if held.is_empty() || draw.is_multiple_of(3) {
            let free = ledger.borrow().on_the_ground();
            let Some(&thing) = free.get(draw as usize % free.len().max(1)) else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            (thing, Act::on(Verb::Take, thing), Place::With(own))
        } else if draw % 3 == 1 {
            (held[0], Act::on(Verb::Drop, held[0]), Place::Ground)
        } else {
            let other = (own + 1 + draw as usize / 3 % (guests.len() - 1)) % guests.len();
            let moved = Args::Moved { thing: held[0], count: 1 };
            let act = Act::on(Verb::Give, guests[other].avatar()).with(moved);
            (held[0], act, Place::With(other))
        };
        ledger.borrow_mut().under_way.insert(own, thing);
        let Ok(answer) = guest.act(act).await else { return };
        let mut ledger = ledger.borrow_mut();
        match answer {
            Answer::Done { tick, .. } => {
                ledger.under_way.remove(&own);
                ledger.acknowledged += 1;
                let known = ledger.places.entry(thing).or_insert((tick, place));
                if known.0 <= tick {
                    *known = (tick, place);
                }
            }
            Answer::Refused(_) => drop(ledger.under_way.remove(&own)),
            Answer::Unknown => return,
        }
    }
}

/// Waits until everybody is back and told what they hold.
async fn come_back(guests: &[Guest], since: Tick) -> Result<()> {
    for guest in guests {
        guest
            .until_patiently("coming back after the kill", |view| {
                (view.session.is_in() && since < view.replica.log().holding_since).then_some(())
            })
            .await?;
    }
    Ok(())
}

/// Who somebody is, as what, in which stay.
fn stay(guest: &Guest) -> (PersonId, EntityId, SessionId) {
    (guest.person(), guest.avatar(), guest.client.look(|view| view.welcome.session))
}

fn is_resumed(guest: &Guest) -> bool {
    guest.client.look(|view| view.welcome.resumed)
}

/// Checks that every tool is in one place, and where it was acknowledged to be.
async fn check(guests: &[Guest], ledger: &RefCell<Ledger>) -> Result<()> {
    let tools: Vec<EntityId> = ledger.borrow().places.keys().copied().collect();
    let mut found = BTreeMap::new();
    for &tool in &tools {
        let holders: Vec<usize> = (0..guests.len())
            .filter(|&own| guests[own].holding().iter().any(|thing| thing.id == tool))
            .collect();
        ensure!(holders.len() <= 1, "{tool} is doubled: {holders:?} hold it");
        let place = match holders.first() {
            Some(&own) => Place::With(own),
            None => {
                let lies = |view: &protocol::io::View| view.replica.entity(tool).map(|_| ());
                let found = guests[0].until("a tool that nobody holds to lie there", lies).await;
                found.with_context(|| format!("{tool} is lost"))?;
                Place::Ground
            }
        };
        let is_shown = guests[0].client.look(|view| view.replica.entity(tool).is_some());
        ensure!(is_shown == (place == Place::Ground), "{tool} is held and lies there");
        found.insert(tool, place);
    }
    let mut ledger = ledger.borrow_mut();
    for (tool, place) in found {
        let known = ledger.places.get(&tool).copied().context("a known tool")?;
        let is_sure = ledger.under_way.values().all(|thing| *thing != tool);
        ensure!(
            !is_sure || known.1 == place,
            "{tool} was acknowledged to be {:?} and is {place:?}",
            known.1
        );
        ledger.places.insert(tool, (known.0, place));
    }
    ledger.under_way.clear();
    Ok(())
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_by_killing_the_server() -> Result<()> {
    let server = ServerProcess::start(&SETTINGS)?;
    println!("{}", check_rounds(server, rounds(ROUNDS), ServerProcess::kill_9)?);
    Ok(())
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_by_a_power_cut() -> Result<()> {
    let power = Power::make()?;
    let plan = Plan { seed: 1, keep_permille: 500, ..Plan::default() };
    let server = ServerProcess::start_on(&power, &plan, &SETTINGS)?;
    println!("{}", check_rounds(server, rounds(CUTS), ServerProcess::cut_power)?);
    assert!(power.report().contains("sectors_dropped"), "{}", power.report());
    Ok(())
}

/// Lets people act, ends the server by `end` and starts it again, so many times; returns what came
/// of it, in words.
fn check_rounds(
    mut server: ServerProcess,
    rounds: u32,
    end: fn(&mut ServerProcess) -> Result<()>,
) -> Result<String> {
    let mut summary = String::new();
    let everything = async {
        let mut guests = Vec::new();
        for name in NAMES {
            let guest = Guest::join(&server, name).await?;
            guest.go_to(Position::new(1_950, 0, 110), 60).await?;
            guests.push(guest);
        }
        let mut crowd = Crowd::join(&server).await?;
        // Where people stand is kept every five seconds.
        tokio::time::sleep(Duration::from_secs(6)).await;
        let (tools, _) = tools(&guests[0]).await?;
        let places = tools.into_iter().map(|tool| (tool, (Tick(0), Place::Ground))).collect();
        let ledger = RefCell::new(Ledger { places, ..Ledger::default() });
        let people: Vec<_> = guests.iter().map(stay).collect();
        let (mut resumed, mut serving_s) = (0, Vec::new());
        for round in 0..rounds {
            ledger.borrow_mut().is_over = false;
            let seed = u64::from(round) * 31 + 7;
            let acting = ACTING[round as usize % ACTING.len()];
            let everybody = async {
                tokio::join!(
                    act_on(&guests, 0, seed, &ledger),
                    act_on(&guests, 1, seed + 1, &ledger),
                    act_on(&guests, 2, seed + 2, &ledger),
                )
            };
            crowd.begin();
            // They act on until they lose the server: dropping the wait would forget answers.
            let kill = async {
                tokio::time::sleep(acting).await;
                end(&mut server)?;
                ledger.borrow_mut().is_over = true;
                let newest =
                    |guest: &Guest| guest.client.look(|view| view.replica.clock().newest());
                let since = guests.iter().map(newest).max().unwrap_or_default();
                let ended_us = now_us();
                // The start blocks this thread: clients notice nothing of it before it is over.
                server.restart()?;
                let serving_us = now_us();
                serving_s.push((serving_us - ended_us) as f64 / 1e6);
                anyhow::Ok((since.max(crowd.newest()), serving_us))
            };
            let (_, ended) = tokio::join!(everybody, kill);
            let (since, serving_us) = ended?;
            crowd.check(since, serving_us).await.with_context(|| format!("round {round}"))?;
            come_back(&guests, since).await.with_context(|| format!("round {round}"))?;
            let now: Vec<_> = guests.iter().map(stay).collect();
            assert_eq!(now, people, "everybody is who they were, in the stay they were in");
            resumed += guests.iter().filter(|guest| is_resumed(guest)).count();
            check(&guests, &ledger).await.with_context(|| format!("round {round}"))?;
        }
        let acknowledged = ledger.borrow().acknowledged;
        summary = format!(
            "{rounds} ends, {acknowledged} acts and {} lendings acknowledged, 0 lost, 0 doubled; \
             serving again after {:.2} s at most, half of them back {:.2} s and 95 of 100 {:.2} s later",
            crowd.kept,
            percentile(&mut serving_s, 100),
            percentile(&mut crowd.resumed_s, 50),
            percentile(&mut crowd.resumed_s, 95),
        );
        // Everybody had a ticket each time.
        assert_eq!(resumed, rounds as usize * guests.len(), "stays that went on");
        assert!(u64::from(rounds) < acknowledged, "they did something");
        Ok(())
    };
    run(LocalSet::new().run_until(everything))?;
    Ok(summary)
}

fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    tests::measure::percentile(values, percent)
}

#[test]
fn a_stop_in_good_order_cuts_a_stay_off_and_leaving_ends_it() -> Result<()> {
    run(async {
        let mut server = ServerProcess::start(&["admission.handshakes_burst=1000"])?;
        let ada = Guest::join(&server, "Ada").await?;
        ada.go_to(Position::new(1_950, 0, 110), 60).await?;
        let before = stay(&ada);
        let place = ada.position();
        let since = ada.client.look(|view| view.replica.clock().newest());
        assert!(server.stop()?.success(), "{}", server.log());
        server.restart()?;
        come_back(std::slice::from_ref(&ada), since).await?;
        assert_eq!((stay(&ada), is_resumed(&ada)), (before, true));
        assert!(ada.position().is_within(place, 5), "{:?} was {place:?}", ada.position());
        // Whoever left for good begins anew, however good the ticket is.
        let resume = ada.client.look(|view| view.session.ticket().map(<[u8]>::to_vec));
        let again = ConnectOptions { identity: None, resume, ..options(&server, "Ada")? };
        ada.client.leave().await;
        let ada = Guest::enter(&server, again).await?;
        let (person, avatar, session) = stay(&ada);
        assert_eq!((person, avatar, is_resumed(&ada)), (before.0, before.1, false));
        assert_ne!(session, before.2);
        Ok(())
    })
}
