//! Small soaks: every client decodes everything over real QUIC, and what they are told is held against
//! the truth. `ecumene-soak` makes large ones.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::process::{Folder, plain, text};

/// Runs a soak and returns its report; CSV and HTML must lie beside it.
fn soak(arguments: &str) -> Result<Value> {
    let folder = Folder::make()?;
    let report = folder.path().join("soak.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ecumene-soak"));
    command.args(arguments.split_whitespace()).arg("--report").arg(&report);
    let output = plain(&mut command).output().context("run ecumene-soak")?;
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{}\n{out}{err}", output.status);
    for beside in ["csv", "html"] {
        ensure!(report.with_extension(beside).is_file(), "no {beside}");
    }
    Ok(serde_json::from_slice(&std::fs::read(&report)?)?)
}

fn number(report: &Value, key: &str) -> Result<f64> {
    report[key].as_f64().with_context(|| format!("no {key} in {report:#}"))
}

/// Checks that so many stayed, and that nothing they were told was wrong.
fn check(report: &Value, clients: f64) -> Result<()> {
    ensure!(number(report, "clients_held")? == clients, "{report:#}");
    ensure!(number(report, "disconnects")? == 0.0, "{report:#}");
    ensure!(number(&report["more"], "truth_checks")? > 0.0, "{report:#}");
    ensure!(number(&report["more"], "truth_mismatches")? == 0.0, "{report:#}");
    Ok(())
}

#[test]
fn everyone_is_told_the_truth_every_tick() -> Result<()> {
    for quic in ["quinn", "batched"] {
        let report = soak(&format!("--clients 40 --seconds 4 --settle 3 --set server.quic={quic}"));
        let report = report.context(quic)?;
        check(&report, 40.0)?;
        ensure!(number(&report, "frames_delivered_share")? > 0.9, "{report:#}");
        ensure!(number(&report, "downlink_kbit_s_per_client")? > 1.0, "{report:#}");
    }
    Ok(())
}

#[test]
fn a_bad_network_makes_nothing_that_is_told_wrong() -> Result<()> {
    let report =
        soak("--clients 40 --seconds 5 --settle 3 --impair loss=10%,delay=40ms,jitter=10ms")?;
    check(&report, 40.0)?;
    let delivered = number(&report, "frames_delivered_share")?;
    ensure!((0.7..0.95).contains(&delivered), "a tenth is lost: {report:#}");
    ensure!(number(&report, "input_to_seen_ms_p99")? > 80.0, "twice the way: {report:#}");
    Ok(())
}

#[test]
fn those_who_break_off_and_leave_come_back_and_are_counted() -> Result<()> {
    let report = soak("--clients 60 --seconds 8 --settle 2 --scenario churn")?;
    check(&report, 60.0)?;
    ensure!(number(&report["more"], "joins")? > 60.0, "somebody came anew: {report:#}");
    ensure!(number(&report, "downlink_kbit_s_per_client")? > 1.0, "{report:#}");
    Ok(())
}

#[test]
fn what_was_acknowledged_outlives_kills_of_the_server() -> Result<()> {
    let report =
        soak("--clients 40 --ramp 100 --seconds 10 --settle 1 --scenario trade --kill-every 5")?;
    ensure!(report["valid"] == true, "{report:#}");
    for (key, expected) in [("kills", 2.0), ("acts_lost", 0.0), ("acts_doubled", 0.0)] {
        ensure!(number(&report, key)? == expected, "{key} in {report:#}");
    }
    check(&report, 40.0)?;
    ensure!(number(&report["more"], "resumed")? == 80.0, "tickets outlive a kill: {report:#}");
    ensure!(number(&report["more"], "acts_acknowledged")? > 0.0, "{report:#}");
    ensure!(report["tick_ms_p99"].is_null(), "of several servers nothing is told: {report:#}");
    Ok(())
}

#[test]
fn what_is_shared_comes_to_others_byte_for_byte() -> Result<()> {
    let report = soak("--clients 20 --ramp 100 --seconds 8 --settle 1 --scenario asset")?;
    check(&report, 20.0)?;
    ensure!(number(&report, "assets_fetched")? > 0.0, "{report:#}");
    ensure!(number(&report, "assets_wrong")? == 0.0, "{report:#}");
    ensure!(number(&report["more"], "assets_refused")? == 0.0, "{report:#}");
    Ok(())
}

#[test]
fn those_who_act_across_borders_miss_no_frame_and_lose_nothing() -> Result<()> {
    let report = soak(
        "--clients 40 --seconds 8 --settle 2 --ramp 100 --scenario errands --acts 4 --divide 1 \
         --set server.quic=batched",
    )?;
    ensure!(number(&report, "clients_held")? == 40.0, "{report:#}");
    ensure!(number(&report, "handoffs_done")? > 200.0, "{report:#}");
    ensure!(number(&report["more"], "crossings_seen")? > 200.0, "{report:#}");
    ensure!(number(&report["more"], "divisions_done")? > 0.0, "{report:#}");
    ensure!(number(&report["more"], "writes_acknowledged")? > 100.0, "{report:#}");
    for key in ["disconnects", "handoffs_lost", "handoffs_duplicated", "writes_lost"] {
        ensure!(number(&report, key)? == 0.0, "{key}: {report:#}");
    }
    Ok(())
}

#[test]
fn what_is_given_is_there_at_the_end_and_those_near_are_seen() -> Result<()> {
    let report = soak("--clients 64 --seconds 6 --settle 6 --ramp 100 --scenario trade")?;
    check(&report, 64.0)?;
    ensure!(number(&report, "writes_lost")? == 0.0, "{report:#}");
    ensure!(number(&report, "appear_ms_p99")? <= 250.0, "{report:#}");
    ensure!(number(&report, "one_way_ms_p99")? > 0.0, "{report:#}");
    ensure!(number(&report, "handoffs_lost")? == 0.0, "{report:#}");
    ensure!(number(&report["more"], "writes_acknowledged")? > 0.0, "{report:#}");
    Ok(())
}

#[test]
fn where_nobody_can_come_in_that_is_an_error() -> Result<()> {
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let arguments = format!("--clients 2 --ramp 100 --connect {}", nobody.local_addr()?);
    let error = soak(&arguments).err().context("a report of nothing")?.to_string();
    ensure!(error.contains("nobody came in at 127.0.0.1"), "{error}");
    Ok(())
}
