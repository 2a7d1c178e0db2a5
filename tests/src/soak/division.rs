//! Who divides the world while a crowd is in it: regions split, merge and move to another process.
//!
//! An operator of its own, on a thread of its own, who types `ecumene shards ..` every few seconds.
//! What comes next is [`Plan`]'s; what comes of it for the crowd is looked at elsewhere.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::report::Report;
use crate::process::{Folder, ServerProcess, ShardProcess, command, text};

/// The region that the further process begins with: a corner where nobody is.
const CORNER: &str = "8";

/// The regions that are divided: that in the middle, and its neighbour in the east.
const DIVIDED: [u32; 2] = [4, 5];

/// Refusals that are kept for the report.
const REFUSALS_MAX: usize = 20;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A region becomes its four quarters.
    Split(u32),
    /// A region goes on in the other process.
    Away(u32),
    /// A region goes on in the server.
    Home(u32),
    /// Four quarters become one region.
    Merge(u32),
}

/// What comes next: one region after the other is split, quarters move away and one of them home,
/// and they are merged.
#[derive(Clone, Debug)]
pub struct Plan {
    wholes: [u32; 2],
    quarters: Vec<u32>,
    step: usize,
    turn: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self { wholes: DIVIDED, quarters: Vec::new(), step: 0, turn: 0 }
    }
}

impl Plan {
    /// Returns the next change, which is due until [`Self::done`] says that it was made.
    #[must_use]
    pub fn next(&self) -> Change {
        let whole = self.wholes[self.turn];
        let quarter = |index: usize| self.quarters.get(index).copied().unwrap_or(whole);
        match self.step {
            0 => Change::Split(whole),
            1 => Change::Away(quarter(0)),
            2 => Change::Away(quarter(3)),
            3 => Change::Home(quarter(0)),
            4 => Change::Away(quarter(1)),
            _ => Change::Merge(quarter(2)),
        }
    }

    /// Notes that the change was made, and what the command printed.
    ///
    /// # Errors
    /// When it names no regions where it should.
    pub fn done(&mut self, printed: &str) -> Result<()> {
        let mut words = printed.split_whitespace().map(|word| word.trim_end_matches(','));
        match self.next() {
            Change::Split(_) => {
                self.quarters = words.skip(2).filter_map(|word| word.parse().ok()).collect();
                if self.quarters.len() != 4 {
                    bail!("no quarters in `{printed}`");
                }
            }
            Change::Merge(_) => {
                let region = words.next_back().and_then(|word| word.parse().ok());
                self.wholes[self.turn] = region.with_context(|| format!("none in `{printed}`"))?;
                (self.step, self.turn) = (0, (self.turn + 1) % self.wholes.len());
                return Ok(());
            }
            Change::Away(_) | Change::Home(_) => {}
        }
        self.step += 1;
        Ok(())
    }
}

/// What was changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Divisions {
    /// Regions split.
    pub splits: u64,
    /// Regions merged of four.
    pub merges: u64,
    /// Regions sent to another process, there or back.
    pub moves: u64,
    /// Changes that were refused and asked for again.
    pub refused: u64,
    /// Why, for the first of them.
    pub refusals: Vec<String>,
    /// What the further process had to say.
    pub log: String,
}

/// Somebody who divides the world, and the process that runs a part of it.
pub struct Divider {
    folder: Arc<Folder>,
    address: String,
    process: ShardProcess,
    work: Option<(SyncSender<()>, JoinHandle<Divisions>)>,
}

impl Divider {
    /// Starts the further process.
    ///
    /// # Errors
    /// When it does not start or is not let in.
    pub fn start(server: &ServerProcess) -> Result<Self> {
        let token = server.mint(&["--shards", "--for", "1d"])?;
        let process = ShardProcess::start(server, &token, CORNER)?;
        process.says("running the shard")?;
        let address = address_of(server.folder().path(), CORNER)?;
        Ok(Self { folder: Arc::clone(server.folder()), address, process, work: None })
    }

    /// Changes something every `every` from now on.
    pub fn begin(&mut self, every: Duration) {
        let (stop, stopped) = mpsc::sync_channel::<()>(1);
        let (folder, address) = (Arc::clone(&self.folder), self.address.clone());
        let thread = std::thread::spawn(move || {
            let (mut plan, mut divisions) = (Plan::default(), Divisions::default());
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                divisions.make(&mut plan, &folder, &address);
            }
            divisions
        });
        self.work = Some((stop, thread));
    }

    /// Returns the further process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Changes nothing more and lets the process give its regions back; returns what was changed.
    ///
    /// # Errors
    /// When the process does not end in good order.
    pub fn stop(mut self) -> Result<Divisions> {
        let divisions = self.work.take().map(|(stop, thread)| {
            drop(stop);
            thread.join()
        });
        let Ok(mut divisions) = divisions.unwrap_or_else(|| Ok(Divisions::default())) else {
            bail!("whoever divides the world panicked");
        };
        let status = self.process.stop()?;
        divisions.log = self.process.log();
        if !status.success() {
            bail!("the process with shards ended with {status}; {divisions:?}");
        }
        Ok(divisions)
    }
}

impl Divisions {
    /// Writes it into a report.
    pub fn fill(&self, report: &mut Report) {
        for (name, count) in [
            ("splits", self.splits),
            ("merges", self.merges),
            ("moves", self.moves),
            ("divisions_refused", self.refused),
        ] {
            report.more.insert(name.into(), json!(count));
        }
        report.more.insert("shard_process_log".into(), json!(self.log));
        report.more.insert("why_not_divided".into(), json!(self.refusals));
    }

    fn make(&mut self, plan: &mut Plan, folder: &Arc<Folder>, address: &str) {
        let change = plan.next();
        let (verb, region, to) = match change {
            Change::Split(region) => ("split", region, None),
            Change::Merge(region) => ("merge", region, None),
            Change::Away(region) => ("move", region, Some(address)),
            Change::Home(region) => ("move", region, Some("here")),
        };
        let region = region.to_string();
        let mut words = vec!["shards", verb, &region];
        words.extend(to);
        match ask(folder.path(), &words).and_then(|printed| plan.done(&printed)) {
            Ok(()) => match change {
                Change::Split(_) => self.splits += 1,
                Change::Merge(_) => self.merges += 1,
                Change::Away(_) | Change::Home(_) => self.moves += 1,
            },
            Err(error) => {
                self.refused += 1;
                if self.refusals.len() < REFUSALS_MAX {
                    self.refusals.push(format!("{error:#}"));
                }
            }
        }
    }
}

/// Returns where a region runs.
fn address_of(folder: &Path, region: &str) -> Result<String> {
    for _ in 0..100 {
        let shards = ask(folder, &["shards"])?;
        let line = shards.lines().find(|line| line.split_whitespace().next() == Some(region));
        let place = line.and_then(|line| line.split_whitespace().last()).unwrap_or("here");
        if place != "here" {
            return Ok(place.to_owned());
        }
    }
    bail!("region {region} does not run in the process that joined for it")
}

fn ask(folder: &Path, words: &[&str]) -> Result<String> {
    let output = command(folder, words)?;
    if !output.status.success() {
        bail!("`ecumene {}`: {}", words.join(" "), text(&output.stderr).trim());
    }
    Ok(text(&output.stdout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_split_move_and_merge_in_turn() {
        let mut plan = Plan::default();
        let mut check = |expected: Change, printed: &str| {
            assert_eq!(plan.next(), expected);
            plan.done(printed).expect(printed);
        };
        check(Change::Split(4), "region 4 is split into 9, 10, 11, 12\n");
        check(Change::Away(9), "region 9 goes to 127.0.0.1:5\n");
        check(Change::Away(12), "region 12 goes to 127.0.0.1:5\n");
        check(Change::Home(9), "region 9 goes to here\n");
        check(Change::Away(10), "region 10 goes to 127.0.0.1:5\n");
        check(Change::Merge(11), "merged into region 13\n");
        check(Change::Split(5), "region 5 is split into 14, 15, 16, 17\n");
        (0..4).for_each(|_| plan.done("").expect("a move prints nothing that matters"));
        plan.done("merged into region 18\n").expect("a region");
        assert_eq!(plan.next(), Change::Split(13));
        assert!(plan.done("region 13 is as it was").is_err());
        assert_eq!(plan.next(), Change::Split(13), "it is due until it is made");
    }
}
