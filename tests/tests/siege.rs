//! A short siege: some ten thousand hostile inputs of every kind against a real server, beside
//! honest clients. `ecumene-siege` lays longer ones.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::process::{binary, plain, text};

/// Hostile inputs: some seconds of them.
const INPUTS: &str = "15000";

/// Kinds of input that a siege consists of.
const KINDS: [&str; 6] = [
    "messages",
    "datagrams",
    "stray packets",
    "asset streams",
    "wrong hellos",
    "half-open handshakes",
];

fn besiege(more: &[&str]) -> Result<Value> {
    let folder = tests::process::Folder::make()?;
    let report = folder.path().join("siege.json");
    // The tool lies beside the server's program.
    let tool = binary()?.with_file_name("ecumene-siege");
    let mut command = Command::new(&tool);
    command.args(["--inputs", INPUTS, "--per-s", "2000", "--half-open", "600", "--peace", "2"]);
    command.args(more).arg("--report").arg(&report);
    let output = plain(&mut command).output().with_context(|| format!("run {}", tool.display()))?;
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{}\n{out}{err}", output.status);
    Ok(serde_json::from_slice(&std::fs::read(&report)?)?)
}

fn check(report: &Value) {
    for kind in KINDS {
        assert!(
            report["sent"][kind].as_u64().is_some_and(|sent| 0 < sent),
            "no {kind}: {report:#}"
        );
    }
    for key in ["server_panics", "honest_lost", "honest_unanswered", "newcomers_turned_away"] {
        assert_eq!(report[key].as_u64(), Some(0), "{key}: {report:#}");
    }
    let count = |key: &str| report[key].as_u64().unwrap_or(0);
    assert!(0 < count("answers") && 0 < count("forged_bytes"), "{report:#}");
    // To an address that was not proven the server sends three times what came from it at most, but
    // for the question whether the address is real: quinn fills that up to 1,200 bytes whatever
    // came. Whoever forges needs a true packet of the connection for each.
    let allowed = 3 * count("forged_bytes") + 1_200 * count("forged_packets");
    assert!(count("bytes_lured_to_the_forger") <= allowed, "{report:#}");
}

#[test]
fn a_siege_changes_nothing_for_honest_clients() -> Result<()> {
    check(&besiege(&[])?);
    Ok(())
}

#[test]
fn with_the_usual_limits_most_of_it_is_not_even_heard() -> Result<()> {
    check(&besiege(&["--gates", "--seed", "2"])?);
    Ok(())
}
