//! What operators do is written down, and read with and without a server.

use anyhow::{Context, Result};
use serde_json::Value;
use tests::guest::{Guest, run};
use tests::process::ServerProcess;

use super::server;

/// Returns who, what and outcome of every entry, oldest first, and checks that they are numbered.
fn trail(server: &ServerProcess) -> Result<Vec<[String; 3]>> {
    let mut entries = Vec::new();
    for (line, number) in server.ask(&["audit", "--json"])?.lines().zip(1_u64..) {
        let entry: Value = serde_json::from_str(line)?;
        assert_eq!(entry["number"], number, "{line}");
        assert!(entry["at_ms"].as_u64().is_some_and(|at_ms| 1_700_000_000_000 < at_ms), "{line}");
        let field = |name: &str| entry[name].as_str().map(str::to_owned).context("a text");
        entries.push([field("who")?, field("what")?, field("outcome")?]);
    }
    Ok(entries)
}

#[test]
fn what_operators_do_is_written_down_before_it_is_confirmed() -> Result<()> {
    run(async {
        let mut server = server()?;
        assert_eq!(server.ask(&["audit"])?, "operators did nothing yet\n");
        let mut ada = Guest::join(&server, "Ada").await?;
        server.ask(&["announce", "a word in confidence"])?;
        server.ask(&["player", "kick", "Ada", "--why", "her private matter"])?;
        ada.ends().await?;
        let minted = server.ask(&["token", "mint", "--note", "for Ben"])?;
        let refused = server.command(&["player", "unban", "p-1f"])?;
        assert!(!refused.status.success());
        server.ask(&["player", "list"])?;

        // Killed as soon as the last one was confirmed: all of them are on disk.
        server.kill_9()?;
        let id = minted.split_whitespace().last().context("a token's id")?;
        server.ask(&["player", "ban", "p-1f", "--for", "1d"])?;
        let entries = trail(&server)?;
        let who = &entries[0][0];
        assert!(who.starts_with("uid "), "{who}");
        let person = ada.person();
        let expected = [
            [who, "announce", "done"],
            [who, &format!("player kick {person}"), "done"],
            [who, "token mint member for anybody, 2592000 s", &format!("done: {id}")],
            [who, "player unban p-1f", "failed"],
        ];
        assert_eq!(entries[..4], expected.map(|entry| entry.map(ToOwned::to_owned)));
        let [by, what, outcome] = &entries[4];
        assert_eq!((by, outcome.as_str()), (&format!("{who}, no server"), "done"));
        assert!(what.starts_with("player ban p-1f until "), "{what}");
        assert_eq!(entries.len(), 5, "looking is not written down");

        server.restart()?;
        assert_eq!(trail(&server)?, entries);
        let told = server.ask(&["audit", "--last", "2"])?;
        assert_eq!(told.lines().count(), 3, "{told}");
        assert!(told.contains("player unban p-1f") && told.contains("no server"), "{told}");
        Ok(())
    })
}
