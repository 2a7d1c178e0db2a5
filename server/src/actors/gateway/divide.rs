//! Regions that are split and merged while everyone goes on.
//!
//! What a change is made of, and when it may be made, is [`crate::division`]'s to say; here the
//! shards are taken apart or put together, and every table of the gateway follows.

use std::sync::Arc;

use actix::prelude::*;
use protocol::ids::IdMint;
use protocol::units::Tick;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::GatewayActor;
use super::hosts::IDS_ANEW;
use crate::balance::Limits;
use crate::config::Shards;
use crate::division::{Division, Epochs, Ready, Step};
use crate::hosting::{Place, REGIONS_MAX};
use crate::region::{BadChange, Bounds, Change, Redrawn, RegionIndex};
use crate::rows;
use crate::shard::Shard;
use crate::shard::batch::StepOutput;
use crate::shard::divide::{Redivision, Redone, redraw};
use crate::shard::pack::Packed;
use crate::store::{Batch, StoreError, Tree};

/// Ids that are not worth keeping for another shard: an hour's at 50 a second.
const IDS_FEW: u64 = 1 << 18;

/// Mints that are kept for later shards: four of each of so many changes.
const MINTS_MAX: usize = 256;

/// Divide the world otherwise. Answered at once if that cannot be, else when it is done.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<oneshot::Receiver<Vec<RegionIndex>>, NotDivided>")]
pub struct Divide(pub Change);

/// Send a region to another place.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), NotDivided>")]
pub struct SendTo {
    /// Which region.
    pub region: RegionIndex,
    /// The address of a process that joined, as `ecumene shards` shows it, or `here`.
    pub to: String,
}

/// Why regions stay as, or where, they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDivided {
    /// They cannot be otherwise.
    #[error(transparent)]
    Bad(#[from] BadChange),
    /// One change at a time.
    #[error("another region is being split or merged; try again in a moment")]
    Busy,
    /// It is being moved, or begins anew after a loss.
    #[error("region {0} is on its way to somewhere; try again in a moment")]
    OnItsWay(u32),
    /// Nobody is there who would run it.
    #[error("no process that joined is at {0} (`ecumene shards` shows where they are)")]
    Nowhere(String),
    /// It runs as many as it may.
    #[error("the process at {0} runs {REGIONS_MAX} regions, and one may run no more")]
    Full(String),
    /// No ids are left in this run.
    #[error("no ids are left for more shards in this run; restart the server")]
    Exhausted,
    /// The world ends.
    #[error("the server is stopping")]
    Stopping,
}

/// A change that is under way.
pub(super) struct Dividing {
    division: Division,
    /// Ids for the new shards.
    mints: Vec<IdMint>,
    done: oneshot::Sender<Vec<RegionIndex>>,
}

impl Handler<Divide> for GatewayActor {
    type Result = Result<oneshot::Receiver<Vec<RegionIndex>>, NotDivided>;

    fn handle(&mut self, Divide(change): Divide, ctx: &mut Self::Context) -> Self::Result {
        self.begin_division(change, ctx)
    }
}

impl Handler<SendTo> for GatewayActor {
    type Result = Result<(), NotDivided>;

    fn handle(&mut self, SendTo { region, to }: SendTo, _: &mut Self::Context) -> Self::Result {
        if self.outfit.regions.region(region).is_none() {
            return Err(BadChange::Unknown(region.0).into());
        }
        if self.is_divided(region) || !self.hosting.is_settled(region) {
            return Err(NotDivided::OnItsWay(region.0));
        }
        let place = if to == "here" {
            Place::Here
        } else {
            let Some(link) = self.link_at(&to) else { return Err(NotDivided::Nowhere(to)) };
            if !self.hosting.has_room(link, &[region]) {
                return Err(NotDivided::Full(to));
            }
            Place::There(link)
        };
        self.hosting.send_to(region, place);
        Ok(())
    }
}

impl GatewayActor {
    /// Returns whether a region is about to be split or merged.
    pub(super) fn is_divided(&self, region: RegionIndex) -> bool {
        self.dividing.as_ref().is_some_and(|dividing| dividing.division.concerns(region))
    }

    /// Begins to split or to merge regions.
    pub(super) fn begin_division(
        &mut self,
        change: Change,
        ctx: &mut Context<Self>,
    ) -> Result<oneshot::Receiver<Vec<RegionIndex>>, NotDivided> {
        if self.stop.is_some() {
            return Err(NotDivided::Stopping);
        }
        if self.dividing.is_some() {
            return Err(NotDivided::Busy);
        }
        let bounds = {
            let config = &self.outfit.config;
            let config = config.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            bounds(&config.shards)
        };
        let drawn = self.outfit.regions.redrawn(change, bounds)?;
        if let Some(lost) = drawn.gone.iter().find(|&&region| self.hosting.is_lost(region)) {
            return Err(NotDivided::OnItsWay(lost.0));
        }
        let mints: Option<Vec<IdMint>> = drawn.new.iter().map(|_| self.next_mint()).collect();
        let mints = mints.ok_or(NotDivided::Exhausted)?;
        let world = self.outfit.welcome.world.id;
        let shards: Vec<_> =
            drawn.new.iter().map(|&new| (new, rows::shard_id(world, new))).collect();
        let (done, is_done) = oneshot::channel();
        let division = Division::new(drawn, self.beat.tick);
        self.dividing = Some(Dividing { division, mints, done });
        let store = Arc::clone(&self.outfit.lobby.store);
        let enrol = async move {
            let mut epochs = Epochs::new();
            for (region, shard) in shards {
                epochs.insert(region, (shard, store.take_epoch(shard).await?));
            }
            Ok(epochs)
        };
        ctx.spawn(enrol.into_actor(self).map(|epochs, this, ctx| this.enrol(epochs, ctx)));
        Ok(is_done)
    }

    /// Splits or merges regions by their load, if the settings say so.
    pub(super) fn balance_load(&mut self, ctx: &mut Context<Self>) {
        let wanted = {
            let config = &self.outfit.config;
            let config = config.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            let shards = &config.shards;
            if !shards.auto {
                return self.balance.forget();
            }
            let limits = Limits {
                split_permille: 10 * shards.split_percent,
                merge_permille: 10 * shards.merge_percent,
                window_s: shards.window_s as usize,
            };
            let now = (self.beat.tick, self.outfit.hz);
            self.balance.decide((&self.outfit.regions, bounds(shards)), limits, now)
        };
        let Some(change) = wanted else { return };
        match self.begin_division(change, ctx) {
            Ok(_) => info!(?change, "the load is to be shared otherwise"),
            Err(why) => tracing::debug!(%why, ?change, "the load stays shared as it is"),
        }
    }

    fn enrol(&mut self, epochs: Result<Epochs, StoreError>, ctx: &Context<Self>) {
        let Some(dividing) = &mut self.dividing else { return };
        match epochs {
            Ok(epochs) => dividing.division.enrol(epochs),
            Err(error) => {
                warn!(%error, "the world stays divided as it is: the store takes nothing");
                self.give_up_division(ctx);
            }
        }
    }

    /// Goes on with a change before the turns of a tick.
    pub(super) fn go_on_dividing(&mut self, ctx: &Context<Self>) {
        let Some(dividing) = &mut self.dividing else { return };
        let is_known = self.routes.is_division_known();
        match dividing.division.advance(&mut self.hosting, is_known, self.beat.tick) {
            Step::Wait => {}
            Step::GiveUp => {
                warn!("the world stays divided as it is: a shard is lost, or does not settle");
                self.give_up_division(ctx);
            }
        }
    }

    /// Gives a change up; the shards that were packed up for it go on here.
    fn give_up_division(&mut self, ctx: &Context<Self>) {
        let Some(Dividing { division, mints, .. }) = self.dividing.take() else { return };
        mints.into_iter().for_each(|mint| self.keep_mint(mint));
        let shards = self.unpack(division.end().packed);
        shards.into_iter().for_each(|shard| self.go_on_here(shard, ctx));
    }

    /// Takes a shard that was packed up for a change; returns any other.
    pub(super) fn take_apart(&mut self, shard: Packed, ctx: &Context<Self>) -> Option<Packed> {
        let Some(dividing) = &mut self.dividing else { return Some(shard) };
        let other = dividing.division.take(shard);
        if other.is_some() {
            return other;
        }
        if dividing.division.is_ready() {
            self.divide(ctx);
        }
        None
    }

    /// Makes the change: all shards that it concerns are there.
    fn divide(&mut self, ctx: &Context<Self>) {
        let Some(Dividing { division, mints, done }) = self.dividing.take() else { return };
        let Ready { drawn, epochs, packed } = division.end();
        let bound_for = drawn.gone.first().and_then(|&region| self.hosting.bound_for(region));
        let shards = self.unpack(packed);
        let tick = shards.first().map(Shard::tick).unwrap_or_default();
        if shards.len() < drawn.gone.len() || shards.iter().any(|shard| shard.tick() != tick) {
            error!("the world stays divided as it is: its shards do not fit each other");
            mints.into_iter().for_each(|mint| self.keep_mint(mint));
            return shards.into_iter().for_each(|shard| self.go_on_here(shard, ctx));
        }
        self.let_perceive(&shards);
        let coming = self.routes.coming(&drawn.gone);
        let Redone { shards, told, mints } = redraw(shards, &drawn, mints, &coming);
        mints.into_iter().for_each(|mint| self.keep_mint(mint));
        let new = drawn.new.clone();
        let to = bound_for.unwrap_or(Place::Here);
        self.adopt((&drawn, Arc::new(told)), (shards, epochs), (to, tick), ctx);
        // An operator who has gone reads it in the log.
        drop(done.send(new));
    }

    /// Returns the shards that are some; regions of others begin anew.
    fn unpack(&mut self, packed: Vec<Packed>) -> Vec<Shard> {
        let mut shards = Vec::with_capacity(packed.len());
        for packed in packed {
            let region = packed.region();
            match packed.unpack(self.outfit.rules.clone()) {
                Ok(shard) => shards.push(shard),
                Err(error) => self.damage(region, &error),
            }
        }
        shards
    }

    /// Lets those in shards that are no more perceive what waits for their next step: each their
    /// own, so that nobody hears the same thing twice.
    fn let_perceive(&mut self, shards: &[Shard]) {
        let mut output = StepOutput::default();
        for shard in shards {
            for ripple in self.routes.take_ripples(shard.region()) {
                shard.perceive(&ripple, &mut output);
            }
        }
        for letter in output.letters {
            self.send_letter(letter.to, &letter.message);
        }
    }

    /// Goes by another division of the world.
    fn adopt(
        &mut self,
        (drawn, told): (&Redrawn, Arc<Redivision>),
        (shards, epochs): (Vec<Shard>, Epochs),
        (to, tick): (Place, Tick),
        ctx: &Context<Self>,
    ) {
        let Redrawn { regions, gone, new } = drawn;
        if let Some(recorder) = &mut self.outfit.recorder {
            // It holds a world of one division.
            recorder.end("the world is divided otherwise");
        }
        self.outfit.regions = regions.clone();
        self.outfit.rules.regions = regions.clone();
        let homes = self.routes.redivide(&told);
        self.places.redivide(&told);
        self.departures.redivide(&told, &homes);
        self.forget_asked(gone);
        self.hosting.replace(gone, new, (to, tick));
        for region in gone {
            self.outfit.epochs.remove(region);
            self.shards.remove(region);
            self.beat.status.remove(region);
        }
        self.outfit.epochs.extend(epochs);
        for shard in shards {
            self.shards.insert(shard.region(), Self::run_here(shard, &ctx.address()));
        }
        // What is kept goes by places, so a restart that finds the old division loses nothing.
        let mut batch = Batch::new();
        batch.put(Tree::World, rows::regions_key(), rows::regions_row(regions));
        self.append(batch);
        let numbers = |regions: &[RegionIndex]| regions.iter().map(|it| it.0).collect::<Vec<_>>();
        info!(gone = ?numbers(gone), new = ?numbers(new), "the world is divided otherwise");
        self.metrics.divisions.increment(1);
    }

    /// Lets a shard go on here that was packed up for nothing.
    fn go_on_here(&mut self, shard: Shard, ctx: &Context<Self>) {
        let (region, tick) = (shard.region(), shard.tick());
        self.hosting.packed(region, tick);
        self.shards.insert(region, Self::run_here(shard, &ctx.address()));
    }

    /// Returns ids for one more shard, as long as there are any.
    pub(super) fn next_mint(&mut self) -> Option<IdMint> {
        self.mints.pop().or_else(|| self.outfit.mint.split(IDS_ANEW))
    }

    /// Keeps ids that a shard had left for a later one.
    fn keep_mint(&mut self, mint: IdMint) {
        if IDS_FEW <= mint.left() && self.mints.len() < MINTS_MAX {
            self.mints.push(mint);
        }
    }
}

/// Returns how far regions may be split.
fn bounds(shards: &Shards) -> Bounds {
    let width_m = i32::try_from(shards.width_min_m).unwrap_or(i32::MAX);
    Bounds { width_cm_min: width_m.saturating_mul(100), count_max: shards.count_max as usize }
}
