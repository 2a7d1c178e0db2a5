//! Whole worlds in one thread: some seeds, every seed that once failed, and every known bug.
//!
//! It runs what `ecumene-sim` runs, as much as fits between two commits; long sweeps are for a
//! machine that has nothing else to do.

use std::fs;
use std::path::Path;

use tests::sim::breaks::Break;
use tests::sim::world::{Outcome, run};

/// Seeds of every run of the suite.
const SEEDS: u64 = 20;

/// Seeds in which every known bug is found: most in the first, the rarest by the eighth, with room.
const SEEDS_PER_BREAK: u64 = 24;

fn well(seed: u64) -> Outcome {
    let outcome = run(seed, None);
    if let Some((tick, why)) = &outcome.violation {
        let story = outcome.story.join("\n");
        panic!("seed {seed}, tick {}: {why}\n{story}\nagain: ecumene-sim --seed {seed}", tick.0);
    }
    outcome
}

#[test]
fn nothing_is_violated_whatever_goes_wrong() {
    for seed in 1..=SEEDS {
        let figures = well(seed).figures;
        println!("{seed}: {figures:?}");
        assert!(20 <= figures.crossings, "seed {seed} crosses borders: {figures:?}");
        assert!(2 <= figures.moves, "seed {seed} moves shards: {figures:?}");
        assert!(1 <= figures.kills, "seed {seed} has a process killed: {figures:?}");
        assert!(1 <= figures.cuts, "seed {seed} has a line cut: {figures:?}");
        assert!(1 <= figures.splits, "seed {seed} splits regions: {figures:?}");
        assert!(1 <= figures.merges, "seed {seed} merges regions: {figures:?}");
        assert!(1 <= figures.power_cuts, "seed {seed} loses its power: {figures:?}");
        assert!(1 <= figures.disk_troubles, "seed {seed} has a bad disk: {figures:?}");
        assert!(1 <= figures.breaks, "seed {seed} loses connections: {figures:?}");
        assert!(100 <= figures.done, "seed {seed} gets things done: {figures:?}");
        // Whoever is near a region that moves, splits or merges is not held to it for three seconds.
        assert!(200 <= figures.predictions, "seed {seed} predicts: {figures:?}");
    }
}

#[test]
fn the_same_seed_makes_the_same_world() {
    let first = well(3);
    let again = well(3);
    assert_eq!((first.hash, first.figures), (again.hash, again.figures));
    assert_ne!(first.hash, well(4).hash);
}

#[test]
fn what_once_failed_stays_well() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let files = fs::read_dir(folder).expect("list the regressions");
    let mut count = 0;
    for file in files {
        let path = file.expect("a file").path();
        let text = fs::read_to_string(&path).expect("read a regression");
        let (seed, why) = text.split_once('\n').expect("a seed, and a line of why");
        assert!(!why.trim().is_empty(), "{} says why", path.display());
        well(seed.trim().parse().expect("a seed on the first line"));
        count += 1;
    }
    assert!(0 < count, "there are regressions");
}

#[test]
fn every_known_bug_is_found() {
    // What panics in a world with a bug is one more way to find it, and nothing to print.
    std::panic::set_hook(Box::new(|_| {}));
    let is_found =
        |planted| (1..=SEEDS_PER_BREAK).any(|seed| run(seed, planted).violation.is_some());
    let missed = Break::ALL.iter().filter(|&&it| !is_found(Some(it)));
    let missed: Vec<&str> = missed.map(|it| it.name()).collect();
    drop(std::panic::take_hook());
    assert!(missed.is_empty(), "not found in {SEEDS_PER_BREAK} seeds: {missed:?}");
}
