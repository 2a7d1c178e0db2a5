//! Regions that are split and merged, as the gateway does it.

use std::sync::Arc;
use std::task::Poll;

use protocol::ids::{IdMint, ShardId};
use protocol::units::Tick;
use server::division::{Division, Epochs, Ready, Step};
use server::hosting::Place;
use server::region::{Bounds, Change, Redrawn, RegionIndex, Regions};
use server::rows;
use server::shard::Shard;
use server::shard::batch::{Command, StepOutput};
use server::shard::divide::{Redivision, Redone, redraw};
use server::shard::pack::Packed;
use server::store::{Batch, Epoch, MemoryStore, Pending, Store as _, StoreError, Stored, Tree};

use super::super::breaks::Break;
use super::super::truth::Check;
use super::Host;
use super::hosts::{IDS_ANEW, poll};

/// How far regions are split: 32 m wide, as small as they may be.
const BOUNDS: Bounds = Bounds { width_cm_min: 0, count_max: 24 };

/// A change that is under way.
pub struct Dividing {
    division: Division,
    mints: Vec<IdMint>,
    pending: Vec<(RegionIndex, ShardId, Pending<Result<Epoch, StoreError>>)>,
    epochs: Epochs,
}

/// Returns as which shard a region is known to the store.
pub(super) const fn shard_id(region: RegionIndex) -> ShardId {
    ShardId(1_000 + region.0 as u64)
}

/// Returns how the world is divided, as it is stored; else `grid`.
///
/// # Errors
/// When what is stored cannot be read.
pub(super) fn divided(store: &MemoryStore, grid: &Regions) -> Result<Regions, String> {
    let stored =
        store.read(Tree::World, &rows::regions_key()).map_err(|error| error.to_string())?;
    let Some(record) = stored.and_then(Stored::live) else { return Ok(grid.clone()) };
    rows::read_regions(&record).map_err(|error| error.to_string())
}

impl Host {
    /// Returns whether a region is about to be split or merged.
    pub(super) fn is_divided(&self, region: RegionIndex) -> bool {
        self.dividing.as_ref().is_some_and(|dividing| dividing.division.concerns(region))
    }

    /// Returns ids for one more shard.
    pub(super) fn next_mint(&mut self) -> Result<IdMint, String> {
        let mint = self.mints.pop().or_else(|| self.mint.split(IDS_ANEW));
        mint.ok_or_else(|| "ids are left".into())
    }

    /// Begins to split or to merge regions; returns whether that can be.
    ///
    /// # Errors
    /// When ids run out.
    pub fn begin_division(&mut self, change: Change) -> Result<bool, String> {
        let Ok(drawn) = self.regions.redrawn(change, BOUNDS) else { return Ok(false) };
        let is_lost = drawn.gone.iter().any(|&region| self.hosting.is_lost(region));
        if self.dividing.is_some() || is_lost {
            return Ok(false);
        }
        let mut mints = Vec::new();
        for _ in &drawn.new {
            mints.push(self.next_mint()?);
        }
        let pending = drawn.new.iter().map(|&new| {
            let shard = shard_id(new);
            (new, shard, self.store.take_epoch(shard))
        });
        let pending = pending.collect();
        let division = Division::new(drawn, self.tick);
        self.dividing = Some(Dividing { division, mints, pending, epochs: Epochs::new() });
        Ok(true)
    }

    /// Goes on with a change before the turns of a tick.
    pub(super) fn go_on_dividing(&mut self) -> Check {
        let Some(dividing) = &mut self.dividing else { return Ok(()) };
        let mut is_refused = false;
        let epochs = &mut dividing.epochs;
        dividing.pending.retain_mut(|(region, shard, pending)| match poll(pending) {
            Poll::Pending => true,
            Poll::Ready(Ok(epoch)) => {
                epochs.insert(*region, (*shard, epoch));
                false
            }
            Poll::Ready(Err(_)) => {
                is_refused = true;
                false
            }
        });
        if dividing.pending.is_empty() && !is_refused && !dividing.epochs.is_empty() {
            dividing.division.enrol(std::mem::take(&mut dividing.epochs));
        }
        let is_known = self.routes.is_division_known();
        let step = dividing.division.advance(&mut self.hosting, is_known, self.tick);
        if is_refused || step == Step::GiveUp {
            self.give_up_division()?;
        }
        Ok(())
    }

    /// Gives a change up; the shards that were packed up for it go on here.
    fn give_up_division(&mut self) -> Check {
        let Some(Dividing { division, mints, .. }) = self.dividing.take() else { return Ok(()) };
        self.mints.extend(mints);
        for shard in self.unpack(division.end().packed)? {
            self.hosting.packed(shard.region(), shard.tick());
            self.shards.insert(shard.region(), shard);
        }
        Ok(())
    }

    fn unpack(&self, packed: Vec<Packed>) -> Result<Vec<Shard>, String> {
        let unpack = |packed: Packed| packed.unpack(self.rules.clone());
        let shards: Result<_, _> = packed.into_iter().map(unpack).collect();
        shards.map_err(|error| error.to_string())
    }

    /// Takes a shard that was packed up for a change; returns any other.
    pub(super) fn take_apart(&mut self, shard: Packed) -> Result<Option<Packed>, String> {
        let Some(dividing) = &mut self.dividing else { return Ok(Some(shard)) };
        let other = dividing.division.take(shard);
        if other.is_some() {
            return Ok(other);
        }
        if dividing.division.is_ready() {
            self.divide()?;
        }
        Ok(None)
    }

    fn divide(&mut self) -> Check {
        let Some(Dividing { division, mints, .. }) = self.dividing.take() else { return Ok(()) };
        let Ready { drawn, mut epochs, packed } = division.end();
        let bound_for = drawn.gone.first().and_then(|&region| self.hosting.bound_for(region));
        let mut shards = self.unpack(packed)?;
        let tick = shards.first().map(Shard::tick).unwrap_or_default();
        if shards.iter().any(|shard| shard.tick() != tick) {
            return Err("quarters are packed up at different ticks".into());
        }
        self.let_perceive(&shards);
        if 1 < shards.len() && self.saboteur.strikes(Break::LoseQuarter, 1) {
            let quarter = self.regions.region(shards[0].region()).ok_or("a quarter")?;
            let mint = self.next_mint()?;
            let mut empty = Shard::new(quarter, self.rules.clone(), mint);
            empty.step(self.routes.take_missed(quarter.index, tick), &mut StepOutput::default());
            shards[0] = empty;
        }
        let coming = self.routes.coming(&drawn.gone);
        let Redone { shards, mut told, mints } = redraw(shards, &drawn, mints, &coming);
        self.mints.extend(mints);
        if self.saboteur.strikes(Break::OneQuarter, 1) {
            let first = told.first();
            told.owners.values_mut().for_each(|owner| *owner = first);
        }
        if self.saboteur.strikes(Break::NoEnrol, 1) {
            epochs.values_mut().for_each(|(_, epoch)| epoch.0 += 1);
        }
        self.adopt(
            (&drawn, Arc::new(told)),
            (shards, epochs),
            bound_for.unwrap_or(Place::Here),
            tick,
        )
    }

    fn let_perceive(&mut self, shards: &[Shard]) {
        let mut output = StepOutput::default();
        for shard in shards {
            for ripple in self.routes.take_ripples(shard.region()) {
                shard.perceive(&ripple, &mut output);
            }
        }
        for letter in output.letters {
            self.send(letter.to, &letter.message);
        }
    }

    fn adopt(
        &mut self,
        (drawn, told): (&Redrawn, Arc<Redivision>),
        (shards, epochs): (Vec<Shard>, Epochs),
        to: Place,
        tick: Tick,
    ) -> Check {
        let Redrawn { regions, gone, new } = drawn;
        self.regions = regions.clone();
        self.rules.regions = regions.clone();
        if self.saboteur.strikes(Break::LoseWaiting, 1) {
            gone.iter().for_each(|&region| drop(self.routes.take(region, tick)));
        }
        let homes = self.routes.redivide(&told);
        if self.saboteur.strikes(Break::NoTellDivided, 1) {
            for region in regions.indices().filter(|region| !new.contains(region)) {
                let waiting = self.routes.take(region, tick).commands.into_iter();
                let rest = waiting.filter(|command| !matches!(command, Command::Redivide(_)));
                for command in rest {
                    self.routes.push(region, command);
                }
            }
        }
        self.places.redivide(&told);
        self.departures.redivide(&told, &homes);
        let skipped = if self.saboteur.strikes(Break::SkipDivided, 1) { 1 } else { 0 };
        self.hosting.replace(gone, new, (to, tick.after(skipped)));
        for region in gone {
            self.epochs.remove(region);
        }
        self.epochs.extend(epochs);
        self.truth.redivide(drawn, (tick, self.tick));
        for shard in shards {
            self.shards.insert(shard.region(), shard);
        }
        if 1 < new.len() {
            self.splits += 1;
        } else {
            self.merges += 1;
        }
        let mut batch = Batch::new();
        batch.put(Tree::World, rows::regions_key(), rows::regions_row(regions));
        self.append(batch).map(drop)
    }
}
