//! What becomes of a file's length when the power goes: each change of it is kept or taken back by
//! itself, bytes or no bytes.
//!
//! This is about the simulated disk alone. The store is held against it beside this.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tests::power::{CUT_EXIT, Plan, Power};

/// Set in the process whose power is cut: the folder of its files.
const RESIZER: &str = "ECUMENE_POWER_RESIZER";

/// What all files hold before; zeros are what is new, whether written or not.
const BEFORE: u8 = 7;

/// Changes that happen; the power goes in place of the one after them.
const CHANGES: u64 = 6;

/// Cuts by seeds of their own: of 64, one outcome in eight is missed once in 5,000 times.
const SEEDS: u64 = 64;

fn open(folder: &Path, name: &str) -> Result<File> {
    OpenOptions::new().read(true).write(true).open(folder.join(name)).context("open a file")
}

/// The child of the other tests: changes lengths and syncs none of them.
#[test]
fn resizer() -> Result<()> {
    let Some(folder) = std::env::var_os(RESIZER).map(PathBuf::from) else { return Ok(()) };
    open(&folder, "shorter")?.set_len(500)?;
    open(&folder, "longer")?.set_len(2_000)?;
    let both = open(&folder, "both")?;
    both.set_len(1_024)?;
    both.write_all_at(&[0; 512], 1_024)?;
    let again = open(&folder, "again")?;
    again.set_len(100)?;
    again.set_len(900)?;
    again.set_len(1)?;
    Ok(())
}

/// What the files are after a cut.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct After {
    shorter: usize,
    longer: usize,
    both: usize,
    again: usize,
}

/// Lets the power go in the middle and returns what is left, whose bytes are right.
fn cut(seed: u64, keep_permille: u32) -> Result<After> {
    let power = Power::make()?;
    for (name, length) in [("shorter", 2_000), ("longer", 500), ("both", 512), ("again", 2_000)] {
        std::fs::write(power.root().join(name), vec![BEFORE; length]).context("make a file")?;
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--exact", "lengths::resizer", "--nocapture", "--test-threads=1"]);
    command.env(RESIZER, power.root()).stdout(Stdio::null());
    power
        .under(&mut command, &Plan { seed, keep_permille, cut_at: CHANGES + 1, ..Plan::default() });
    let status = command.status().context("start the resizer")?;
    ensure!(status.code() == Some(CUT_EXIT), "it ended with {status}");
    let read = |name: &str, right: fn(usize, usize) -> u8| -> Result<usize> {
        let bytes = std::fs::read(power.root().join(name)).context("read what is left")?;
        let length = bytes.len();
        let is_wrong = |(at, byte): &(usize, &u8)| **byte != right(length, *at);
        let wrong = bytes.iter().enumerate().find(is_wrong);
        ensure!(wrong.is_none(), "seed {seed}: {name} of {length} bytes has {wrong:?}");
        Ok(length)
    };
    Ok(After {
        shorter: read("shorter", |_, _| BEFORE)?,
        longer: read("longer", |_, at| if at < 500 { BEFORE } else { 0 })?,
        both: read("both", |_, at| if at < 512 { BEFORE } else { 0 })?,
        // What was cut off comes back with the old length, and does not when it grows anew.
        again: read("again", |length, at| if at < 100 || 900 < length { BEFORE } else { 0 })?,
    })
}

#[test]
fn a_disk_that_keeps_nothing_has_the_old_lengths() -> Result<()> {
    let all_old = After { shorter: 2_000, longer: 500, both: 512, again: 2_000 };
    ensure!(cut(1, 0)? == all_old, "{:?}", cut(1, 0)?);
    Ok(())
}

#[test]
fn a_disk_that_keeps_everything_has_the_new_lengths() -> Result<()> {
    let all_new = After { shorter: 500, longer: 2_000, both: 1_536, again: 900 };
    ensure!(cut(1, 1_000)? == all_new, "{:?}", cut(1, 1_000)?);
    Ok(())
}

#[test]
fn each_length_is_kept_or_not_by_itself() -> Result<()> {
    let cuts = (0..SEEDS).map(|seed| cut(seed, 500)).collect::<Result<Vec<_>>>()?;
    let found = |pick: fn(&After) -> usize| cuts.iter().map(pick).collect::<BTreeSet<_>>();
    ensure!(found(|after| after.shorter) == BTreeSet::from([500, 2_000]), "shorter, not synced");
    ensure!(found(|after| after.longer) == BTreeSet::from([500, 2_000]), "longer without a byte");
    let both = found(|after| after.both);
    ensure!(both == BTreeSet::from([512, 1_024, 1_536]), "with newer bytes behind it: {both:?}");
    let again = found(|after| after.again);
    ensure!(again == BTreeSet::from([100, 900, 2_000]), "cut off and grown anew: {again:?}");
    let apart = cuts.iter().any(|after| after.shorter == 500 && after.longer == 500)
        && cuts.iter().any(|after| after.shorter == 2_000 && after.longer == 2_000);
    ensure!(apart, "each goes by its own throw");
    Ok(())
}
