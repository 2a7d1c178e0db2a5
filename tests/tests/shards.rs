//! Regions that are split, merged and moved while people play in them, by hand and by load.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use protocol::capture::{Channel, Record};
use protocol::delta::FRAME_KIND;
use protocol::ids::EntityId;
use protocol::io::tap::Tap;
use protocol::io::{ClientEvent, View};
use protocol::message::ServerMessage;
use protocol::message::common::Audience;
use protocol::rules::{Act, Verb, Why};
use protocol::session::Answer;
use protocol::units::{Position, Yaw};
use tests::guest::{Guest, options, run};
use tests::process::{ServerProcess, ShardProcess, text};

/// Looks, 50 ms apart, until something must have come about.
const LOOKS: u32 = 300;

/// A world of nine regions of 256 m; the village lies where the quarters of the middle one meet.
fn world(settings: &[&str]) -> Result<ServerProcess> {
    ServerProcess::start(&[&["world.shard_width_m=256"], settings].concat())
}

/// Returns the number and place of every region, as operators are shown them.
fn regions(server: &ServerProcess) -> Result<Vec<(u32, String)>> {
    let shown = server.ask(&["shards"])?;
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
        found = regions(server)?;
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

/// Counts frames.
#[derive(Default)]
struct Watch(Mutex<usize>);

impl Tap for Watch {
    fn hear(&self, record: &Record<'_>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if record.from_client || record.channel != Channel::Datagram {
            return;
        }
        if let [FRAME_KIND, ..] = record.bytes {
            *seen += 1;
        }
    }
}

/// Checks that nothing befell somebody's connection, and that nobody vanished from their view.
fn noticed_nothing(guest: &mut Guest) -> Result<()> {
    while let Some(event) = guest.client.try_event() {
        let is_fine = match &event {
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

/// Returns how many announcements took something from somebody's view since they were looked at.
fn vanished(guest: &mut Guest, whom: EntityId) -> usize {
    let mut count = 0;
    while let Some(event) = guest.client.try_event() {
        if let ClientEvent::Said(message) = event
            && let ServerMessage::Announce(announce) = *message
        {
            count += announce.appear.iter().filter(|appear| appear.entity == whom).count();
        }
    }
    count
}

async fn take_one(guest: &Guest) -> Result<EntityId> {
    let kind = guest.kind("apple")?;
    let find = |view: &View| view.replica.nearest_of(kind).map(|entity| entity.id);
    let apple = guest.until("an apple that lies there", find).await?;
    let at = guest.client.look(|view| view.replica.entity(apple).map(|it| it.newest().1.position));
    guest.go_to(at.context("where it lies")?, 60).await?;
    guest.does(Act::on(Verb::Take, apple)).await?;
    Ok(guest.held("apple").await?.id)
}

/// Drops something where the ground may still be on its way.
async fn drop_on_new_ground(guest: &Guest, thing: EntityId) -> Result<()> {
    for _ in 0..100 {
        match guest.act(Act::on(Verb::Drop, thing)).await? {
            Answer::Done { .. } => return Ok(()),
            Answer::Refused(Why::NoRoom) => {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            answer @ (Answer::Refused(_) | Answer::Unknown) => anyhow::bail!("{answer:?}"),
        }
    }
    anyhow::bail!("there is no ground")
}

#[test]
fn a_region_is_split_and_merged_while_people_walk_and_act_in_it() -> Result<()> {
    run(async {
        let mut server = world(&[])?;
        let watch = Arc::new(Watch::default());
        let mut adas = options(&server, "Ada")?;
        adas.tap = Some(Arc::clone(&watch) as Arc<dyn Tap>);
        let mut ada = Guest::enter(&server, adas).await?;
        let mut ben = Guest::join(&server, "Ben").await?;
        let (ben_avatar, _) = ada.sees("Ben").await?;
        let apple = take_one(&ada).await?;
        ben.go_to(ada.position(), 500).await?;
        noticed_nothing(&mut ada)?;
        // Both walk over the middle, where four quarters are to meet, all the while.
        // Four utterances: whoever says more within seconds is told to wait.
        for (round, region) in [(0, "4"), (1, "13")] {
            ada.walk(Yaw::EAST);
            let said = server.ask(&["shards", "split", region])?;
            ensure!(said.starts_with(&format!("region {region} is split into ")), "{said}");
            let quarter = said.split_whitespace().next_back().context("a quarter")?.to_owned();
            ada.stand();
            ben.say(Audience::Nearby, &format!("split {round}")).await?;
            ada.hears(&format!("split {round}")).await?;
            ada.walk(Yaw::WEST);
            let said = server.ask(&["shards", "merge", &quarter])?;
            ensure!(said.starts_with("merged into region "), "{said}");
            ada.stand();
            ben.say(Audience::Nearby, &format!("merged {round}")).await?;
            ada.hears(&format!("merged {round}")).await?;
        }
        until(&server, |found| numbers(found) == [0, 1, 2, 3, 5, 6, 7, 8, 18]).await?;
        ensure!(vanished(&mut ada, ben_avatar) == 0, "Ben was announced anew");
        noticed_nothing(&mut ben)?;
        // What is held is held, and is put down and taken up in quarters too.
        server.ask(&["shards", "split", "18"])?;
        ada.does(Act::on(Verb::Drop, apple)).await?;
        ben.until("the apple", |view| view.replica.entity(apple).map(drop)).await?;
        server.ask(&["shards", "merge", "19"])?;
        ada.does(Act::on(Verb::Take, apple)).await?;
        noticed_nothing(&mut ada)?;
        noticed_nothing(&mut ben)?;
        ensure!(100 < *watch.0.lock().unwrap_or_else(PoisonError::into_inner), "frames came");
        // A restart goes by the last division.
        server.ask(&["shards", "split", "23"])?;
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
        let token = server.ask(&["token", "mint", "--shards"])?;
        let token = token.lines().next().context("a token")?;
        let mut ada = Guest::join(&server, "Ada").await?;
        let mut ben = Guest::join(&server, "Ben").await?;
        let apple = take_one(&ada).await?;
        let mut other = ShardProcess::start(&server, token, "4")?;
        other.says("running the shard of region 4")?;
        let is_there = |place: &str| place.starts_with("127.0.0.1:");
        let found = until(&server, |found| found.iter().any(|(_, at)| is_there(at))).await?;
        let place = &found.iter().find(|(number, _)| *number == 4).context("it")?.1;
        server.ask(&["shards", "split", "4"])?;
        let all_there = |found: &[(u32, String)]| {
            found.len() == 12 && found.iter().filter(|(_, at)| is_there(at)).count() == 4
        };
        until(&server, all_there).await?;
        ada.go_to(Position::new(-800, 0, -800), 150).await?;
        ada.go_to(Position::new(800, 0, 800), 150).await?;
        ada.does(Act::on(Verb::Drop, apple)).await?;
        // One comes home and goes back.
        server.ask(&["shards", "move", "9", "here"])?;
        until(&server, |found| found.iter().any(|(number, at)| *number == 9 && at == "here"))
            .await?;
        server.ask(&["shards", "move", "9", place])?;
        until(&server, all_there).await?;
        ben.say(Audience::Nearby, "moved").await?;
        ada.hears("moved").await?;
        // Quarters in another process are merged at home.
        let said = server.ask(&["shards", "merge", "10"])?;
        ensure!(said == "merged into region 13\n", "{said}");
        until(&server, |found| found.len() == 9 && found.iter().all(|(_, at)| at == "here"))
            .await?;
        server.ask(&["shards", "split", "13"])?;
        for region in ["14", "15", "16", "17"] {
            server.ask(&["shards", "move", region, place])?;
        }
        until(&server, all_there).await?;
        ada.does(Act::on(Verb::Take, apple)).await?;
        noticed_nothing(&mut ada)?;
        noticed_nothing(&mut ben)?;
        other.kill_9()?;
        until(&server, |found| found.len() == 12 && found.iter().all(|(_, at)| at == "here"))
            .await?;
        drop_on_new_ground(&ada, apple).await?;
        ben.until("the apple", |view| view.replica.entity(apple).map(drop)).await?;
        noticed_nothing(&mut ada)?;
        noticed_nothing(&mut ben)
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
        server.ask(&["shards", "split", "4"])?;
        until(&server, |found| numbers(found) == [0, 1, 2, 3, 5, 6, 7, 8, 13]).await?;
        noticed_nothing(&mut ada)
    })
}
