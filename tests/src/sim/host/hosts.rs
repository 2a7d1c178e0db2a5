//! Processes that run shards, as the gateway deals with them: they join, take over, give back, or
//! are lost.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use protocol::ids::PersonId;
use protocol::message::server::Refused;
use protocol::rules::{Thing, Why};
use protocol::units::Tick;
use server::hosting::{LinkId, Place};
use server::io::recovery::{held_things, placed_things};
use server::link::{Down, Up, WorldTerms, write};
use server::region::RegionIndex;
use server::shard::Shard;
use server::shard::batch::Command;
use server::shard::pack::Packed;
use server::shard::viewer::Told;
use server::store::{Epoch, Number, Pending, Store as _, StoreError};

use super::super::breaks::Break;
use super::super::truth::Check;
use super::{Host, Out, Stepped};

/// Ids for a shard that begins anew.
pub(super) const IDS_ANEW: u64 = 1 << 28;

/// Regions that begin anew.
#[derive(Default)]
pub struct Recovery {
    waiting: BTreeSet<RegionIndex>,
    reading: Option<Reading>,
}

struct Reading {
    regions: Vec<RegionIndex>,
    people: BTreeSet<PersonId>,
    as_of: Number,
    pending: Vec<(RegionIndex, Pending<Result<Epoch, StoreError>>)>,
    epochs: Vec<(RegionIndex, Epoch)>,
    is_asked: bool,
}

struct Kept {
    placed: BTreeMap<RegionIndex, Vec<Thing>>,
    held: BTreeMap<PersonId, Vec<Thing>>,
}

impl Recovery {
    /// Returns whether a region's shard waits to begin anew.
    #[must_use]
    pub fn waits_for(&self, region: RegionIndex) -> bool {
        self.waiting.contains(&region)
    }
}

impl Host {
    /// A process wants to run regions; returns its number if it may.
    ///
    /// # Errors
    /// When what it is told does not fit a frame.
    pub fn join(&mut self, regions: &[RegionIndex]) -> Result<Option<LinkId>, String> {
        if regions.iter().any(|&region| self.is_divided(region)) {
            return Ok(None);
        }
        let link = LinkId(self.next_link);
        if self.hosting.claim(link, regions).is_err() {
            return Ok(None);
        }
        self.next_link += 1;
        self.links.insert(link, false);
        let terms = WorldTerms::of(&self.rules, &self.book_text);
        let frame = write(&Down::Terms(terms)).map_err(|error| error.to_string())?;
        self.out.push(Out::Link { link, frame });
        Ok(Some(link))
    }

    /// Hears a process; returns whether that ended the steps of this process.
    ///
    /// # Errors
    /// What was violated.
    pub fn hear_link(&mut self, link: LinkId, said: Up) -> Result<(), String> {
        let place = Place::There(link);
        match said {
            Up::Stepped { region, tick, output, .. } => {
                self.take_step(Stepped { region, place, tick, output })?;
            }
            Up::Packed { shard } => self.settle(place, *shard)?,
            Up::Leave => {
                if let Some(departs) = self.links.get_mut(&link) {
                    *departs = true;
                    self.hosting.bring_home(link);
                }
            }
            Up::Join { .. } => return Err("a process asked to join twice".into()),
        }
        Ok(())
    }

    /// Returns whether a process still belongs to the world.
    #[must_use]
    pub fn knows(&self, link: LinkId) -> bool {
        self.links.contains_key(&link)
    }

    /// Lets a packed shard go on where it is to.
    ///
    /// # Errors
    /// What was violated.
    pub fn settle(&mut self, from: Place, packed: Packed) -> Check {
        let region = packed.region();
        if self.hosting.packed_at(region) != Some(from) {
            return Ok(());
        }
        packed.check_division(&self.regions).map_err(|error| error.to_string())?;
        let Some(packed) = self.take_apart(packed)? else { return Ok(()) };
        let Some(place) = self.hosting.bound_for(region) else { return Ok(()) };
        self.hosting.packed(region, packed.tick());
        self.truth.disturb(region, self.tick);
        match place {
            Place::Here => {
                if self.saboteur.strikes(Break::StayBehind, 1) && self.shards.contains_key(&region)
                {
                    return Ok(());
                }
                let shard = packed.unpack(self.rules.clone()).map_err(|error| error.to_string())?;
                self.shards.insert(region, shard);
            }
            Place::There(link) => {
                if !self.links.contains_key(&link) {
                    return Err(format!("region {} goes to a process that is gone", region.0));
                }
                let frame = write(&Down::Host { shard: Box::new(packed) });
                let frame = frame.map_err(|error| error.to_string())?;
                if self.saboteur.strikes(Break::StayBehind, 1)
                    && let Ok(Down::Host { shard }) = server::link::read(&frame[4..])
                    && let Ok(shard) = shard.unpack(self.rules.clone())
                {
                    self.shards.insert(region, shard);
                }
                self.out.push(Out::Link { link, frame });
            }
        }
        Ok(())
    }

    /// Notices processes that have fallen silent, and lets go of those that gave everything back.
    pub(super) fn look_after_links(&mut self) {
        for link in self.hosting.silent(self.tick) {
            self.lose_link(link);
        }
        let hosting = &self.hosting;
        self.links.retain(|&link, &mut departs| !departs || hosting.uses(link));
    }

    /// Gives a process up; its shards begin anew here.
    pub fn lose_link(&mut self, link: LinkId) {
        if self.links.remove(&link).is_none() {
            return;
        }
        for region in self.hosting.lose(link) {
            self.truth.disturb(region, self.tick);
            self.routes.lose(region);
            self.recovery.waiting.insert(region);
        }
    }

    /// Reads what is known of lost regions, once all that was done in them is written, and lets
    /// them begin anew.
    pub(super) fn recover_lost(&mut self) -> Check {
        for &region in &self.recovery.waiting {
            self.truth.disturb(region, self.tick);
        }
        if self.recovery.reading.is_none() {
            if self.recovery.waiting.is_empty() || !self.unsaved.is_empty() {
                return Ok(());
            }
            let regions: Vec<_> = self.recovery.waiting.iter().copied().collect();
            let people = self.routes.dwellers(&regions);
            let people = people.filter_map(|(avatar, _)| self.owners.get(&avatar).copied());
            self.recovery.reading = Some(Reading {
                people: people.collect(),
                regions,
                as_of: self.appended,
                pending: Vec::new(),
                epochs: Vec::new(),
                is_asked: false,
            });
        }
        let Some(mut reading) = self.recovery.reading.take() else { return Ok(()) };
        if self.store.durable() < reading.as_of {
            self.recovery.reading = Some(reading);
            return Ok(());
        }
        if !reading.is_asked {
            reading.is_asked = true;
            for &region in &reading.regions {
                let Some(&(shard, epoch)) = self.epochs.get(&region) else { continue };
                if self.saboteur.strikes(Break::NoFence, 1) {
                    reading.epochs.push((region, epoch));
                } else {
                    reading.pending.push((region, self.store.take_epoch(shard)));
                }
            }
        }
        let mut failed = None;
        reading.pending.retain_mut(|(region, pending)| match poll(pending) {
            Poll::Pending => true,
            Poll::Ready(Ok(epoch)) => {
                reading.epochs.push((*region, epoch));
                false
            }
            Poll::Ready(Err(error)) => {
                failed = Some(error);
                false
            }
        });
        if failed.is_some() {
            // A disk in trouble: the regions are read again.
            return Ok(());
        }
        if !reading.pending.is_empty() {
            self.recovery.reading = Some(reading);
            return Ok(());
        }
        self.begin_anew(reading)
    }

    fn begin_anew(&mut self, reading: Reading) -> Check {
        let broken = |error: StoreError| error.to_string();
        let placed = placed_things(&*self.store, &self.regions).map_err(broken)?;
        let mut kept = Kept { placed, held: BTreeMap::new() };
        for &person in &reading.people {
            kept.held.insert(person, held_things(&*self.store, person).map_err(broken)?);
        }
        for (region, epoch) in reading.epochs {
            let mint = self.next_mint()?;
            self.recovery.waiting.remove(&region);
            let square = self.regions.region(region).ok_or("a region that is")?;
            let old = self.epoch(region).ok_or("a region that is")?;
            self.check_fence(region, old)?;
            if !self.saboteur.strikes(Break::KeepEpoch, 1) {
                self.epochs.entry(region).and_modify(|known| known.1 = epoch);
            }
            let first = self.first_commands(region, &mut kept);
            self.answer_lost(region);
            self.let_go(region)?;
            let shard = Shard::new(square, self.rules.clone(), mint).at(self.tick);
            self.shards.insert(region, shard);
            self.routes.begin_anew(region, first);
            if !self.saboteur.strikes(Break::NoTellAnew, 1) {
                for neighbour in self.rules.neighbours(square) {
                    self.routes.push(neighbour.index, Command::TellAnew(region));
                }
            }
            self.hosting.recover(region, self.tick);
            self.truth.begin_anew(region, self.tick);
        }
        Ok(())
    }

    fn first_commands(&mut self, region: RegionIndex, kept: &mut Kept) -> Vec<Command> {
        let things = kept.placed.remove(&region).unwrap_or_default();
        let mut first = vec![Command::Things(things)];
        for (avatar, client) in self.routes.dwellers(&[region]).collect::<Vec<_>>() {
            let owner = self.owners.get(&avatar).and_then(|owner| self.people.get(owner));
            let Some(record) = owner.cloned() else { continue };
            let mut held = kept.held.remove(&record.person).unwrap_or_default();
            if self.saboteur.strikes(Break::EmptyHands, 2) {
                held.clear();
            }
            let is_old = self.saboteur.strikes(Break::OldPlaces, 1);
            let record = if is_old { record } else { self.newest(record) };
            first.push(record.entrance(held));
            let Some(client) = client else { continue };
            let mut told = self.clients.get(&client).map(|place| place.told).unwrap_or_default();
            if self.saboteur.strikes(Break::ForgetTold, 1) {
                told = Told::default();
            }
            let hidden = BTreeSet::new();
            first.push(Command::Attach { avatar, client, hidden, told });
        }
        first
    }

    fn answer_lost(&mut self, region: RegionIndex) {
        if self.saboteur.strikes(Break::ForgetOpen, 1) {
            return;
        }
        for (client, request) in self.routes.take_lost(region) {
            if !self.post.answers(client, request) {
                self.send(client, &Refused { request, why: Why::Interrupted }.into());
            }
        }
    }

    fn let_go(&mut self, region: RegionIndex) -> Check {
        let leaving = self.departures.lose(region);
        let records: Vec<_> = leaving.into_iter().map(|record| self.newest(record)).collect();
        if records.is_empty() { Ok(()) } else { self.save_people(&records) }
    }

    /// Returns whether a region has been stepped to `tick`.
    #[must_use]
    pub fn has_made(&self, region: RegionIndex, tick: Tick) -> bool {
        self.hosting.has_made(region, tick)
    }
}

pub(super) fn poll<T>(pending: &mut Pending<T>) -> Poll<T> {
    pin!(pending).poll(&mut Context::from_waker(Waker::noop()))
}

/// Returns an answer that is there already; nothing if it takes a while.
pub(super) fn at_once<T>(mut pending: Pending<T>) -> Option<T> {
    match poll(&mut pending) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}
