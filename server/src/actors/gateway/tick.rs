//! The beat: one batch to every shard, one answer from each, and what it carries.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use protocol::ids::PersonId;
use protocol::limits::DATAGRAM_BYTES_MAX;
use protocol::message::ServerMessage;
use protocol::message::server::{Happened, Pace};
use protocol::rules::Verb;
use protocol::units::Tick;
use tracing::{error, warn};

use super::{Beat, ClientKey, GatewayActor, Stepped, share};
use crate::hosting::Place;
use crate::people::PersonRecord;
use crate::region::RegionIndex;
use crate::rows;
use crate::shard::batch::{Change, Letter, StepOutput, Whereabouts};
use crate::status::{Dot, DotKind, DotSample, ShardStatus, Status, StoreStatus};
use crate::store::{Batch, Number, StoreError, Tree};

/// The number of a batch that the store has not taken yet.
const UNKNOWN: Number = Number(u64::MAX);

/// Missed ticks that count at once: a second's, so that one long pause does not slow a world.
const MISSED_MAX: u32 = 20;

/// Seconds after which it is written down again that somebody who stands still is here.
const SEEN_EVERY_S: u64 = 3_600;

/// Ticks between two looks at where everyone is, for the operators' map.
const PICTURE_TICKS: u64 = 5;

/// The frames of one step: the bytes of all, whose they are, and where each ends.
pub(super) type Frames = (Bytes, Vec<(ClientKey, usize)>);

impl Beat {
    /// Returns what a step writes to: memory used before, if there is any.
    pub(super) fn spare_output(&mut self) -> StepOutput {
        let mut output = self.spare.pop().unwrap_or_default();
        if let Some(bytes) = self.sent.pop().filter(Bytes::is_unique) {
            output.frame_bytes = bytes.into();
            output.frame_bytes.clear();
        }
        output
    }
}

impl GatewayActor {
    /// Begins a tick: asks every shard for a step.
    pub(super) fn tick(&mut self, ctx: &mut Context<Self>) {
        self.beat.began_at = self.beat.clock.elapsed();
        self.beat.tick = self.beat.tick.next();
        share(self.beat.tick, &self.beat.shared_tick);
        if self.beat.dilation.begin(self.beat.tick) {
            self.beat.pace.set_period(self.beat.dilation.period());
        }
        self.end_lendings();
        self.deliver_confirmed();
        self.take_inputs();
        let survey_ms = self.survey_interval_ms();
        self.beat.is_survey = self.now_ms().saturating_sub(self.beat.saved_at_ms) >= survey_ms;
        let is_shown = self.beat.tick.0.is_multiple_of(PICTURE_TICKS);
        let budget = self.frame_budget();
        self.go_on_dividing(ctx);
        for region in self.outfit.regions.indices().collect::<Vec<_>>() {
            if !self.take_turn(region, self.beat.is_survey || is_shown, budget) {
                error!(shard = region.0, "a shard takes no step; stopping the world");
                ctx.stop();
                System::current().stop_with_code(1);
                return;
            }
        }
        self.look_after_links();
        self.balance_load(ctx);
        if self.beat.open == 0 {
            // Every shard runs elsewhere, or is on its way.
            self.end_tick(ctx);
        }
    }

    fn take_inputs(&mut self) {
        let inbox = Arc::clone(&self.outfit.inbox);
        let mut inbox = inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        for (client, datagram) in inbox.drain() {
            self.routes.input(client, datagram);
            count += 1;
        }
        self.metrics.datagrams_in.increment(count);
        self.metrics.bytes_in.increment(std::mem::take(&mut inbox.bytes));
        self.metrics.inputs_dropped.increment(std::mem::take(&mut inbox.refused));
    }

    fn survey_interval_ms(&self) -> u64 {
        let config = self.outfit.config.read().unwrap_or_else(PoisonError::into_inner);
        u64::from(config.store.position_interval_s) * 1_000
    }

    fn frame_budget(&self) -> usize {
        let config = self.outfit.config.read().unwrap_or_else(PoisonError::into_inner);
        (config.interest.downlink_bytes_per_tick as usize).min(DATAGRAM_BYTES_MAX)
    }

    /// Takes what one shard's step put out.
    pub(super) fn take_step(&mut self, stepped: Stepped) {
        let Stepped { region, place, tick, mut output, took } = stepped;
        let is_owner = self.epoch(region) == Some(output.epoch);
        if place == Place::Here {
            self.beat.open = self.beat.open.saturating_sub(1);
        } else if is_owner && self.hosting.runs_at(region, place) {
            // What comes late counts as having taken that long.
            let late = u32::try_from(self.beat.tick.since(tick)).unwrap_or(u32::MAX);
            let took = took.saturating_add(self.beat.pace.period().saturating_mul(late));
            self.beat.remote = self.beat.remote.max(took);
        } else {
            // Whoever gave the region up, or was given up, has nothing to say about it.
            return;
        }
        if let Place::There(link) = place
            && let Err(error) = output.check(&self.outfit.regions)
        {
            return self.lose(link, &error.to_string());
        }
        if let Some(recorder) = &mut self.outfit.recorder {
            recorder.made(region, tick, &output);
        }
        self.hosting.answer(region, tick);
        let bytes = Bytes::from(std::mem::take(&mut output.frame_bytes));
        self.beat.unsent.push((bytes, std::mem::take(&mut output.frames)));
        if place != Place::Here {
            self.send_frames();
        }
        if let Place::There(link) = place
            && let Some(stranger) = self.stranger_in(&output)
        {
            let why = format!("it keeps something for {stranger}, who is nobody here");
            return self.lose(link, &why);
        }
        let numbers = self.store_journal(region, &mut output);
        for Letter { to, message, after } in output.letters.drain(..) {
            let number = after.and_then(|entry| numbers.get(entry).copied());
            // What one holds is told when all that led to it is on disk, whoever did it.
            let is_state = matches!(message, ServerMessage::Holding(_));
            match number.or_else(|| is_state.then(|| self.newest_number())) {
                Some(number) => self.post.keep(number, to, message),
                None => self.send_letter(to, &message),
            }
        }
        for (_, traveller) in &output.travellers {
            self.metrics.handoffs.increment(1);
            let person = traveller.avatar.person;
            let seen = Whereabouts::of(traveller.avatar.id, person, &traveller.avatar.body);
            self.places.cross(self.beat.tick, seen);
            let regions = &self.outfit.regions;
            let place = traveller.avatar.body.position();
            self.outfit.lobby.directory.change(person, |presence| {
                presence.region = regions.index_of(place);
            });
        }
        self.note_departed(&mut output.departed);
        self.routes.absorb(region, tick, &mut output);
        if output.is_survey {
            self.places.survey(region, std::mem::take(&mut output.whereabouts));
        }
        self.want_ground(&mut output.wanted);
        self.note_shard(region, &output, took);
        self.beat.spare.push(output);
    }

    fn send_frames(&mut self) {
        for (bytes, frames) in self.beat.unsent.drain(..) {
            let (mut start, mut count) = (0, 0);
            for (client, end) in frames {
                let frame = bytes.slice(start..end);
                start = end;
                let Some(to) = self.clients.get(&client) else { continue };
                count += u64::from(to.line.send(frame));
            }
            self.metrics.frames_out.increment(count);
            self.metrics.datagrams_out.increment(count);
            self.metrics.bytes_out.increment(bytes.len() as u64);
            self.beat.sent.push(bytes);
        }
    }

    /// Returns somebody for whom a step of another process keeps something, and who is not here.
    fn stranger_in(&self, output: &StepOutput) -> Option<PersonId> {
        let changes = output.journal.iter().flat_map(|entry| &entry.changes);
        let mut people = changes.filter_map(|change| match change {
            Change::Keep { holder, .. } | Change::Drop { holder, .. } => *holder,
            Change::Looks { person, .. } => Some(*person),
        });
        people.find(|person| {
            !self.people.contains_key(person)
                && !self.departures.has_record_of(*person)
                && !self.forgetting.contains_key(person)
        })
    }

    /// Appends a step's journal to the store; returns each entry's number.
    fn store_journal(&mut self, region: RegionIndex, output: &mut StepOutput) -> Vec<Number> {
        let Some(&(shard, _)) = self.outfit.epochs.get(&region) else { return Vec::new() };
        let mut numbers = Vec::with_capacity(output.journal.len());
        for entry in output.journal.drain(..) {
            let mut batch = rows::entry_batch(&entry, shard, output.epoch);
            for change in &entry.changes {
                if let Change::Looks { person, appearance } = change
                    && let Some(record) = self.people.get_mut(person)
                {
                    record.appearance.clone_from(appearance);
                    batch.put(Tree::People, rows::person_key(*person), rows::person_row(record));
                }
            }
            numbers.push(self.append(batch));
        }
        numbers
    }

    /// Appends a batch, now or as soon as the store takes it; returns the number to wait for.
    pub(super) fn append(&mut self, batch: Batch) -> Number {
        if !self.unsaved.is_empty() {
            self.unsaved.push_back(batch);
            return UNKNOWN;
        }
        match self.outfit.lobby.store.append(batch.clone()) {
            Ok(number) => {
                self.appended = number;
                number
            }
            Err(error) => {
                self.note_trouble(&error);
                self.unsaved.push_back(batch);
                UNKNOWN
            }
        }
    }

    /// Returns the number after which everything done so far is on disk.
    fn newest_number(&self) -> Number {
        if self.unsaved.is_empty() { self.appended } else { UNKNOWN }
    }

    /// Tries again to append what the store did not take, in order.
    pub(super) fn append_unsaved(&mut self) {
        while let Some(batch) = self.unsaved.front() {
            match self.outfit.lobby.store.append(batch.clone()) {
                Ok(number) => {
                    self.unsaved.pop_front();
                    self.appended = number;
                    if self.unsaved.is_empty() {
                        self.post.settle(number);
                    }
                }
                Err(error) => return self.note_trouble(&error),
            }
        }
    }

    fn note_trouble(&self, error: &StoreError) {
        let is_for_good = matches!(
            error,
            StoreError::Fenced { .. }
                | StoreError::NotEnrolled { .. }
                | StoreError::TooLarge { .. }
        );
        if is_for_good {
            // The world and its record would part for ever: the record is right.
            error!(%error, "the store refuses what was done; stopping without it");
            System::current().stop_with_code(1);
        }
        if self.unsaved.is_empty() {
            warn!(%error, "the store takes nothing; acts are refused until it does");
        }
        self.metrics.store_failures.increment(1);
    }

    /// Returns whether acts that must be kept can be kept.
    pub(super) fn can_store(&self) -> bool {
        self.unsaved.is_empty() && self.progress.borrow().trouble.is_none()
    }

    /// Sends the letters whose deeds are on disk by now.
    fn deliver_confirmed(&mut self) {
        let durable = self.progress.borrow().durable;
        while let Some((to, message)) = self.post.next(durable) {
            self.send_letter(to, &message);
        }
    }

    /// Sends a letter unless its reader does not want to hear from who caused it.
    pub(super) fn send_letter(&mut self, to: ClientKey, message: &ServerMessage) {
        let speaker = if let ServerMessage::Heard(heard) = message {
            Some(heard.person)
        } else if let ServerMessage::Happened(happened) = message {
            self.speaker_of(happened)
        } else {
            None
        };
        if let Some(speaker) = speaker {
            let reader = self.clients.get(&to);
            if reader.is_some_and(|reader| reader.ignored.contains_key(&speaker)) {
                return;
            }
            self.metrics.chat_lines.increment(1);
        }
        self.send(to, message);
    }

    /// Returns who speaks in events of speech.
    fn speaker_of(&self, happened: &Happened) -> Option<PersonId> {
        let said = happened.events.iter().find(|event| event.verb == Verb::Say)?;
        let client = self.routes.seat(said.actor)?.client?;
        self.clients.get(&client).map(|client| client.person)
    }

    /// Ends a tick: all shards have answered.
    pub(super) fn end_tick(&mut self, ctx: &mut Context<Self>) {
        // Behind all steps, which the world waits for; nobody waits for the last frame.
        self.send_frames();
        self.append_unsaved();
        self.recover_lost(ctx);
        if let Some(recorder) = &mut self.outfit.recorder {
            recorder.hand_over();
        }
        let appended = self.unsaved.is_empty().then_some(self.appended);
        self.departures.settle(&self.hosting, appended, self.now_ms());
        self.settle_forgetting();
        self.ask_again();
        self.places.forget_old(self.beat.tick);
        if self.beat.is_survey {
            self.save_positions();
            self.send_home_the_lost();
            // What a store in trouble did not take is written as soon as it takes something again:
            // world time must not run ahead of what a restart skips.
            if self.can_store() {
                self.beat.saved_at_ms = self.now_ms();
            }
        }
        let now = self.beat.clock.elapsed();
        let took =
            now.saturating_sub(self.beat.began_at).max(std::mem::take(&mut self.beat.remote));
        if self.outfit.board.tick(took, now) {
            let picture = self.picture();
            self.outfit.board.publish(picture, now);
        }
        let missed = self.measure(took);
        let took = took + self.beat.pace.period() * missed;
        if let Some(change) = self.beat.dilation.note(self.beat.tick, took) {
            warn!(permille = change.permille, from = change.from.0, "world time changes its pace");
            self.send_all(&Pace { permille: change.permille, from: change.from }.into());
        }
        if self.stop_is_due(ctx) {
            return;
        }
        ctx.run_later(self.beat.pace.until_next(), Self::tick);
    }

    /// Counts a tick; returns how many were missed before it.
    fn measure(&mut self, took: Duration) -> u32 {
        self.metrics.ticks.increment(1);
        self.metrics.tick_seconds.record(took.as_secs_f64());
        let skipped = self.beat.pace.skipped();
        let missed = skipped - self.beat.skipped;
        self.metrics.ticks_skipped.increment(missed);
        self.beat.skipped = skipped;
        #[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
        {
            self.metrics.tick_now.set(self.beat.tick.0 as f64);
            self.metrics.clients.set(self.clients.len() as f64);
            self.metrics.pace.set(f64::from(self.beat.dilation.permille()) / 1_000.0);
        }
        u32::try_from(missed).unwrap_or(u32::MAX).min(MISSED_MAX)
    }

    /// Writes down where everyone is, and what time it is: softly, for a crash costs seconds.
    fn save_positions(&mut self) {
        let mut changed = Vec::new();
        let now_s = crate::io::clock::unix_s();
        for place in self.places.iter() {
            let Some(record) = self.people.get_mut(&place.person) else { continue };
            let is_long_seen = now_s.saturating_sub(record.seen_s) >= SEEN_EVERY_S;
            if is_long_seen || (record.position, record.yaw) != (place.position, place.yaw) {
                record.seen_s = now_s;
                (record.position, record.yaw) = (place.position, place.yaw);
                changed.push(record.clone());
            }
        }
        // What is soft is not worth room in the queue of a store in trouble.
        if self.can_store() {
            self.save_people(&changed);
            self.save_clock();
        }
    }

    /// Returns a record with where its avatar was seen last: a few ticks ago at most.
    pub(super) fn newest(&self, record: PersonRecord) -> PersonRecord {
        let seat = self.routes.seat(record.avatar);
        self.places.newest(record, seat)
    }

    /// Writes people's records.
    pub(super) fn save_people(&mut self, records: &[PersonRecord]) {
        for page in records.chunks(crate::store::BATCH_CHANGES_MAX / 2) {
            let mut batch = Batch::new();
            for record in page {
                batch.put(Tree::People, rows::person_key(record.person), rows::person_row(record));
            }
            self.append(batch);
        }
    }

    /// Writes what time it is.
    pub(super) fn save_clock(&mut self) {
        let mut batch = Batch::new();
        let clock = rows::ClockRow { tick: self.beat.tick, is_furnished: true };
        batch.put(Tree::World, rows::clock_key(), rows::clock_row(clock));
        self.append(batch);
    }

    fn note_shard(&mut self, region: RegionIndex, output: &StepOutput, took: Duration) {
        let counts = output.counts;
        self.metrics.inputs_applied.increment(counts.inputs_applied as u64);
        let epoch = self.epoch(region).unwrap_or_default();
        let Some(square) = self.outfit.regions.region(region) else { return };
        self.balance.note(region, took);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let status = ShardStatus {
            id: format!("{}", region.0),
            region: format!(
                "{} m east, {} m south, {} m wide",
                square.west / 100,
                square.north / 100,
                square.width / 100
            ),
            entities: number(counts.avatars + counts.things),
            clients: number(counts.clients),
            step_ms: took.as_secs_f32() * 1_000.0,
            ghosts: number(counts.ghosts),
            epoch: epoch.0,
            place: self.place_name(region),
        };
        self.beat.status.insert(region, status);
    }

    fn picture(&self) -> Status {
        let config = self.outfit.config.read().unwrap_or_else(PoisonError::into_inner);
        let half = self.outfit.regions.half_width_cm();
        #[expect(clippy::cast_precision_loss, reason = "a map needs no millimetres")]
        let metres = |cm: i32| cm as f32 / 100.0;
        let sample = DotSample::of(self.places.len());
        let dots = self.places.iter().map(|place| Dot {
            key: u32::try_from(place.avatar.0 & 0xFFFF_FFFF).unwrap_or(0),
            kind: DotKind::Client,
            x_m: metres(place.position.x),
            z_m: metres(place.position.z),
            yaw: u16::try_from(u32::from(place.yaw.0) * 360 / 65_536).unwrap_or(0),
        });
        let dots = dots.filter(|dot| sample.shows(dot.key));
        let progress = self.progress.borrow();
        Status {
            world: self.outfit.welcome.world.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            tick: self.beat.tick.0,
            hz: self.outfit.hz,
            pace_permille: self.beat.dilation.permille(),
            uptime_s: self.beat.clock.elapsed().as_secs(),
            clients: u32::try_from(self.clients.len()).unwrap_or(u32::MAX),
            clients_max: config.server.clients_max,
            entities: self.beat.status.values().map(|shard| u64::from(shard.entities)).sum(),
            shards: self.beat.status.values().cloned().collect(),
            store: StoreStatus {
                durable: progress.durable.0,
                pending: (self.post.len() + self.unsaved.len()) as u64,
                bytes: 0,
            },
            map: crate::status::MapArea {
                x_m: -metres(half),
                z_m: -metres(half),
                width_m: 2.0 * metres(half),
                depth_m: 2.0 * metres(half),
            },
            dots: dots.collect(),
            ready: progress.trouble.is_none() && self.stop.is_none(),
            why_not_ready: match (&progress.trouble, &self.stop) {
                (Some(trouble), _) => trouble.to_string(),
                (None, Some(_)) => "the server is stopping".into(),
                (None, None) => String::new(),
            },
            ..Status::default()
        }
    }

    /// Returns the tick now.
    pub(super) const fn now(&self) -> Tick {
        self.beat.tick
    }
}
