//! A recorded session can be read by whoever looks for a fault: `ecumene wire dump`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use protocol::io::ConnectOptions;
use protocol::io::tap::FileTap;
use protocol::message::common::Audience;
use protocol::units::Yaw;
use serde_json::Value;
use tests::guest::{Guest, options, run};
use tests::process::{ServerProcess, text};

#[test]
fn a_recorded_visit_is_explained_line_by_line() -> Result<()> {
    run(async {
        let server = ServerProcess::start(&[])?;
        let file = server.folder().path().join("visit.wire");
        let tap = Arc::new(FileTap::create(&file)?);
        let other = Guest::join(&server, "Other").await?;
        let recorded = ConnectOptions { tap: Some(tap), ..options(&server, "Recorded")? };
        let guest = Guest::enter(&server, recorded).await?;
        other.walk(Yaw::EAST);
        guest.walk(Yaw::SOUTH);
        guest.say(Audience::Nearby, "for the record").await?;
        other.hears("for the record").await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        guest.client.leave().await;

        let file = file.to_str().context("a plain name")?;
        let told = server.ask(&["wire", "dump", file, "--json"])?;
        let lines: Vec<Value> = told
            .lines()
            .map(|line| serde_json::from_str(line).context("JSON"))
            .collect::<Result<_>>()?;
        let named = |name| named(&lines, name);
        for name in
            ["Greeting", "Hello", "Welcome", "Announce", "Say", "Done", "Leave", "chunk", "note"]
        {
            ensure!(named(name).count() > 0, "no {name} among {} lines", lines.len());
        }
        let unread = lines.iter().find(|line| !line["problem"].is_null());
        ensure!(unread.is_none(), "{unread:?}");
        let frames: Vec<&Value> = named("frame").collect();
        ensure!(15 < frames.len() && 15 < named("input").count(), "{} frames", frames.len());
        ensure!(
            frames.iter().all(|frame| frame["fields"]["own"].is_object()),
            "own bodies are read"
        );
        let seen = frames.iter().any(|frame| {
            let states = frame["fields"]["states"].as_array();
            states.is_some_and(|states| {
                states.iter().any(|it| it["entity"] == other.avatar().to_string())
            })
        });
        ensure!(seen, "the other is named in the frames");
        ensure!(
            !told.contains("\"ticket\":\"0") && told.contains("bytes, not shown"),
            "secrets stay"
        );

        let people = server.ask(&["wire", "dump", file])?;
        ensure!(people.lines().count() == lines.len());
        ensure!(people.contains("-> Say 0x8004"), "{people}");
        damaged(&server, file)
    })
}

/// Damage is explained; a file that is something else is refused.
fn damaged(server: &ServerProcess, file: &str) -> Result<()> {
    let mut bytes = std::fs::read(file)?;
    let half = bytes.len() / 2;
    let bad = server.folder().path().join("bad.wire");
    let shown = bad.to_str().context("a plain name")?;
    std::fs::write(&bad, &bytes[..half])?;
    let cut = server.command(&["wire", "dump", shown])?;
    let whole = server.command(&["wire", "dump", file])?;
    ensure!(cut.stdout.len() < whole.stdout.len() && !cut.stdout.is_empty());
    for at in (8..bytes.len()).step_by(97) {
        bytes[at] ^= 0x55;
    }
    std::fs::write(&bad, &bytes)?;
    let output = server.command(&["wire", "dump", shown])?;
    ensure!(output.status.code().is_some_and(|code| code < 2), "{}", output.status);
    ensure!(!text(&output.stderr).contains("panicked"), "{}", text(&output.stderr));
    std::fs::write(&bad, "something else")?;
    let output = server.command(&["wire", "dump", shown])?;
    ensure!(output.status.code() == Some(1), "{}", output.status);
    ensure!(text(&output.stderr).contains("not a recorded session"), "{}", text(&output.stderr));
    Ok(())
}

/// Returns the lines about frames, datagrams or messages of a name.
fn named<'a>(lines: &'a [Value], name: &'a str) -> impl Iterator<Item = &'a Value> {
    let is_named =
        move |line: &&Value| line["name"].as_str().is_some_and(|it| it.starts_with(name));
    lines.iter().filter(is_named)
}
