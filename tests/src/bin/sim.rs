//! `ecumene-sim`: runs whole worlds in one thread, with faults, from seeds, and says what was
//! violated.
//!
//! Reads the command line and shows what came of it; what is simulated and checked stands in
//! `tests::sim`, what is recorded and replayed in `server::recording`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use server::io::record;
use server::recording::BadRecording;
use server::recording::replay::{Stop, replay};
use tests::sim::breaks::Break;
use tests::sim::figures::Figures;
use tests::sim::world::{Outcome, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often a sweep says how far it is.
const SAID_EVERY: Duration = Duration::from_secs(15);

/// Exit code when a seed failed, or a recording is not replayed as it was recorded.
const FAILED: u8 = 3;

#[derive(Parser)]
#[command(
    about = "Runs whole worlds in one thread, with faults, from seeds, and says what was violated",
    after_help = "Examples:\n  ecumene-sim --seed 7\n  ecumene-sim --first 1 --count 1000 --jobs 8\n  \
                  ecumene-sim --break lose-ghosts --count 20\n  ecumene-sim --breaks\n  ecumene-sim --replay steps.rec"
)]
struct Cli {
    /// Runs one seed, twice, and compares the hashes
    #[arg(long, conflicts_with_all = ["first", "breaks"])]
    seed: Option<u64>,
    /// The first seed of a sweep
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// How many seeds; of `--breaks`, at most
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// How many worlds of a sweep run side by side, each in a thread of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// Plants a known bug, which is to be found
    #[arg(long = "break", value_name = "NAME")]
    planted: Option<String>,
    /// Plants every known bug in turn, and shows after how many seeds each was found
    #[arg(long)]
    breaks: bool,
    /// Lists the known bugs
    #[arg(long)]
    list_breaks: bool,
    /// Makes the steps of a recorded world again, as `ecumene serve --record FILE` wrote them down,
    /// and compares the hashes of what comes out
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "first", "breaks", "planted"])]
    replay: Option<PathBuf>,
}

fn main() -> ExitCode {
    match simulate(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => FAILED.into(),
        Err(error) => {
            // Where nobody reads there is nobody to be told.
            drop(writeln!(std::io::stderr(), "ecumene-sim: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Does what was asked; returns whether all is well.
fn simulate(cli: &Cli) -> Result<bool> {
    // What panics in a simulated world is shown as what it is: a violation of a seed.
    std::panic::set_hook(Box::new(|_| {}));
    let planted = cli.planted.as_deref().map(known).transpose()?;
    if cli.list_breaks {
        for one in Break::ALL {
            say(&format!("{:<20} {}\n", one.name(), one.what()))?;
        }
        return Ok(true);
    }
    if let Some(path) = &cli.replay {
        return replay_file(path);
    }
    if cli.breaks {
        try_breaks(cli.first, cli.count)
    } else if let Some(seed) = cli.seed {
        run_one(seed, planted)
    } else {
        sweep(cli, planted)
    }
}

fn known(name: &str) -> Result<Break> {
    Break::named(name)
        .with_context(|| format!("no bug is called `{name}`; --list-breaks lists them all"))
}

fn run_one(seed: u64, planted: Option<Break>) -> Result<bool> {
    let outcome = run(seed, planted);
    say(&figures(&outcome))?;
    if outcome.violation.is_some() {
        say(&format!("{}\n{}", outcome.story.join("\n"), failure(&outcome, planted)))?;
        return Ok(false);
    }
    let again = run(seed, planted);
    if again.hash != outcome.hash {
        bail!("seed {seed} gave hash {:016x}, and then {:016x}", outcome.hash, again.hash);
    }
    say(&format!("seed {seed}: well; hash {:016x}, twice\n", outcome.hash))?;
    Ok(true)
}

fn sweep(cli: &Cli, planted: Option<Break>) -> Result<bool> {
    let Cli { first, count, jobs, .. } = *cli;
    let progress = ProgressBar::new(count);
    let style = "{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left {msg}";
    progress.set_style(ProgressStyle::with_template(style)?);
    #[expect(
        clippy::disallowed_methods,
        reason = "a program of its own, which says how fast it is"
    )]
    let began = Instant::now();
    let seeds = Mutex::new(first..first.saturating_add(count));
    let next = || seeds.lock().unwrap_or_else(PoisonError::into_inner).next();
    let (send, outcomes) = mpsc::sync_channel(usize::from(jobs));
    let (mut failed, mut done, mut said) = (0_u64, 0_u64, Duration::ZERO);
    let mut least: Option<Figures> = None;
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                // Whoever does not take any more has said why.
                while let Some(seed) = next()
                    && send.send(run(seed, planted)).is_ok()
                {}
            });
        }
        drop(send);
        for outcome in outcomes {
            if outcome.violation.is_some() {
                failed += 1;
                let text = failure(&outcome, planted);
                progress.suspend(|| say(&text))?;
                progress.set_message(format!("({failed} failed)"));
            } else {
                let figures = outcome.figures;
                least = Some(least.map_or(figures, |least| least.least(figures)));
            }
            progress.inc(1);
            done += 1;
            let elapsed = began.elapsed();
            if said + SAID_EVERY <= elapsed && done < count {
                said = elapsed;
                let per_s = done as f64 / elapsed.as_secs_f64();
                let line =
                    format!("{done} of {count} seeds, {per_s:.2} seeds/s, {failed} failed\n");
                progress.suspend(|| std::io::stderr().lock().write_all(line.as_bytes()))?;
            }
        }
        anyhow::Ok(())
    })?;
    progress.finish_and_clear();
    let per_s = count as f64 / began.elapsed().as_secs_f64().max(0.001);
    say(&format!("{count} seeds from {first} on: {failed} failed; {per_s:.2} seeds/s\n"))?;
    if let Some(least) = least {
        let Figures { ticks, crossings, moves, splits, merges, .. } = least;
        let Figures { kills, power_cuts, disk_troubles, cuts, .. } = least;
        say(&format!(
            "  each at least: {ticks} ticks, {crossings} hand-offs, {moves} shards moved, {splits} \
             splits, {merges} merges, {kills} processes killed, {power_cuts} power cuts, \
             {disk_troubles} troubles of the disk, {cuts} lines cut\n"
        ))?;
    }
    Ok(failed == 0)
}

fn try_breaks(first: u64, count: u64) -> Result<bool> {
    let mut missed = 0;
    for &planted in Break::ALL {
        let mut seeds = first..first.saturating_add(count);
        let found = seeds.find_map(|seed| {
            let outcome = run(seed, Some(planted));
            outcome.violation.map(|(tick, why)| (seed, tick, why))
        });
        let line = match found {
            Some((seed, tick, why)) => {
                let why: String = why.chars().take(110).collect();
                format!("seed {seed:>3}, tick {:>4}: {why}", tick.0)
            }
            None => {
                missed += 1;
                format!("not found in {count} seeds")
            }
        };
        say(&format!("{:<20} {line}\n", planted.name()))?;
    }
    say(&format!("{} of {} found\n", Break::ALL.len() - missed, Break::ALL.len()))?;
    Ok(missed == 0)
}

/// Replays a recording; a file that is cut off is well up to the cut.
fn replay_file(path: &Path) -> Result<bool> {
    let (report, stop) = replay(record::open(path)?);
    say(&format!("{}: {report}", path.display()))?;
    match stop {
        None => Ok(true),
        Some(stop) => {
            say(&format!("{stop}\n"))?;
            Ok(matches!(stop, Stop::Recording(BadRecording::Cut { .. })))
        }
    }
}

fn figures(outcome: &Outcome) -> String {
    format!("{:#?}\n", outcome.figures)
}

fn failure(outcome: &Outcome, planted: Option<Break>) -> String {
    let Some((tick, why)) = &outcome.violation else { return String::new() };
    let seed = outcome.seed;
    let with = planted.map(|it| format!(" --break {}", it.name())).unwrap_or_default();
    format!("seed {seed}, tick {}: {why}\n  again: ecumene-sim --seed {seed}{with}\n", tick.0)
}

fn say(text: &str) -> Result<()> {
    std::io::stdout().lock().write_all(text.as_bytes()).context("write to the terminal")
}
