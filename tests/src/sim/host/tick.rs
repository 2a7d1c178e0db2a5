//! The beat, as the gateway keeps it: one batch to every shard, one answer from each, and what it
//! carries.

use std::sync::Arc;
use std::time::Duration;

use protocol::message::ServerMessage;
use protocol::message::server::Pace;
use protocol::units::Tick;
use server::hosting::{Place, Turn};
use server::link::{Down, write};
use server::people::PersonRecord;
use server::post;
use server::region::RegionIndex;
use server::rows::{self, ClockRow};
use server::shard::batch::{Change, Command, Entry, Letter, StepOutput, Whereabouts};
use server::shard::viewer::ClientKey;
use server::store::{Batch, Epoch, Number, Store as _, StoreError, Tree};

use super::super::breaks::Break;
use super::super::scene;
use super::super::truth::Check;
use super::{Host, Out, SAVE_EVERY_MS, Stepped, UNKNOWN};

/// Ticks that are made up for after a move: more inputs than that wait for nobody.
const MISSED_MAX: u64 = 8;

impl Host {
    /// Begins a tick: asks every shard for a step. Returns whether none of this process is open.
    ///
    /// # Errors
    /// What was violated.
    pub fn begin_tick(&mut self) -> Result<bool, String> {
        let regions: Vec<RegionIndex> = self.regions.indices().collect();
        for &region in &regions {
            if !self.hosting.has_made(region, self.tick) {
                self.truth.disturb(region, self.tick);
            }
        }
        self.tick = self.tick.next();
        self.dilation.begin(self.tick);
        self.deliver_confirmed();
        self.bring_stale();
        self.go_on_dividing()?;
        for region in regions {
            self.take_turn(region)?;
        }
        self.look_after_links();
        Ok(self.open_steps == 0)
    }

    fn take_turn(&mut self, region: RegionIndex) -> Check {
        let (place, missed) = match self.hosting.turn(region, self.tick) {
            Turn::Step { place, missed } => {
                self.truth.miss(region, missed);
                (place, missed.min(MISSED_MAX))
            }
            Turn::Pack => {
                if self.saboteur.strikes(Break::LoseQueued, 1) {
                    drop(self.routes.take(region, self.tick));
                }
                return self.pack(region);
            }
            Turn::Wait => return Ok(()),
        };
        let missed = if self.saboteur.strikes(Break::SkipMissed, 1) { 0 } else { missed };
        for ago in (0..=missed).rev() {
            let tick = Tick(self.tick.0 - ago);
            let mut input = self.take_input(region, tick, ago == 0);
            if self.saboteur.strikes(Break::MisrouteInputs, 30) {
                let (whose, count) = (self.routes.seats().next(), input.inputs.len());
                if let (Some((whose, _)), true) = (whose, 0 < count) {
                    input.inputs[count - 1].0 = whose;
                }
            }
            match place {
                Place::Here => {
                    let mut output = StepOutput::default();
                    let shard = self.shards.get_mut(&region).ok_or("a shard that runs here")?;
                    shard.step(input, &mut output);
                    self.open_steps += 1;
                    self.out.push(Out::Stepped(Box::new(Stepped { region, place, tick, output })));
                }
                Place::There(link) => {
                    let frame = write(&Down::Step { region, input });
                    let frame = frame.map_err(|error| error.to_string())?;
                    self.out.push(Out::Link { link, frame });
                }
            }
        }
        if place == Place::Here && self.saboteur.strikes(Break::StepTwice, 300) {
            let input = self.take_input(region, self.tick, true);
            let mut output = StepOutput::default();
            let shard = self.shards.get_mut(&region).ok_or("a shard that runs here")?;
            shard.step(input, &mut output);
            self.open_steps += 1;
            let tick = self.tick;
            self.out.push(Out::Stepped(Box::new(Stepped { region, place, tick, output })));
        }
        Ok(())
    }

    fn pack(&mut self, region: RegionIndex) -> Check {
        match self.hosting.packed_at(region) {
            Some(Place::Here) => {
                let shard = self.shards.remove(&region).ok_or("a shard to pack")?;
                self.out.push(Out::Packed(Box::new(shard.pack())));
                Ok(())
            }
            Some(Place::There(link)) => {
                let frame = write(&Down::Pack { region }).map_err(|error| error.to_string())?;
                self.out.push(Out::Link { link, frame });
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes what one shard's step put out; returns whether that ended the steps made here.
    ///
    /// # Errors
    /// What was violated.
    pub fn take_step(&mut self, stepped: Stepped) -> Result<bool, String> {
        let Stepped { region, place, tick, mut output } = stepped;
        let is_owner = self.epoch(region) == Some(output.epoch);
        let is_believed = place == Place::Here || is_owner && self.hosting.runs_at(region, place);
        if place == Place::Here {
            self.open_steps = self.open_steps.saturating_sub(1);
        } else if !is_believed && !self.saboteur.strikes(Break::HearZombie, 1) {
            return Ok(false);
        }
        if is_believed {
            self.truth.step(region, tick, &output)?;
        }
        self.hosting.answer(region, tick);
        self.send_frames(&mut output)?;
        let numbers = self.store_journal(region, &mut output)?;
        for letter in output.letters.drain(..) {
            self.take_letter(letter, &numbers);
        }
        self.crossings += output.travellers.len() as u64;
        for (_, traveller) in &output.travellers {
            let avatar = &traveller.avatar;
            let seen = Whereabouts::of(avatar.id, avatar.person, &avatar.body);
            self.places.cross(self.tick, seen);
        }
        self.note_departed(&mut output.departed)?;
        self.spoil_routes(region, &mut output);
        self.routes.absorb(region, tick, &mut output);
        if output.is_survey {
            self.places.survey(region, std::mem::take(&mut output.whereabouts));
        }
        for (region, chunk, _) in output.wanted.drain(..) {
            let ground = self.ground.entry(chunk).or_insert_with(|| scene::flat(chunk));
            self.routes.push(region, Command::Ground(Arc::clone(ground)));
        }
        Ok(place == Place::Here && self.open_steps == 0)
    }

    /// Does to what goes from shard to shard what planted bugs do.
    fn spoil_routes(&mut self, region: RegionIndex, output: &mut StepOutput) {
        if !output.travellers.is_empty() {
            if self.saboteur.strikes(Break::LoseTraveller, 6) {
                drop(output.travellers.pop());
            } else if self.saboteur.strikes(Break::DoubleTraveller, 6) {
                let last = output.travellers.last();
                let copy = last.and_then(|(_, traveller)| write(&**traveller).ok());
                let copy = copy.and_then(|frame| server::link::read(&frame[4..]).ok());
                if let Some(copy) = copy {
                    self.routes.push(region, Command::Enter(Box::new(copy)));
                }
            } else if self.saboteur.strikes(Break::KeepSeat, 6) {
                for (to, traveller) in output.travellers.drain(..) {
                    self.routes.push(to, Command::Enter(traveller));
                }
            }
        }
        if self.saboteur.strikes(Break::LoseStrays, 1) {
            output.strays.clear();
        }
        if !output.ghosts.is_empty() {
            if self.saboteur.strikes(Break::LoseGhosts, 40) {
                drop(output.ghosts.pop());
            } else if self.saboteur.strikes(Break::StaleGhosts, 40)
                && let Some((to, batch)) = output.ghosts.pop()
            {
                let due = self.tick.after(6);
                self.stale.push_back((due, to, Command::Ghosts(batch)));
            }
        }
    }

    fn bring_stale(&mut self) {
        while let Some((_, to, command)) = self.stale.pop_front_if(|(due, ..)| *due <= self.tick) {
            self.routes.push(to, command);
        }
    }

    fn send_frames(&mut self, output: &mut StepOutput) -> Check {
        output.check(&self.regions).map_err(|error| error.to_string())?;
        if 1 < output.frames.len() && self.saboteur.strikes(Break::SwapFrames, 60) {
            let (first, second) = (output.frames[0].0, output.frames[1].0);
            (output.frames[0].0, output.frames[1].0) = (second, first);
        }
        let mut start = 0;
        for &(client, end) in &output.frames {
            let mut bytes = output.frame_bytes[start..end].to_vec();
            start = end;
            let Some(to) = self.clients.get(&client) else { continue };
            if self.saboteur.strikes(Break::CorruptFrame, 100) {
                let at = self.saboteur.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << self.saboteur.below(8);
            }
            self.out.push(Out::Datagram { connection: to.connection, bytes });
        }
        Ok(())
    }

    fn store_journal(
        &mut self,
        region: RegionIndex,
        output: &mut StepOutput,
    ) -> Result<Vec<Number>, String> {
        let known = self.epochs.get(&region).map(|&(shard, _)| shard);
        let (shard, epoch) = (known.ok_or("a region that is")?, output.epoch);
        let mut numbers = Vec::with_capacity(output.journal.len());
        for entry in output.journal.drain(..) {
            self.entries += 1;
            if self.saboteur.strikes(Break::LoseEntry, 60) {
                numbers.push(self.appended);
                continue;
            }
            if 1 < entry.changes.len() && self.saboteur.strikes(Break::SplitEntry, 1) {
                let (first, rest) = entry.changes.split_at(1);
                let part = |changes: &[Change]| Entry { changes: changes.to_vec(), event: None };
                let rest = rows::entry_batch(&part(rest), shard, epoch);
                self.unfinished.push((self.tick, rest));
                numbers.push(self.append(rows::entry_batch(&part(first), shard, epoch))?);
                continue;
            }
            numbers.push(self.append(rows::entry_batch(&entry, shard, epoch))?);
        }
        Ok(numbers)
    }

    fn take_letter(&mut self, letter: Letter, numbers: &[Number]) {
        let Letter { to, message, after } = letter;
        if matches!(message, ServerMessage::Announce(_))
            && self.saboteur.strikes(Break::LoseAnnouncement, 40)
        {
            return;
        }
        let is_answer = post::answer(&message).is_some();
        if is_answer && self.saboteur.strikes(Break::LoseAnswer, 30) {
            return;
        }
        if self.saboteur.strikes(Break::ReorderLetters, 30)
            && let Some(client) = self.clients.get_mut(&to)
            && client.held_back.is_none()
        {
            client.held_back = Some(message);
            return;
        }
        if is_answer && self.saboteur.strikes(Break::DoubleAnswer, 30) {
            self.send(to, &message);
        }
        let number = after.and_then(|entry| numbers.get(entry).copied());
        let is_state = matches!(message, ServerMessage::Holding(_));
        let newest = if self.unsaved.is_empty() { self.appended } else { UNKNOWN };
        let number = number.or_else(|| is_state.then_some(newest));
        match number.filter(|_| !self.saboteur.strikes(Break::EarlyAnswer, 1)) {
            Some(number) => self.post.keep(number, to, message),
            None => self.send(to, &message),
        }
        let held = self.clients.get_mut(&to).and_then(|client| client.held_back.take());
        if let Some(held) = held {
            self.send(to, &held);
        }
    }

    /// Appends a batch, now or as soon as the store takes it; returns the number to wait for.
    ///
    /// # Errors
    /// When the store refuses it for good: the world and its record would part for ever.
    pub(super) fn append(&mut self, batch: Batch) -> Result<Number, String> {
        if !self.unsaved.is_empty() {
            self.unsaved.push_back(batch);
            return Ok(UNKNOWN);
        }
        match self.store.append(batch.clone()) {
            Ok(number) => {
                self.appended = number;
                Ok(number)
            }
            Err(error) => {
                for_good(&error)?;
                if self.saboteur.strikes(Break::ForgetUnsaved, 1) {
                    return Ok(self.appended);
                }
                self.unsaved.push_back(batch);
                Ok(UNKNOWN)
            }
        }
    }

    fn append_unsaved(&mut self) -> Check {
        while let Some(batch) = self.unsaved.front() {
            match self.store.append(batch.clone()) {
                Ok(number) => {
                    self.unsaved.pop_front();
                    self.appended = number;
                    if self.unsaved.is_empty() {
                        self.post.settle(number);
                    }
                }
                Err(error) => return for_good(&error),
            }
        }
        Ok(())
    }

    /// Sends the letters whose deeds are on disk by now.
    fn deliver_confirmed(&mut self) {
        let mut durable = self.store.durable();
        if self.unsaved.is_empty() && self.saboteur.strikes(Break::LieOfSync, 1) {
            durable = self.appended;
        }
        while let Some((to, message)) = self.post.next(durable) {
            self.send(to, &message);
        }
    }

    /// Ends a tick: all shards of this process have answered. `took` is how long all of it took.
    ///
    /// # Errors
    /// What was violated.
    pub fn end_tick(&mut self, took: Duration) -> Check {
        self.append_unsaved()?;
        // The rest of an entry comes a tick after its beginning.
        let now = self.tick;
        let due = self.unfinished.extract_if(.., |(since, _)| *since < now);
        for (_, batch) in due.collect::<Vec<_>>() {
            self.append(batch)?;
        }
        self.recover_lost()?;
        let appended = self.unsaved.is_empty().then_some(self.appended);
        self.departures.settle(&self.hosting, appended, self.now_ms());
        self.places.forget_old(self.tick);
        if SAVE_EVERY_MS <= self.now_ms().saturating_sub(self.saved_at_ms) {
            self.save_positions()?;
            self.send_home_the_lost();
            if self.can_store() {
                self.saved_at_ms = self.now_ms();
            }
        }
        if let Some(change) = self.dilation.note(self.tick, took)
            && !self.saboteur.strikes(Break::LosePace, 1)
        {
            let clients: Vec<ClientKey> = self.clients.keys().copied().collect();
            for client in clients {
                let pace = Pace { permille: change.permille, from: change.from };
                self.send(client, &pace.into());
            }
        }
        self.truth.forget(self.tick);
        Ok(())
    }

    fn save_positions(&mut self) -> Check {
        let mut changed = Vec::new();
        for place in self.places.iter() {
            let Some(record) = self.people.get_mut(&place.person) else { continue };
            if (record.position, record.yaw) != (place.position, place.yaw) {
                (record.position, record.yaw) = (place.position, place.yaw);
                changed.push(record.clone());
            }
        }
        if self.can_store() {
            self.save_people(&changed)?;
            self.save_clock()?;
        }
        Ok(())
    }

    /// Writes people's records.
    pub(super) fn save_people(&mut self, records: &[PersonRecord]) -> Check {
        let mut batch = Batch::new();
        for record in records {
            batch.put(Tree::People, rows::person_key(record.person), rows::person_row(record));
        }
        self.append(batch).map(drop)
    }

    /// Writes what time it is.
    pub(super) fn save_clock(&mut self) -> Check {
        let mut batch = Batch::new();
        let clock = ClockRow { tick: self.tick, is_furnished: true };
        batch.put(Tree::World, rows::clock_key(), rows::clock_row(clock));
        self.append(batch).map(drop)
    }

    /// Checks that nobody but its owner can write in a region's name.
    ///
    /// # Errors
    /// When the store takes a batch of an old epoch.
    pub(super) fn check_fence(&self, region: RegionIndex, old: Epoch) -> Check {
        let Some(&(shard, _)) = self.epochs.get(&region) else { return Ok(()) };
        match self.store.append(Batch::of_shard(shard, old)) {
            Err(StoreError::Fenced { .. }) => Ok(()),
            Ok(_) => Err(format!("region {} still writes as its old owner {old:?}", region.0)),
            Err(_) => Ok(()),
        }
    }
}

fn for_good(error: &StoreError) -> Check {
    match error {
        StoreError::Fenced { .. }
        | StoreError::NotEnrolled { .. }
        | StoreError::TooLarge { .. }
        | StoreError::Reserved
        | StoreError::Exhausted { .. } => Err(format!("the store refuses what was done: {error}")),
        StoreError::Busy { .. }
        | StoreError::Full { .. }
        | StoreError::Io { .. }
        | StoreError::Broken { .. }
        | StoreError::Damaged { .. }
        | StoreError::InUse { .. }
        | StoreError::Newer { .. }
        | StoreError::Occupied { .. }
        | StoreError::Closed => Ok(()),
    }
}
