//! A real server is recorded over loopback, with a shard that moves to another process, comes home
//! and is lost once, and its steps are made again: the same hashes.
//!
//! Then the file is cut, damaged and changed, a recording is too long, and a server is killed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use protocol::message::common::Audience;
use protocol::rules::{Act, Verb};
use protocol::units::Position;
use server::recording::replay::{Report, Stop, replay};
use server::recording::{BadRecording, Reader, Record, Sheet, end};
use tests::guest::{Guest, run};
use tests::process::{Folder, ServerProcess, ShardProcess};

/// The region in the middle of nine, where everyone comes in.
const MIDDLE: &str = "4";

/// Nine regions, small enough to walk over a border.
const SETTINGS: &[&str] = &["world.shard_width_m=256"];

/// Starts a server that records to a file in its folder.
fn recorded(more: &[&str]) -> Result<(ServerProcess, std::path::PathBuf)> {
    let folder = Arc::new(Folder::make()?);
    let file = folder.path().join("steps.rec");
    let path = file.display().to_string();
    let arguments = [&["--record", path.as_str()], more].concat();
    Ok((ServerProcess::start_with(folder, SETTINGS, &arguments)?, file))
}

/// Runs `ecumene-sim --replay` on a file; returns its exit code and what it says.
fn sim(file: &Path) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecumene-sim"));
    let output = command.arg("--replay").arg(file).output().context("run ecumene-sim")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok((output.status.code(), text + &String::from_utf8_lossy(&output.stderr)))
}

fn replayed(file: &Path) -> Result<(Report, Option<Stop>)> {
    Ok(replay(server::io::record::open(file)?))
}

/// Lets two people play for a moment.
async fn play(server: &ServerProcess) -> Result<(Guest, Guest)> {
    let ada = Guest::join(server, "Ada").await?;
    let ben = Guest::join(server, "Ben").await?;
    let (apple, at) = ada.nearest("apple").await?;
    ada.go_to(at, 150).await?;
    ada.does(Act::on(Verb::Take, apple)).await?;
    ben.go_to(ada.position(), 500).await?;
    ada.say(Audience::Nearby, "an apple").await?;
    ben.hears("an apple").await?;
    Ok((ada, ben))
}

#[test]
fn a_recorded_world_is_made_again_step_by_step() -> Result<()> {
    run(async {
        let (mut server, file) = recorded(&[])?;
        let mode = fs::metadata(&file)?.permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "it is for its owner alone");
        let token = server.mint(&["--shards"])?;
        let (ada, _ben) = play(&server).await?;
        let mut other = ShardProcess::start(&server, &token, MIDDLE)?;
        other.says("running the shard of region 4")?;
        // Over the border, from the other process to this one, and back.
        server.ask(&["player", "move", "Ada", "150", "0"])?;
        ada.until("being east", |view| (view.replica.body().position().x > 14_000).then_some(()))
            .await?;
        ada.go_to(Position::new(11_000, 0, 0), 100).await?;
        assert!(other.stop()?.success());
        ada.say(Audience::Nearby, "at home").await?;
        // A process that is lost: its shard begins anew in the server.
        let mut other = ShardProcess::start(&server, &token, MIDDLE)?;
        other.says("running the shard of region 4")?;
        other.kill_9()?;
        let held = ada.held("apple").await?;
        ada.does_once_it_is_back(Act::on(Verb::Drop, held.id)).await?;
        assert!(server.stop()?.success());

        let (report, stop) = replayed(&file)?;
        assert!(stop.is_none(), "{report}{stop:?}");
        assert_eq!(report.ended.as_deref(), Some("the server stopped"));
        assert!(9 * 40 < report.steps, "two seconds at least: {report}");
        assert!(report.steps - report.equal <= 40, "but those of a lost process: {report}");
        assert_eq!(report.shards, 10, "nine, and one that began anew");
        let (code, text) = sim(&file)?;
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("steps gave the hash that was recorded"), "{text}");
        cut_damaged_and_changed(&file, report.equal)
    })
}

/// Checks what becomes of a recording that is not as it was.
fn cut_damaged_and_changed(file: &Path, steps: u64) -> Result<()> {
    let bytes = fs::read(file)?;
    let part = file.with_extension("part");
    fs::write(&part, &bytes[..bytes.len() * 2 / 3])?;
    let (report, stop) = replayed(&part)?;
    ensure!(matches!(stop, Some(Stop::Recording(BadRecording::Cut { .. }))), "{stop:?}");
    ensure!(steps / 4 < report.equal && report.equal < steps, "{report}");
    let (code, text) = sim(&part)?;
    ensure!(code == Some(0) && text.contains("cut off within the record at byte"), "{text}");

    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    fs::write(&part, &damaged)?;
    let (code, text) = sim(&part)?;
    ensure!(code == Some(3) && text.contains("damaged in the record at byte"), "{text}");

    // One input of one client is another, and the file is whole all the same.
    let changed = change_an_input(&bytes)?;
    fs::write(&part, &changed.0)?;
    let (code, text) = sim(&part)?;
    let expected = format!("tick {}, region {}: the step gives hash ", changed.1, changed.2);
    ensure!(code == Some(3) && text.contains(&expected), "{expected}: {text}");
    Ok(())
}

/// Returns a recording in which somebody is driven by nobody in the first step in which they were
/// driven on, and that step's tick and region.
fn change_an_input(bytes: &[u8]) -> Result<(Vec<u8>, u64, u32)> {
    let mut reader = Reader::new(bytes)?;
    let Some(Record::Head(head)) = reader.next_record()? else { bail!("a head comes first") };
    let mut sheet = Sheet::begin(&head, 1 << 30)?;
    let mut changed = None;
    while let Some(record) = reader.next_record()? {
        match record {
            Record::Head(_) | Record::End { .. } => {}
            Record::Shard(shard) => sheet.shard(&shard)?,
            Record::Moved { region } => sheet.moved(region)?,
            Record::Made { region, tick, hash } => sheet.made(region, tick, hash)?,
            Record::Step { region, mut input } => {
                let walks = input.inputs.iter().position(|(_, datagram)| {
                    datagram.inputs().iter().any(|input| input.forward != 0)
                });
                if let (Some(index), None) = (walks, changed) {
                    input.inputs.remove(index);
                    changed = Some((input.tick.0, region.0));
                }
                sheet.step(region, &input)?;
            }
        }
    }
    let mut bytes = sheet.take();
    bytes.extend(end("changed"));
    let (tick, region) = changed.context("somebody who walks")?;
    Ok((bytes, tick, region))
}

#[test]
fn a_server_that_is_killed_leaves_what_can_be_made_again() -> Result<()> {
    run(async {
        let (mut server, file) = recorded(&[])?;
        let _guests = play(&server).await?;
        server.kill_9()?;
        let (report, stop) = replayed(&file)?;
        assert!(matches!(stop, None | Some(Stop::Recording(BadRecording::Cut { .. }))), "{stop:?}");
        assert!(9 * 20 < report.equal, "{report}");
        assert_eq!(report.ended, None);
        // The file is there, and nobody's recording is written over.
        let again = server.restart();
        assert!(again.is_err(), "it starts all the same");
        assert!(server.log().contains("cannot record to"), "{}", server.log());
        Ok(())
    })
}

#[test]
fn a_recording_that_is_long_enough_ends_and_the_world_goes_on() -> Result<()> {
    run(async {
        let (mut server, file) = recorded(&["--record-max", "1"])?;
        let (ada, _ben) = play(&server).await?;
        let ended = "the recording has ended";
        for _ in 0..600 {
            if server.log().contains(ended) {
                break;
            }
            // The steps of a world in which nobody does anything fill it, too.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(server.log().contains(ended), "{}", server.log());
        ada.say(Audience::Nearby, "still here").await?;
        assert!(server.stop()?.success());
        let length = fs::metadata(&file)?.len();
        assert!((900_000..=1 << 20).contains(&length), "{length} bytes");
        let (report, stop) = replayed(&file)?;
        assert!(stop.is_none(), "{stop:?}");
        let why = report.ended.context("an end")?;
        assert_eq!(why, "the file is as long as it may be, 1048576 bytes");
        Ok(())
    })
}
