//! Regions that are split, merged and moved while people play in them, by hand and by load.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use protocol::io::View;
use protocol::io::clock::now_us;
use protocol::io::tap::Tap;
use protocol::message::common::Audience;
use protocol::rules::{Act, Verb};
use protocol::units::{Position, Yaw};
use tests::frames::{Frames, came};
use tests::guest::{Guest, options, run};
use tests::process::{ServerProcess, ShardProcess, text};

/// Looks, 50 ms apart, until something must have come about.
const LOOKS: u32 = 300;

/// Three ticks, in which whoever walks is moved.
const WALKED_US: u64 = 150_000;

/// A world of nine regions of 256 m; the village lies where the quarters of the middle one meet.
fn world(settings: &[&str]) -> Result<ServerProcess> {
    ServerProcess::start(&[&["world.shard_width_m=256"], settings].concat())
}

/// Returns the number and place of every region, as operators are shown them.
async fn regions(server: &ServerProcess) -> Result<Vec<(u32, String)>> {
    let shown = server.ask_beside(&["shards"]).await?;
    let rows = shown.lines().skip(1).map(|line| {
        let mut words = line.split_whitespace();
        let number = words.next().context("a number")?.parse()?;
        Ok((number, words.next_back().unwrap_or_default().to_owned()))
    });
    rows.collect()
}

/// Waits until all regions are as they should be.
async fn until(
    server: &ServerProcess,
    is_right: impl Fn(&[(u32, String)]) -> bool,
) -> Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    for _ in 0..LOOKS {
        found = regions(server).await?;
        if is_right(&found) {
            return Ok(found);
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    anyhow::bail!("{found:?}; log:\n{}", server.log())
}

fn numbers(regions: &[(u32, String)]) -> Vec<u32> {
    regions.iter().map(|(number, _)| *number).collect()
}

/// Returns what a command says that must fail.
fn refused(server: &ServerProcess, arguments: &[&str]) -> Result<String> {
    let output = server.command(arguments)?;
    ensure!(!output.status.success(), "{arguments:?} succeeds");
    Ok(text(&output.stderr))
}

/// Lets two people walk apart or towards each other while an operator's command is carried out,
/// which both must have got on with; returns what the command says.
async fn while_walking(
    server: &ServerProcess,
    walkers: [(&Guest, Yaw); 2],
    arguments: &[&str],
) -> Result<String> {
    walkers.iter().for_each(|(guest, yaw)| guest.walk(*yaw));
    for (guest, _) in walkers {
        let from = guest.position();
        let is_off =
            |view: &View| (!view.replica.body().position().is_within(from, 5)).then_some(());
        guest.until("setting off", is_off).await?;
    }
    let (before, began_us) = (walkers.map(|(guest, _)| guest.position()), now_us());
    let said = server.ask_beside(arguments).await?;
    // Within a tick or two nobody gets anywhere; they walk on until they have.
    let is_long = WALKED_US < now_us() - began_us;
    for ((guest, _), before) in walkers.into_iter().zip(before) {
        let after = guest.position();
        ensure!(!is_long || after != before, "they stand at {after:?} during {arguments:?}");
        let is_on =
            |view: &View| (!view.replica.body().position().is_within(before, 20)).then_some(());
        guest.until("walking on", is_on).await?;
    }
    walkers.iter().for_each(|(guest, _)| guest.stand());
    Ok(said)
}

#[test]
fn a_region_is_split_and_merged_while_people_walk_and_act_in_it() -> Result<()> {
    run(async {
        let mut server = world(&[])?;
        let frames = Arc::new(Frames::default());
        let mut adas = options(&server, "Ada")?;
        adas.tap = Some(Arc::clone(&frames) as Arc<dyn Tap>);
        let mut ada = Guest::enter(&server, adas).await?;
        let mut ben = Guest::join(&server, "Ben").await?;
        let (adas, bens) = (ada.avatar(), ada.sees("Ben").await?.0);
        let apple = ada.take_apple().await?;
        ben.sees("Ada").await?;
        ada.noticed_nothing()?;
        ben.noticed_nothing()?;
        frames.begin();
        // Both walk past the well in the middle, where four quarters are to meet, all the while.
        // Four utterances: whoever says more within seconds is told to wait.
        for (round, region) in [(0, "4"), (1, "13")] {
            ada.go_to(Position::new(-200, 0, -400), 60).await?;
            ben.go_to(Position::new(200, 0, 400), 60).await?;
            let walkers = [(&ada, Yaw::EAST), (&ben, Yaw::WEST)];
            let said = while_walking(&server, walkers, &["shards", "split", region]).await?;
            ensure!(said.starts_with(&format!("region {region} is split into ")), "{said}");
            let quarter = said.split_whitespace().next_back().context("a quarter")?.to_owned();
            ben.say(Audience::Nearby, &format!("split {round}")).await?;
            ada.hears(&format!("split {round}")).await?;
            let walkers = [(&ada, Yaw::WEST), (&ben, Yaw::EAST)];
            let said = while_walking(&server, walkers, &["shards", "merge", &quarter]).await?;
            ensure!(said.starts_with("merged into region "), "{said}");
            ben.say(Audience::Nearby, &format!("merged {round}")).await?;
            ada.hears(&format!("merged {round}")).await?;
        }
        until(&server, |found| numbers(found) == [0, 1, 2, 3, 5, 6, 7, 8, 18]).await?;
        ada.kept_in_view(bens)?;
        ben.kept_in_view(adas)?;
        // What is held is held, and is put down and taken up in quarters too.
        server.ask_beside(&["shards", "split", "18"]).await?;
        ada.does(Act::on(Verb::Drop, apple)).await?;
        ben.until("the apple", |view| view.replica.entity(apple).map(drop)).await?;
        server.ask_beside(&["shards", "merge", "19"]).await?;
        ada.does(Act::on(Verb::Take, apple)).await?;
        ada.kept_in_view(bens)?;
        ben.kept_in_view(adas)?;
        came(frames.missing(), 100)?;
        // A restart goes by the last division.
        server.ask_beside(&["shards", "split", "23"]).await?;
        let is_split = |found: &[(u32, String)]| found.len() == 12 && found[11].0 == 27;
        let before = numbers(&until(&server, is_split).await?);
        // What a client is told after it is on disk, and so is what was written before.
        ada.does(Act::on(Verb::Drop, apple)).await?;
        server.restart()?;
        let after = until(&server, |found| found.len() == 12).await?;
        ensure!(numbers(&after) == before, "{before:?} before, {after:?} after");
        let cleo = Guest::join(&server, "Cleo").await?;
        cleo.until("the apple", |view| view.replica.entity(apple).map(drop)).await?;
        Ok(())
    })
}

#[test]
fn quarters_run_where_the_whole_ran_move_and_outlive_their_process() -> Result<()> {
    run(async {
        let server = world(&[])?;
        let token = server.mint(&["--shards"])?;
        let mut ada = Guest::join(&server, "Ada").await?;
        let mut ben = Guest::join(&server, "Ben").await?;
        let apple = ada.take_apple().await?;
        let mut other = ShardProcess::start(&server, &token, "4")?;
        other.says("running the shard of region 4")?;
        let is_there = |place: &str| place.starts_with("127.0.0.1:");
        let found = until(&server, |found| found.iter().any(|(_, at)| is_there(at))).await?;
        let place = &found.iter().find(|(number, _)| *number == 4).context("it")?.1;
        server.ask_beside(&["shards", "split", "4"]).await?;
        let all_there = |found: &[(u32, String)]| {
            found.len() == 12 && found.iter().filter(|(_, at)| is_there(at)).count() == 4
        };
        until(&server, all_there).await?;
        ada.go_to(Position::new(-800, 0, -800), 150).await?;
        ada.go_to(Position::new(800, 0, 800), 150).await?;
        ada.does(Act::on(Verb::Drop, apple)).await?;
        // One comes home and goes back.
        server.ask_beside(&["shards", "move", "9", "here"]).await?;
        until(&server, |found| found.iter().any(|(number, at)| *number == 9 && at == "here"))
            .await?;
        server.ask_beside(&["shards", "move", "9", place]).await?;
        until(&server, all_there).await?;
        ben.say(Audience::Nearby, "moved").await?;
        ada.hears("moved").await?;
        // Quarters in another process are merged at home.
        let said = server.ask_beside(&["shards", "merge", "10"]).await?;
        ensure!(said == "merged into region 13\n", "{said}");
        until(&server, |found| found.len() == 9 && found.iter().all(|(_, at)| at == "here"))
            .await?;
        server.ask_beside(&["shards", "split", "13"]).await?;
        for region in ["14", "15", "16", "17"] {
            server.ask_beside(&["shards", "move", region, place]).await?;
        }
        until(&server, all_there).await?;
        ada.does(Act::on(Verb::Take, apple)).await?;
        ada.noticed_nothing()?;
        ben.noticed_nothing()?;
        other.kill_9()?;
        until(&server, |found| found.len() == 12 && found.iter().all(|(_, at)| at == "here"))
            .await?;
        ada.does_on_new_ground(Act::on(Verb::Drop, apple)).await?;
        ben.until("the apple", |view| view.replica.entity(apple).map(drop)).await?;
        ada.noticed_nothing()?;
        ben.noticed_nothing()
    })
}

#[test]
fn what_cannot_be_split_merged_or_moved_stays_and_says_why() -> Result<()> {
    let server = world(&["shards.width_min_m=128", "shards.count_max=12"])?;
    let check = |arguments: &[&str], expected: &str| -> Result<()> {
        let why = refused(&server, arguments)?;
        ensure!(why.contains(expected), "`{expected}` is not in: {why}");
        Ok(())
    };
    check(&["shards", "split", "9"], "the world has no region 9")?;
    check(&["shards", "merge", "4"], "region 4 is as large as they come")?;
    check(&["shards", "move", "4", "127.0.0.1:1"], "no process that joined is at 127.0.0.1:1")?;
    server.ask(&["shards", "split", "4"])?;
    check(&["shards", "split", "4"], "the world has no region 4")?;
    check(&["shards", "split", "9"], "less than 128 m wide")?;
    check(&["shards", "split", "5"], "more than 12 regions")?;
    let audit = server.ask(&["audit"])?;
    ensure!(audit.contains("shards split 4"), "{audit}");
    Ok(())
}

#[test]
fn quarters_with_little_to_do_are_merged_by_themselves() -> Result<()> {
    run(async {
        let settings = ["shards.auto=true", "shards.window_s=2", "shards.merge_percent=500"];
        let server = world(&settings)?;
        let mut ada = Guest::join(&server, "Ada").await?;
        server.ask_beside(&["shards", "split", "4"]).await?;
        until(&server, |found| numbers(found) == [0, 1, 2, 3, 5, 6, 7, 8, 13]).await?;
        ada.noticed_nothing()
    })
}
