//! A client in another language, written from `docs/wire.md` alone, in one world with ours.
//!
//! Where `.venv` is missing (`make setup-test` makes it) the tests say SKIPPED and pass.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use protocol::units::{Position, Yaw};
use serde_json::Value;
use tests::guest::{Guest, PATIENCE, run};
use tests::process::{ServerProcess, text};

/// What the visitor from elsewhere says.
const WORDS: &str = "Good morning from another language";

/// How long the visitor stays: long enough to see somebody walk, on a busy machine too.
const STAY_S: f64 = 8.0;

/// How long the visitor walks.
const WALK_S: f64 = 1.5;

/// How far two tellings of one place may differ, in cm: both round.
const ROUNDED_CM: f64 = 2.0;

#[test]
fn golden_vectors_mean_the_same_in_another_language() -> Result<()> {
    let Some(python) = python() else { return Ok(()) };
    let output = Command::new(python).arg(folder().join("check_golden.py")).output()?;
    let said = text(&output.stdout);
    ensure!(output.status.success(), "{said}{}", text(&output.stderr));
    ensure!(said.starts_with("golden vectors read and written"), "{said}");
    Ok(())
}

#[test]
fn two_languages_see_and_hear_each_other() -> Result<()> {
    let Some(python) = python() else { return Ok(()) };
    run(async {
        let server = ServerProcess::start(&[])?;
        let bot = Guest::join(&server, "Rusty").await?;
        let stay = STAY_S.to_string();
        let walk = WALK_S.to_string();
        let visitor = visit(
            &python,
            &server,
            &["--key", &server.key().to_string(), "--seconds", &stay, "--walk", &walk],
        )?;
        let (seen_avatar, _) = bot.sees("Monty").await?;
        let from = bot.position();
        bot.walk(Yaw::SOUTH);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let to = bot.rest().await?;
        bot.hears(WORDS).await?;
        let last_seen = bot
            .client
            .look(|view| view.replica.entity(seen_avatar).map(|entity| entity.newest().1.position));
        let lines = told(visitor).await?;
        check_walk(&lines, bot.avatar().0, from, to)?;
        check_own_walk(&lines, last_seen.context("the visitor was in view")?)?;
        let ended = lines.iter().find(|line| line["event"] == "ended").context("an end")?;
        ensure!(ended["code"] == 0, "{ended}");
        for bad in ["error", "bad-frame", "refused", "notice"] {
            let found = lines.iter().find(|line| line["event"] == bad);
            ensure!(found.is_none(), "{found:?}");
        }
        ensure!(lines.iter().any(|line| line["event"] == "chunk" && line["is_whole"] == true));
        Ok(())
    })
}

#[test]
fn a_server_with_another_key_is_not_trusted() -> Result<()> {
    let Some(python) = python() else { return Ok(()) };
    run(async {
        let server = ServerProcess::start(&[])?;
        let visitor = visit(&python, &server, &["--key", &"07".repeat(32), "--seconds", "1"])?;
        let output = finished(visitor).await?;
        let said = text(&output.stdout);
        ensure!(!output.status.success(), "{said}");
        ensure!(said.contains("is pinned") && !said.contains("welcome"), "{said}");
        Ok(())
    })
}

/// The visitor saw the bot go where it went.
fn check_walk(lines: &[Value], avatar: u64, from: Position, to: Position) -> Result<()> {
    let seen: Vec<[f64; 3]> = lines
        .iter()
        .filter(|line| ["seen", "appear"].contains(&line["event"].as_str().unwrap_or_default()))
        .filter(|line| line["entity"] == avatar)
        .filter_map(|line| place(&line["position"]))
        .collect();
    let (first, last) = (seen.first().context("seen")?, seen.last().context("seen")?);
    ensure!(distance(*first, cm(from)) <= ROUNDED_CM, "{first:?} is not {from:?}");
    ensure!(distance(*last, cm(to)) <= ROUNDED_CM, "{last:?} is not {to:?}");
    ensure!(100.0 < distance(*first, *last), "the bot hardly moved: {first:?} to {last:?}");
    ensure!(20 < seen.len(), "seen {} times in two seconds", seen.len());
    // Nowhere a jump: a walk is 9 cm a tick, and some frames leave somebody out.
    let widest = seen.windows(2).map(|pair| distance(pair[0], pair[1])).fold(0.0, f64::max);
    ensure!(widest < 100.0, "a jump of {widest} cm");
    Ok(())
}

/// The visitor walked as its inputs said, and the bot saw it there.
fn check_own_walk(lines: &[Value], last_seen: Position) -> Result<()> {
    let own: Vec<[f64; 3]> = lines
        .iter()
        .filter(|line| line["event"] == "own")
        .filter_map(|line| place(&line["position"]))
        .collect();
    let (first, last) = (own.first().context("own")?, own.last().context("own")?);
    let walked = distance(*first, *last);
    // 180 cm/s for as long as it walked, less the start, unless something stands in the way.
    ensure!((30.0..=180.0 * WALK_S + 60.0).contains(&walked), "walked {walked} cm");
    ensure!(distance(*last, cm(last_seen)) <= ROUNDED_CM, "{last:?} is not {last_seen:?}");
    Ok(())
}

fn visit(python: &Path, server: &ServerProcess, arguments: &[&str]) -> Result<Child> {
    Command::new(python)
        .arg(folder().join("client.py"))
        .arg(server.address().to_string())
        .arg("--identity")
        .arg(server.folder().path().join("monty.pem"))
        .args(["--name", "Monty", "--say", WORDS])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start the client in Python")
}

/// Waits for the visitor's end and returns the lines it told.
async fn told(visitor: Child) -> Result<Vec<Value>> {
    let output = finished(visitor).await?;
    let said = text(&output.stdout);
    ensure!(output.status.success(), "{}\n{said}", text(&output.stderr));
    said.lines().map(|line| serde_json::from_str(line).context("a JSON line")).collect()
}

/// Waits for the visitor's end without stopping our own client.
async fn finished(visitor: Child) -> Result<Output> {
    let pid = visitor.id();
    let ended = tokio::task::spawn_blocking(move || visitor.wait_with_output());
    let limit = PATIENCE + Duration::from_secs_f64(STAY_S);
    let output = tokio::time::timeout(limit, ended).await;
    Ok(output
        .with_context(|| format!("the client in Python (process {pid}) does not end"))???)
}

/// Returns the interpreter with the packages of the second client; says so where it is missing.
#[expect(clippy::print_stdout, reason = "a skipped test must be seen")]
fn python() -> Option<PathBuf> {
    let python = root().join(".venv/bin/python");
    let mut command = Command::new(&python);
    let check = command.args(["-c", "import aioquic, cryptography"]).stderr(Stdio::null()).status();
    if check.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    println!("SKIPPED: {} with aioquic is missing; run `make setup-test`", python.display());
    None
}

fn folder() -> PathBuf {
    root().join("examples/python")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn place(position: &Value) -> Option<[f64; 3]> {
    let axes: Vec<f64> = position.as_array()?.iter().filter_map(Value::as_f64).collect();
    axes.try_into().ok()
}

fn cm(position: Position) -> [f64; 3] {
    [position.x, position.y, position.z].map(f64::from)
}

fn distance(from: [f64; 3], to: [f64; 3]) -> f64 {
    from.iter().zip(to).map(|(from, to)| (from - to) * (from - to)).sum::<f64>().sqrt()
}
