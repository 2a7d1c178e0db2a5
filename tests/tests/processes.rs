//! A world in two processes: shards move between them while people play, and one process dies
//! without the clients of the other noticing.
//!
//! Five rounds of killing by default; `ECUMENE_ROUNDS=50` runs the full figure.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use protocol::capture::{Channel, Record};
use protocol::delta::FRAME_KIND;
use protocol::ids::EntityId;
use protocol::io::tap::Tap;
use protocol::io::{ClientEvent, View};
use protocol::message::ServerMessage;
use protocol::rules::{Act, Verb, Why};
use protocol::session::Answer;
use protocol::units::Position;
use tests::guest::{Guest, options, run};
use tests::process::{ServerProcess, ShardProcess};

const ROUNDS: u32 = 5;

/// The region of the village, in the middle of nine.
const VILLAGE: &str = "4";

/// Frames of a hundred that may be missing: datagrams are not sent twice.
const MISSING_PERCENT_MAX: usize = 2;

/// A world of nine regions of 256 m, and a token for processes that run them.
fn world() -> Result<(ServerProcess, String)> {
    let server = ServerProcess::start(&["world.shard_width_m=256"])?;
    let token = mint(&server, &["--shards"])?;
    Ok((server, token))
}

fn mint(server: &ServerProcess, what: &[&str]) -> Result<String> {
    let minted = server.ask(&[&["token", "mint"], what].concat())?;
    Ok(minted.lines().next().context("a token")?.to_owned())
}

/// Returns where a region runs, as operators are shown it; nothing before they are shown anything.
fn place(server: &ServerProcess, region: &str) -> Result<String> {
    let shards = server.ask(&["shards"])?;
    let line = shards.lines().find(|line| line.split_whitespace().next() == Some(region));
    Ok(line.and_then(|line| line.split_whitespace().last()).unwrap_or_default().to_owned())
}

async fn runs_at(
    server: &ServerProcess,
    region: &str,
    is_right: impl Fn(&str) -> bool,
) -> Result<()> {
    for _ in 0..200 {
        if is_right(&place(server, region)?) {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    anyhow::bail!("region {region} runs at {}; log:\n{}", place(server, region)?, server.log())
}

async fn runs_here(server: &ServerProcess, region: &str) -> Result<()> {
    runs_at(server, region, |place| place == "here").await
}

async fn runs_there(server: &ServerProcess, region: &str) -> Result<()> {
    runs_at(server, region, |place| place.starts_with("127.0.0.1:")).await
}

/// Counts the frames that a client gets, by the low bits of their ticks.
#[derive(Default)]
struct Frames(Mutex<Vec<u16>>);

impl Tap for Frames {
    fn hear(&self, record: &Record<'_>) {
        if record.from_client || record.channel != Channel::Datagram {
            return;
        }
        if let [FRAME_KIND, low, high, ..] = record.bytes {
            let mut ticks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            ticks.push(u16::from_le_bytes([*low, *high]));
        }
    }
}

impl Frames {
    fn begin(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Returns how many ticks went by and how many of them brought no frame.
    fn missing(&self) -> (usize, usize) {
        let ticks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(&first), Some(&last)) = (ticks.first(), ticks.last()) else { return (0, 0) };
        let span = usize::from(last.wrapping_sub(first)) + 1;
        (span, span.saturating_sub(ticks.len()))
    }
}

/// Checks that nothing befell somebody's connection since they were looked at last.
fn noticed_nothing(guest: &mut Guest) -> Result<()> {
    while let Some(event) = guest.client.try_event() {
        let is_fine = match &event {
            // A change of pace may be this machine's doing: others test beside.
            ClientEvent::Said(message) => {
                !matches!(**message, ServerMessage::Stopping(_) | ServerMessage::Farewell(_))
            }
            ClientEvent::Begun { .. } | ClientEvent::Ground { .. } => true,
            ClientEvent::Resumed(_) | ClientEvent::Interrupted { .. } | ClientEvent::Ended(_) => {
                false
            }
        };
        ensure!(is_fine, "{event:?}");
    }
    Ok(())
}

/// Takes something that lies near; returns it.
async fn take_one(guest: &Guest) -> Result<EntityId> {
    let kind = guest.kind("apple")?;
    let find = |view: &View| view.replica.nearest_of(kind).map(|entity| entity.id);
    let apple = guest.until("an apple that lies there", find).await?;
    let at = guest.client.look(|view| view.replica.entity(apple).map(|it| it.newest().1.position));
    guest.go_to(at.context("where it lies")?, 60).await?;
    guest.does(Act::on(Verb::Take, apple)).await?;
    Ok(guest.held("apple").await?.id)
}

/// Does something where the ground may still be on its way.
async fn does_on_new_ground(guest: &Guest, act: Act) -> Result<()> {
    for _ in 0..100 {
        match guest.act(act.clone()).await? {
            Answer::Done { .. } => return Ok(()),
            Answer::Refused(Why::NoRoom) => {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            answer @ (Answer::Refused(_) | Answer::Unknown) => anyhow::bail!("{act:?}: {answer:?}"),
        }
    }
    anyhow::bail!("{act:?}: there is no ground")
}

#[test]
fn a_shard_moves_to_another_process_and_back_while_people_play() -> Result<()> {
    run(async {
        let (server, token) = world()?;
        let mut ada = Guest::join(&server, "Ada").await?;
        let mut ben = Guest::join(&server, "Ben").await?;
        ben.sees("Ada").await?;
        let mut other = ShardProcess::start(&server, &token, VILLAGE)?;
        other.says("running the shard of region 4")?;
        runs_there(&server, VILLAGE).await?;
        // What is done over there is kept here.
        let apple = take_one(&ada).await?;
        ben.go_to(ada.position(), 500).await?;
        ada.say(protocol::message::common::Audience::Nearby, "an apple").await?;
        ben.hears("an apple").await?;
        // Over the border and back: from the one process to the other.
        server.ask(&["player", "move", "Ada", "150", "0"])?;
        ada.until("being east", |view| (view.replica.body().position().x > 14_000).then_some(()))
            .await?;
        assert!(ada.holding().iter().any(|thing| thing.id == apple), "it came along");
        ada.go_to(Position::new(11_000, 0, 0), 100).await?;
        ada.does(Act::on(Verb::Drop, apple)).await?;
        let status = other.stop()?;
        assert!(status.success(), "{status}");
        runs_here(&server, VILLAGE).await?;
        ada.until("the apple", |view| view.replica.entity(apple).map(drop)).await?;
        ada.does(Act::on(Verb::Take, apple)).await?;
        noticed_nothing(&mut ada)?;
        noticed_nothing(&mut ben)
    })
}

#[test]
fn a_process_is_killed_and_the_clients_of_the_other_notice_nothing() -> Result<()> {
    let rounds = std::env::var("ECUMENE_ROUNDS").ok().and_then(|text| text.parse().ok());
    let rounds: u32 = rounds.unwrap_or(ROUNDS);
    run(async {
        let (server, token) = world()?;
        let frames = Arc::new(Frames::default());
        let mut ada = Guest::join(&server, "Ada").await?;
        let mut bens = options(&server, "Ben")?;
        bens.tap = Some(Arc::clone(&frames) as Arc<dyn Tap>);
        let mut ben = Guest::enter(&server, bens).await?;
        take_one(&ada).await?;
        // Ben stands in the next region, where he sees over the border; the hand-off is 12 m wide.
        server.ask(&["player", "move", "Ben", "145", "0"])?;
        server.ask(&["player", "move", "Ada", "110", "0"])?;
        ben.sees("Ada").await?;
        let mut acknowledged = 0;
        let (mut ticks, mut missing) = (0, 0);
        for round in 0..rounds {
            let mut other = ShardProcess::start(&server, &token, VILLAGE)?;
            runs_there(&server, VILLAGE).await?;
            ada.sees("Ben").await.with_context(|| format!("{round} begins: {}", server.log()))?;
            noticed_nothing(&mut ben)?;
            frames.begin();
            let act = match ada.holding().first() {
                Some(thing) => Act::on(Verb::Drop, thing.id),
                None => {
                    let kind = ada.kind("apple")?;
                    let find = |view: &View| view.replica.nearest_of(kind).map(|apple| apple.id);
                    Act::on(Verb::Take, ada.until("the apple", find).await?)
                }
            };
            let thing = act.target.context("a thing")?;
            let is_drop = act.verb == Verb::Drop;
            does_on_new_ground(&ada, act).await.with_context(|| format!("round {round}"))?;
            acknowledged += 1;
            // One more is under way when the process dies; it is answered in some way.
            let (_, answer) = ada.client.begin(Act::new(Verb::Greet))?;
            other.kill_9()?;
            let answered = tokio::time::timeout(tests::guest::PATIENCE, answer).await;
            let answered = answered.context("what was asked of a lost shard is answered")?;
            assert!(!matches!(answered, Ok(Answer::Unknown) | Err(_)), "{answered:?}");
            runs_here(&server, VILLAGE).await?;
            // What was acknowledged is there, once.
            if is_drop {
                ada.until("what she dropped", |view| view.replica.entity(thing).map(drop))
                    .await
                    .with_context(|| format!("round {round}: log:\n{}", server.log()))?;
                let is_held = ada.holding().iter().any(|held| held.id == thing);
                assert!(!is_held, "round {round}: dropped and held");
            } else {
                ada.held("apple").await?;
                let is_gone = |view: &View| view.replica.entity(thing).is_none().then_some(());
                ada.until("what she took to lie there no more", is_gone).await?;
            }
            ada.sees("Ben").await.with_context(|| format!("round {round}: {}", server.log()))?;
            ben.sees("Ada").await?;
            noticed_nothing(&mut ada).with_context(|| format!("Ada, round {round}"))?;
            noticed_nothing(&mut ben).with_context(|| format!("Ben, round {round}"))?;
            let (span, none) = frames.missing();
            (ticks, missing) = (ticks + span, missing + none);
        }
        println!(
            "{rounds} kills, {acknowledged} acts acknowledged, 0 lost; the other process's client \
             got {} of {ticks} frames",
            ticks - missing
        );
        assert!(20 * rounds as usize <= ticks, "the world went on: {ticks} ticks");
        assert!(missing * 100 <= ticks * MISSING_PERCENT_MAX, "{missing} of {ticks} are missing");
        Ok(())
    })
}

#[test]
fn nobody_runs_shards_without_the_right_to() -> Result<()> {
    let (server, token) = world()?;
    let peoples = mint(&server, &["--role", "admin"])?;
    let check = |token: &str, regions: &str, expected: &str| -> Result<()> {
        let (status, log) = ShardProcess::start(&server, token, regions)?.ends()?;
        ensure!(status.code() == Some(3), "{status}: {log}");
        ensure!(log.contains(expected), "`{expected}` is not in: {log}");
        Ok(())
    };
    check(&peoples, VILLAGE, "`ecumene token mint --shards` makes one")?;
    check(&token, "9", "the world has no region 9")?;
    let mut first = ShardProcess::start(&server, &token, VILLAGE)?;
    first.says("running")?;
    check(&token, "3,4", "region 4 is run by another process already")?;
    // The right can be taken back.
    let listed = server.ask(&["token", "list"])?;
    let id = listed.lines().find(|line| line.contains("shards")).context("it is listed")?;
    let id = id.split_whitespace().next().context("with its id")?;
    server.ask(&["token", "revoke", id])?;
    check(&token, "5", "the token was revoked")?;
    // Whoever is in has to go as well.
    let (status, log) = first.ends()?;
    ensure!(status.code() == Some(3), "{status}: {log}");
    ensure!(log.contains("the token was revoked"), "{log}");
    ensure!(place(&server, VILLAGE)? == "here", "{}", place(&server, VILLAGE)?);
    Ok(())
}

#[test]
fn a_process_that_is_started_again_at_once_joins_once_the_dead_one_is_given_up() -> Result<()> {
    let (server, token) = world()?;
    let mut first = ShardProcess::start(&server, &token, VILLAGE)?;
    first.says("running the shard of region 4")?;
    first.kill_9()?;
    // In the first ticks nothing tells it from one that is well.
    for _ in 0..100 {
        let mut second = ShardProcess::start(&server, &token, VILLAGE)?;
        if second.says("running the shard of region 4").is_ok() {
            return Ok(());
        }
        let (status, log) = second.ends()?;
        ensure!(log.contains("run by another process already"), "{status}: {log}");
    }
    anyhow::bail!("the dead process is never given up")
}

#[test]
fn somebody_is_erased_while_what_they_do_is_late() -> Result<()> {
    run(async {
        let (server, token) = world()?;
        let ada = Guest::join(&server, "Ada").await?;
        let ben = Guest::join(&server, "Ben").await?;
        let other = ShardProcess::start(&server, &token, VILLAGE)?;
        runs_there(&server, VILLAGE).await?;
        let apple = take_one(&ada).await?;
        // What she does now is stored when the process goes on; she is erased before.
        other.freeze(true)?;
        let person = ada.person().to_string();
        let asked = ada.client.begin(Act::on(Verb::Drop, apple))?;
        let server = Arc::new(server);
        let operator = Arc::clone(&server);
        let erasing = tokio::task::spawn_blocking(move || {
            operator.ask(&["player", "erase", &person, "--yes"])
        });
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        other.freeze(false)?;
        let said = erasing.await??;
        ensure!(said.contains("erased"), "{said}");
        drop(asked);
        // The world goes on, and so does the process.
        ben.say(protocol::message::common::Audience::Nearby, "gone").await?;
        ben.hears("gone").await?;
        ensure!(place(&server, VILLAGE)?.starts_with("127.0.0.1:"), "{}", server.log());
        Ok(())
    })
}
