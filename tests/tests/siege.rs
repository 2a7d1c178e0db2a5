//! A short siege: some ten thousand hostile inputs of every kind against a real server, beside
//! honest clients. `ecumene-siege` lays longer ones.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::process::{plain, text};

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
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecumene-siege"));
    command.args(["--inputs", INPUTS, "--per-s", "2000", "--half-open", "600", "--peace", "2"]);
    command.args(more).arg("--report").arg(&report);
    let output = plain(&mut command).output().context("run ecumene-siege")?;
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
    let none = ["server_panics", "honest_lost", "honest_unanswered", "newcomers_turned_away"];
    for key in none.into_iter().chain(["private_assets_given_out"]) {
        assert_eq!(report[key].as_u64(), Some(0), "{key}: {report:#}");
    }
    let count = |key: &str| report[key].as_u64().unwrap_or(0);
    assert!(0 < count("answers") && 0 < count("forged_bytes"), "{report:#}");
    assert!(0 < count("private_assets_withheld"), "{report:#}");
    // To an address that was not proven the server sends three times what came from it at most, but
    // for the question whether the address is real: quinn fills that up to 1,200 bytes whatever
    // came. Whoever forges needs a true packet of the connection for each.
    let allowed = 3 * count("forged_bytes") + 1_200 * count("forged_packets");
    assert!(count("bytes_lured_to_the_forger") <= allowed, "{report:#}");
}

/// Returns how many talkers were put out for saying too much.
fn floods(report: &Value) -> u64 {
    report["outcomes"]["talker put out: Flooding"].as_u64().unwrap_or(0)
}

#[test]
fn a_siege_changes_nothing_for_honest_clients() -> Result<()> {
    let report = besiege(&[])?;
    check(&report);
    assert_eq!(floods(&report), 0, "what is said is judged, however much: {report:#}");
    Ok(())
}

#[test]
fn with_the_usual_limits_talkers_are_put_out_for_haste() -> Result<()> {
    let report = besiege(&["--gates", "--seed", "2"])?;
    check(&report);
    assert!(0 < floods(&report), "{report:#}");
    Ok(())
}
