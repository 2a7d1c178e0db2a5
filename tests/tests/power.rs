//! Power cuts, full and failing disks under the real store: what was acknowledged is there
//! afterwards, nothing that never was is, and the database always opens.
//!
//! A process of its own writes until its power is cut, at a change drawn from a seed; then this one
//! opens the files and holds every record against what the batches up to there say, to the byte.
//! 30 cuts by default; `ECUMENE_ROUNDS=200` runs the full figure.

#[path = "power/diary.rs"]
mod diary;
#[path = "power/lengths.rs"]
mod lengths;
#[path = "power/victim.rs"]
mod victim;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use server::io::store::SledStore;
use server::store::Store;
use tests::dice::Dice;
use tests::measure::rounds;
use tests::power::{CUT_EXIT, Plan, Power};

use diary::Diary;
use victim::{VICTIM, options};

/// Cuts in the suite.
const ROUNDS: u32 = 30;

/// What is said of batches that were acknowledged and are not there.
const LOST: &str = "were acknowledged, the database ends at";

/// Cuts on the same database, one after another, before a new one begins.
const CUTS_EACH: u64 = 10;

/// What the harness writes before the first line of a victim.
const HARNESS: &str = "test victim::victim ... ";

/// Cuts in which a disk that lies has to be found out.
const LIES_MAX: u64 = 20;

/// What a victim acknowledged before its power went.
#[derive(Debug, Default)]
struct Acknowledged {
    durable: u64,
    erased: Vec<u64>,
    /// Writes that the store refused, each tried again until it did not.
    troubles: u64,
}

impl Acknowledged {
    /// Takes in a line of what the victim says.
    fn hear(&mut self, line: &str) -> Result<()> {
        // The harness says which test runs before the victim's first word, on the same line.
        let said = line.strip_prefix(HARNESS).unwrap_or(line);
        if let Some(at) = said.find("wrong: ") {
            bail!("{}", &said[at..]);
        }
        match *said.split_whitespace().collect::<Vec<_>>() {
            ["durable", number] => self.durable = number.parse()?,
            ["erased", person] => self.erased.push(person.parse()?),
            ["trouble", ..] => self.troubles += 1,
            _ => {}
        }
        Ok(())
    }
}

/// Lets a process write to the disk until its power goes; adds to what was acknowledged.
fn cut_power(power: &Power, plan: &Plan, known: &mut Acknowledged) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "victim::victim", "--nocapture", "--test-threads=1"]);
    command.env(VICTIM, power.root().join("world")).stdout(Stdio::piped());
    power.under(&mut command, plan);
    let mut child = command.spawn().context("start the victim")?;
    let lines = BufReader::new(child.stdout.take().context("its words")?).lines();
    for line in lines.map_while(std::io::Result::ok) {
        known.hear(&line)?;
    }
    let status = child.wait()?;
    ensure!(status.code() == Some(CUT_EXIT), "{plan:?}: the victim ended with {status}");
    Ok(())
}

/// Opens what a cut left behind and holds it against what was acknowledged.
fn check(world: &Path, known: &Acknowledged) -> Result<u64> {
    let store = SledStore::open(world, options(), &mut |_, _| {}).context("open the world")?;
    let durable = store.durable().0;
    ensure!(known.durable <= durable, "{} {LOST} {durable}", known.durable);
    Diary::up_to(durable).check(&store, &known.erased)?;
    let report = store.verify(&mut |_, _| {})?;
    ensure!(report.is_sound(), "{:?}", report.problems);
    store.close().context("close the world")?;
    Ok(durable)
}

/// Draws what goes wrong in one run.
fn plan(dice: &mut Dice) -> Plan {
    // Half of the cuts fall into the opening of the database and what follows at once.
    let cut_at = 1 + if dice.is(500) { dice.below(120) } else { dice.below(1_500) };
    let mut plan = Plan {
        seed: dice.draw(),
        keep_permille: [0, 0, 500, 500, 900, 1_000][dice.below(6) as usize],
        cut_at,
        ..Plan::default()
    };
    if dice.is(300) {
        plan.full = (1 + dice.below(cut_at), 1 + dice.below(60));
    }
    plan
}

#[test]
fn what_the_victim_says_is_heard() -> Result<()> {
    let mut known = Acknowledged::default();
    let lines = ["test victim::victim ... durable 3", "trouble the disk is full", "erased 7"];
    for line in lines.into_iter().chain(["", "running 1 test", "durable 6"]) {
        known.hear(line)?;
    }
    ensure!((known.durable, known.troubles) == (6, 1) && known.erased == [7], "{known:?}");
    for line in ["wrong: batch 9 was given number 8", "test victim::victim ... wrong: it is shut"] {
        ensure!(known.hear(line).is_err(), "`{line}` goes unheard");
    }
    Ok(())
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_is_cut() -> Result<()> {
    let rounds = u64::from(rounds(ROUNDS));
    let (mut batches, mut troubles, mut taken_back) = (0, 0, 0);
    let mut left = rounds;
    for world in 0.. {
        let power = Power::make()?;
        let mut dice = Dice(world * 1_000_003 + 17);
        let mut known = Acknowledged::default();
        for cut in 0..CUTS_EACH.min(left) {
            let plan = plan(&mut dice);
            let place = || format!("world {world}, cut {cut}, {plan:?}\n{}", power.report());
            cut_power(&power, &plan, &mut known).with_context(place)?;
            // Now and then two powers go in a row, so that a recovery is cut off, too.
            if dice.is(700) || cut + 1 == CUTS_EACH.min(left) {
                let durable = check(&power.root().join("world"), &known).with_context(place)?;
                known.durable = durable;
            }
        }
        batches += known.durable;
        troubles += known.troubles;
        taken_back += sectors_dropped(&power.report());
        left = left.saturating_sub(CUTS_EACH);
        if left == 0 {
            break;
        }
    }
    println!(
        "{rounds} power cuts, {batches} batches kept, 0 acknowledged ones lost, every database \
         opened and verified; {taken_back} sectors taken back, {troubles} writes refused"
    );
    assert!(rounds < batches && 0 < taken_back, "the cuts took something back");
    Ok(())
}

fn sectors_dropped(report: &str) -> u64 {
    let counts = report.lines().filter_map(|line| {
        line.split("sectors_dropped ").nth(1)?.split_whitespace().next()?.parse::<u64>().ok()
    });
    counts.sum()
}

#[test]
fn a_sync_that_fails_loses_nothing_acknowledged() -> Result<()> {
    let mut dice = Dice(5);
    let mut failed = 0;
    for round in 0..rounds(ROUNDS).div_ceil(5) {
        let power = Power::make()?;
        let mut known = Acknowledged::default();
        for cut in 0..3 {
            let cut_at = 200 + dice.below(600);
            let fail_at = 1 + dice.below(cut_at);
            let plan = Plan { seed: dice.draw(), cut_at, fail_at, ..Plan::default() };
            let place = || format!("round {round}, cut {cut}, {plan:?}\n{}", power.report());
            cut_power(&power, &plan, &mut known).with_context(place)?;
            known.durable = check(&power.root().join("world"), &known).with_context(place)?;
        }
        failed += known.troubles;
    }
    assert!(0 < failed, "some sync failed and was noticed");
    Ok(())
}

#[test]
fn a_disk_that_lies_is_found_out() -> Result<()> {
    // What finds nothing proves nothing: with syncs that do nothing there must be losses.
    for world in 0..LIES_MAX {
        let power = Power::make()?;
        let mut known = Acknowledged::default();
        let plan = Plan { seed: world, cut_at: 600, lies: true, ..Plan::default() };
        cut_power(&power, &plan, &mut known)?;
        let Err(error) = check(&power.root().join("world"), &known) else { continue };
        let why = format!("{error:#}");
        ensure!(why.contains(LOST), "it is found out by something else: {why}");
        return Ok(());
    }
    bail!("{LIES_MAX} cuts of a disk that lies, and nothing was lost");
}
