//! A process that runs shards, as `ecumene shard` does, behind a link of real frames.
//!
//! It knows nothing of the world but what frames say, and steps on for as long as frames come,
//! whether or not anyone still believes it.

use std::collections::BTreeMap;
use std::time::Duration;

use server::link::{Down, LENGTH_BYTES, Up, read, write};
use server::region::RegionIndex;
use server::shard::batch::StepOutput;
use server::shard::{Shard, WorldRules};

use crate::dice::Dice;

/// One process.
pub struct Process {
    rules: Option<WorldRules>,
    shards: BTreeMap<RegionIndex, Shard>,
    /// Whether it still runs.
    pub is_alive: bool,
    /// Until when nothing of what it says arrives.
    pub mute_until_us: u64,
    delay_us: u64,
    last_down_us: u64,
    last_up_us: u64,
    chance: Dice,
}

impl Process {
    /// Returns a process that runs nothing yet.
    #[must_use]
    pub const fn new(seed: u64, number: u64) -> Self {
        let mut chance = Dice::of_part(seed, 5_000 + number);
        let delay_us = chance.between(200, 9_000);
        Self {
            rules: None,
            shards: BTreeMap::new(),
            is_alive: true,
            mute_until_us: 0,
            delay_us,
            last_down_us: 0,
            last_up_us: 0,
            chance,
        }
    }

    /// Returns when a frame to it arrives.
    pub fn down_at(&mut self, now_us: u64) -> u64 {
        let at_us = now_us + self.delay_us + self.chance.below(2_000);
        self.last_down_us = self.last_down_us.max(at_us);
        self.last_down_us
    }

    /// Returns when a frame of it arrives.
    pub fn up_at(&mut self, now_us: u64) -> u64 {
        let took_us = self.chance.between(500, 4_000);
        let at_us = now_us.max(self.mute_until_us) + took_us + self.delay_us;
        self.last_up_us = self.last_up_us.max(at_us);
        self.last_up_us
    }

    /// Hears a frame; returns the frame that answers it, if one does.
    ///
    /// # Errors
    /// When what it is told makes no sense.
    pub fn hear(&mut self, frame: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let body = frame.get(LENGTH_BYTES..).ok_or("a frame without a length")?;
        let said = read::<Down>(body).map_err(|error| error.to_string())?;
        let answer = match said {
            Down::Greeting { .. } | Down::Ended { .. } => return Ok(None),
            Down::Terms(terms) => {
                self.rules = Some(terms.rules().map_err(|bad| bad.to_string())?);
                return Ok(None);
            }
            Down::Host { shard } => {
                let rules = self.rules.clone().ok_or("a shard before its rules")?;
                let region = shard.region();
                let shard = shard.unpack(rules).map_err(|error| error.to_string())?;
                self.shards.insert(region, shard);
                return Ok(None);
            }
            Down::Step { region, input } => {
                let strange = || format!("a step of region {}, which is not here", region.0);
                let shard = self.shards.get_mut(&region).ok_or_else(strange)?;
                let (tick, mut output) = (input.tick, StepOutput::default());
                shard.step(input, &mut output);
                Up::Stepped { region, tick, output, took: Duration::from_millis(1) }
            }
            Down::Pack { region } => {
                let strange = || format!("region {} is not here to be packed", region.0);
                let shard = self.shards.remove(&region).ok_or_else(strange)?;
                Up::Packed { shard: Box::new(shard.pack()) }
            }
        };
        write(&answer).map(Some).map_err(|error| error.to_string())
    }
}
