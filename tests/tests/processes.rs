//! A world in two processes: shards move between them while people play, and one process dies
//! without the clients of the other noticing.
//!
//! Five rounds of killing by default; `ECUMENE_ROUNDS=50` runs the full figure.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use protocol::io::View;
use protocol::io::tap::Tap;
use protocol::rules::{Act, Verb};
use protocol::session::Answer;
use protocol::units::Position;
use tests::frames::{Frames, came};
use tests::guest::{Guest, options, run};
use tests::measure::rounds;
use tests::process::{ServerProcess, ShardProcess};

const ROUNDS: u32 = 5;

/// The region of the village, in the middle of nine.
const VILLAGE: &str = "4";

/// A world of nine regions of 256 m, and a token for processes that run them.
fn world() -> Result<(ServerProcess, String)> {
    let server = ServerProcess::start(&["world.shard_width_m=256"])?;
    let token = server.mint(&["--shards"])?;
    Ok((server, token))
}

async fn runs_here(server: &ServerProcess, region: &str) -> Result<()> {
    server.runs_at(region, |place| place == "here").await
}

async fn runs_there(server: &ServerProcess, region: &str) -> Result<()> {
    server.runs_at(region, |place| place.starts_with("127.0.0.1:")).await
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
        let apple = ada.take_apple().await?;
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
        ada.noticed_nothing()?;
        ben.noticed_nothing()
    })
}

#[test]
fn a_process_is_killed_and_the_clients_of_the_other_notice_nothing() -> Result<()> {
    let rounds = rounds(ROUNDS);
    run(async {
        let (server, token) = world()?;
        let frames = Arc::new(Frames::default());
        let mut ada = Guest::join(&server, "Ada").await?;
        let mut bens = options(&server, "Ben")?;
        bens.tap = Some(Arc::clone(&frames) as Arc<dyn Tap>);
        let mut ben = Guest::enter(&server, bens).await?;
        ada.take_apple().await?;
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
            ben.noticed_nothing()?;
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
            ada.does_on_new_ground(act).await.with_context(|| format!("round {round}"))?;
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
            ada.noticed_nothing().with_context(|| format!("Ada, round {round}"))?;
            ben.noticed_nothing().with_context(|| format!("Ben, round {round}"))?;
            let (span, none) = frames.missing();
            (ticks, missing) = (ticks + span, missing + none);
        }
        println!(
            "{rounds} kills, {acknowledged} acts acknowledged, 0 lost; the other process's client \
             got {} of {ticks} frames",
            ticks - missing
        );
        came((ticks, missing), 20 * rounds as usize)
    })
}

#[test]
fn nobody_runs_shards_without_the_right_to() -> Result<()> {
    let (server, token) = world()?;
    let peoples = server.mint(&["--role", "admin"])?;
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
    run(runs_here(&server, VILLAGE))
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
        let apple = ada.take_apple().await?;
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
        ensure!(server.place(VILLAGE).await?.starts_with("127.0.0.1:"), "{}", server.log());
        Ok(())
    })
}
