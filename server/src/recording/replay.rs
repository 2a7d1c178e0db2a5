//! Makes the steps of a recording again, and compares what comes out.
//!
//! The same shards take the same batches through the same [`Shard::step`] as they did; nothing else
//! of a server is here. A shard that ran in another process is stepped as all others are.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use protocol::rules::BadBook;
use protocol::units::Tick;

use super::{BadRecording, Head, OutputHash, Reader, Record};
use crate::link::{BadFrame, PROGRAM};
use crate::region::RegionIndex;
use crate::shard::batch::StepOutput;
use crate::shard::pack::BadPack;
use crate::shard::{Shard, WorldRules};

/// Steps of one region whose hash may be outstanding: a process is given up after a second of
/// silence, which is 120 ticks at most; and some for ticks that a move made up for.
const OPEN_STEPS_MAX: usize = 256;

/// What a recording is found to be.
#[derive(Debug, Default)]
pub struct Report {
    /// What it begins with.
    pub head: Option<Head>,
    /// Steps that were made again.
    pub steps: u64,
    /// How many of them gave the hash that was recorded.
    pub equal: u64,
    /// What clients sent in these steps.
    pub inputs: u64,
    /// What else went into them.
    pub commands: u64,
    /// Shards that began, at the start or anew.
    pub shards: u64,
    /// The first and the last tick that was stepped to.
    pub ticks: Option<(Tick, Tick)>,
    /// Why the recording ended, if its last record says so.
    pub ended: Option<String>,
}

impl fmt::Display for Report {
    /// Writes it in some lines, each with its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { head, steps, equal, inputs, commands, shards, ticks, ended } = self;
        let Some(Head { program, world, terms }) = head else {
            return writeln!(f, "nothing was recorded");
        };
        let (regions, hz) = (terms.regions.count(), terms.motion.hz);
        writeln!(f, "world {world} of {regions} regions at {hz} Hz, recorded by {program}")?;
        if let Some((first, last)) = ticks {
            writeln!(f, "  ticks {} to {}: {steps} steps of {shards} shards", first.0, last.0)?;
        }
        writeln!(f, "  {inputs} inputs and {commands} commands went in")?;
        writeln!(f, "  {equal} steps gave the hash that was recorded")?;
        match ended {
            Some(why) => writeln!(f, "  the recording ended in good order: {why}"),
            None => writeln!(f, "  the recording has no end"),
        }
    }
}

/// Where a replay stops before the end of the recording.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The file cannot be read on.
    #[error(transparent)]
    Recording(#[from] BadRecording),
    /// Another program made the steps: its records mean something else here.
    #[error(
        "recorded by {theirs}, and this is {PROGRAM}: replay it with the program that recorded it"
    )]
    Program {
        /// Which.
        theirs: String,
    },
    /// The rules of the world.
    #[error("the recorded rules cannot be read: {0}")]
    Rules(#[from] BadBook),
    /// A shard that cannot be.
    #[error("a recorded shard cannot be: {0}")]
    Pack(#[from] BadPack),
    /// The records make no sense together.
    #[error("the records make no sense: {0}")]
    Order(String),
    /// What came out cannot be hashed.
    #[error("what came out does not fit a record: {0}")]
    Output(BadFrame),
    /// A step gives something else than it did.
    #[error(
        "tick {}, region {}: the step gives hash {now}, and gave {then} when it was recorded",
        tick.0, region.0
    )]
    Differs {
        /// The tick.
        tick: Tick,
        /// Whose shard.
        region: RegionIndex,
        /// What comes out now.
        now: OutputHash,
        /// What came out then.
        then: OutputHash,
    },
    /// A step panics: where the recording ends with it, this is why.
    #[error("tick {}, region {}: the step panics: {what}", tick.0, region.0)]
    Panics {
        /// The tick.
        tick: Tick,
        /// Whose shard.
        region: RegionIndex,
        /// What it says.
        what: String,
    },
}

/// Makes the steps of a recording again, to its end or the first that differs; returns what was
/// found, and what stopped it.
pub fn replay(from: impl Read) -> (Report, Option<Stop>) {
    let mut replay = Replay::default();
    let stop = replay.run(from).err();
    (replay.report, stop)
}

#[derive(Default)]
struct Replay {
    report: Report,
    rules: Option<WorldRules>,
    shards: BTreeMap<RegionIndex, Shard>,
    /// What came out of steps whose recorded hash is not read yet.
    open: BTreeMap<(RegionIndex, Tick), OutputHash>,
}

impl Replay {
    fn run(&mut self, from: impl Read) -> Result<(), Stop> {
        let mut reader = Reader::new(from)?;
        while let Some(record) = reader.next_record()? {
            if self.report.ended.is_some() {
                return Err(Stop::Order("something follows the end".into()));
            }
            self.take(record)?;
        }
        Ok(())
    }

    fn take(&mut self, record: Record) -> Result<(), Stop> {
        match record {
            Record::Head(head) if self.rules.is_none() => {
                if head.program != PROGRAM {
                    return Err(Stop::Program { theirs: head.program });
                }
                self.rules = Some(head.terms.rules()?);
                self.report.head = Some(head);
            }
            Record::Head(_) => return Err(Stop::Order("a second head".into())),
            Record::Shard(shard) => {
                let rules = self.rules.clone();
                let rules = rules.ok_or_else(|| Stop::Order("a shard before the rules".into()))?;
                let region = shard.region();
                let shard = shard.unpack(rules)?;
                // What a lost process answered to the last steps is known to nobody.
                self.open.retain(|(open, _), _| *open != region);
                self.shards.insert(region, shard);
                self.report.shards += 1;
            }
            Record::Moved { region } => {
                let strange = || Stop::Order(format!("region {} moves without a shard", region.0));
                let shard = self.shards.remove(&region).ok_or_else(strange)?;
                let rules = self.rules.clone();
                let rules = rules.ok_or_else(|| Stop::Order("a move before the rules".into()))?;
                self.shards.insert(region, shard.pack().unpack(rules)?);
            }
            Record::Step { region, input } => {
                let strange =
                    || Stop::Order(format!("a step of region {}, which has no shard", region.0));
                let shard = self.shards.get_mut(&region).ok_or_else(strange)?;
                let tick = input.tick;
                self.report.inputs += input.inputs.len() as u64;
                self.report.commands += input.commands.len() as u64;
                let mut output = StepOutput::default();
                let step = AssertUnwindSafe(|| shard.step(input, &mut output));
                if let Err(panic) = catch_unwind(step) {
                    return Err(Stop::Panics { tick, region, what: words(&*panic) });
                }
                self.report.steps += 1;
                let (first, last) = self.report.ticks.unwrap_or((tick, tick));
                self.report.ticks = Some((first.min(tick), last.max(tick)));
                let hash = OutputHash::of(&output).map_err(Stop::Output)?;
                self.open.insert((region, tick), hash);
                let bounds = (region, Tick(0))..=(region, Tick(u64::MAX));
                if OPEN_STEPS_MAX < self.open.range(bounds).count() {
                    let why =
                        format!("{OPEN_STEPS_MAX} steps of region {} without a hash", region.0);
                    return Err(Stop::Order(why));
                }
            }
            Record::Made { region, tick, hash: then } => {
                let strange = || {
                    let (tick, region) = (tick.0, region.0);
                    Stop::Order(format!(
                        "a hash of tick {tick} of region {region}, without its step"
                    ))
                };
                let now = self.open.remove(&(region, tick)).ok_or_else(strange)?;
                if now != then {
                    return Err(Stop::Differs { tick, region, now, then });
                }
                self.report.equal += 1;
            }
            Record::End { why } => self.report.ended = Some(why),
        }
        Ok(())
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default().to_owned()
}
