//! One change of how the world is divided, from the wish to the moment at which it is made.
//!
//! A change waits until everyone knows the last one and the shards that it concerns are settled;
//! quarters that are to be one come home first. Then their shards are packed up with one tick, and
//! once all of them are there, the change is made. It sends nothing and reads no clock.

use std::collections::BTreeMap;

use protocol::ids::ShardId;
use protocol::units::Tick;

use crate::hosting::{Hosting, Place};
use crate::region::{Redrawn, RegionIndex};
use crate::shard::pack::Packed;
use crate::store::Epoch;

/// Ticks after which a change is given up that does not come about: what it waits for is a move, or
/// a process that is lost, and takes no more than that.
const WAITED_MAX: u64 = 400;

/// What the new regions' shards write as.
pub type Epochs = BTreeMap<RegionIndex, (ShardId, Epoch)>;

/// How far a change is.
#[derive(Debug)]
enum Stage {
    /// The new regions are made known to the store.
    Enrolling,
    /// The shards are to settle.
    Settling(Epochs),
    /// They are packed up.
    Packing(Epochs, BTreeMap<RegionIndex, Packed>),
}

/// A change that is under way.
#[derive(Debug)]
pub struct Division {
    drawn: Redrawn,
    stage: Stage,
    since: Tick,
}

/// What is to be done about a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Wait,
    /// It is given up: a shard that it concerns is lost, or it waited for too long.
    GiveUp,
}

/// All that a change is made of.
#[derive(Debug)]
pub struct Ready {
    /// The division and what it changes.
    pub drawn: Redrawn,
    /// What the new shards write as.
    pub epochs: Epochs,
    /// The old shards.
    pub packed: Vec<Packed>,
}

impl Division {
    /// Begins a change at `tick`.
    #[must_use]
    pub const fn new(drawn: Redrawn, tick: Tick) -> Self {
        Self { drawn, stage: Stage::Enrolling, since: tick }
    }

    /// Returns the division that is to be.
    #[must_use]
    pub const fn drawn(&self) -> &Redrawn {
        &self.drawn
    }

    /// Returns whether a region is to be no more.
    #[must_use]
    pub fn concerns(&self, region: RegionIndex) -> bool {
        self.drawn.gone.contains(&region)
    }

    /// Takes note of what the store knows the new shards as.
    pub fn enrol(&mut self, epochs: Epochs) {
        if matches!(self.stage, Stage::Enrolling) {
            self.stage = Stage::Settling(epochs);
        }
    }

    /// Goes on before the turns of `tick`. `is_known` says whether every region has heard of the
    /// last change.
    pub fn advance(&mut self, hosting: &mut Hosting, is_known: bool, tick: Tick) -> Step {
        let is_lost = self.drawn.gone.iter().any(|&region| hosting.is_lost(region));
        if is_lost || WAITED_MAX < tick.since(self.since) && !self.is_packing() {
            return Step::GiveUp;
        }
        let last = Tick(tick.0.saturating_sub(1));
        let Stage::Settling(epochs) = &mut self.stage else { return Step::Wait };
        let is_ripe = match self.drawn.gone.as_slice() {
            [whole] => hosting.is_settled(*whole),
            quarters => {
                let is_home = |&region: &RegionIndex| hosting.is_home(region, last);
                let are_home = quarters.iter().all(is_home);
                quarters.iter().for_each(|&region| hosting.send_to(region, Place::Here));
                are_home
            }
        };
        if is_ripe && is_known {
            self.drawn.gone.iter().for_each(|&region| hosting.take_up(region));
            self.stage = Stage::Packing(std::mem::take(epochs), BTreeMap::new());
        }
        Step::Wait
    }

    const fn is_packing(&self) -> bool {
        matches!(self.stage, Stage::Packing(..))
    }

    /// Takes a shard that was packed up, if it is one of those that the change waits for; returns
    /// any other, which goes on elsewhere.
    pub fn take(&mut self, shard: Packed) -> Option<Packed> {
        match &mut self.stage {
            Stage::Packing(_, packed) if self.drawn.gone.contains(&shard.region()) => {
                packed.insert(shard.region(), shard);
                None
            }
            Stage::Enrolling | Stage::Settling(_) | Stage::Packing(..) => Some(shard),
        }
    }

    /// Returns whether all shards are there that the change waits for.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match &self.stage {
            Stage::Packing(_, packed) => packed.len() == self.drawn.gone.len(),
            Stage::Enrolling | Stage::Settling(_) => false,
        }
    }

    /// Returns all that the change is made of, or the shards that it had so far when it is given
    /// up.
    #[must_use]
    pub fn end(self) -> Ready {
        let (epochs, packed) = match self.stage {
            Stage::Enrolling => (Epochs::new(), BTreeMap::new()),
            Stage::Settling(epochs) => (epochs, BTreeMap::new()),
            Stage::Packing(epochs, packed) => (epochs, packed),
        };
        let packed = packed.into_values().collect();
        Ready { drawn: self.drawn, epochs, packed }
    }
}
