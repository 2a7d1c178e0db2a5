//! The client's picture of the world: everyone in view between their states, one's own body ahead
//! of the server, and the newest of what was said and done.
//!
//! Reliable messages and frames go in with the time they came; input datagrams come out when they
//! are due. It reads no clock and knows no connection, so thousands can live in one loop.

mod clock;
mod entity;
mod log;
mod pacing;
mod prediction;
mod terrain;

use std::collections::BTreeMap;

use crate::delta::{BadFrame, FrameDecoder};
use crate::ground::Ground;
use crate::ids::{EntityId, PersonId};
use crate::input::{self, INPUTS_MAX, Input, InputHead, LOST_MAX};
use crate::limits::TRACKED_MAX;
use crate::message::ServerMessage;
use crate::message::server::{Announce, Appear, Being, Welcome};
use crate::motion::{Body, MotionRules};
use crate::rules::KindId;
use crate::state::EntityState;
use crate::units::{Tick, Yaw, expand};

pub use clock::FrameClock;
pub use entity::{Entity, Shown};
pub use log::{EVENTS_MAX, HEARD_MAX, Log, NOTICES_MAX, OFFERS_MAX};
pub use pacing::{INPUT_PHASE_US, Pacing};
pub use prediction::{Correction, Prediction, UNANSWERED_MAX};
pub use terrain::{CHUNKS_KEPT_MAX, Terrain};

/// Entities held at once: those in view, those leaving, and their successors, with room.
pub const ENTITIES_MAX: usize = 4 * TRACKED_MAX;

/// How much of the world is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Everyone's last states, for showing them smoothly, and the logs.
    #[default]
    Full,
    /// The newest state of everyone and no logs, for load generators: a sixth of the memory.
    Newest,
}

/// What one frame brought.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameSeen {
    /// The tick it shows.
    pub tick: Tick,
    /// How many entities it told of.
    pub states: usize,
    /// How far it moved the predicted body; nothing if it did not say.
    pub correction: Option<Correction>,
    /// The server had no new input at this tick and repeated the last one.
    pub is_repeated: bool,
}

/// What happened so far, for reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames taken in.
    pub frames: u64,
    /// Frames that came twice or too late.
    pub stale_frames: u64,
    /// Datagrams that were no frame.
    pub bad_frames: u64,
    /// States of entities that were taken in.
    pub states: u64,
    /// Inputs sent.
    pub inputs: u64,
    /// Ticks at which the server repeated an input for want of a new one.
    pub repeated_inputs: u64,
    /// Times at which everything was asked for anew.
    pub full_requests: u64,
}

/// The picture of one client.
#[derive(Clone, Debug)]
pub struct Replica {
    hz: u16,
    detail: Detail,
    rules: MotionRules,
    avatar: EntityId,
    person: PersonId,
    decoder: FrameDecoder,
    clock: FrameClock,
    pacing: Pacing,
    prediction: Prediction,
    entities: BTreeMap<u16, Entity>,
    leaving: Vec<Entity>,
    announcements: u64,
    lost: Vec<u16>,
    has_lost_everything: bool,
    round_trip_us: Option<u64>,
    /// The newest frame's tick and what it acknowledged.
    acked: Option<(Tick, u64)>,
    moment: Option<f64>,
    log: Log,
    counts: Counts,
}

impl Replica {
    /// Returns the picture of a client that has just come in.
    #[must_use]
    pub fn new(welcome: &Welcome, detail: Detail) -> Self {
        let hz = welcome.hz.max(1);
        let body = Body::standing(welcome.position, welcome.yaw);
        Self {
            hz,
            detail,
            rules: welcome.motion.clone(),
            avatar: welcome.avatar,
            person: welcome.person,
            decoder: FrameDecoder::new(hz),
            clock: FrameClock::new(hz, welcome.pace_permille, welcome.tick),
            pacing: Pacing::default(),
            prediction: Prediction::new(body, 0),
            entities: BTreeMap::new(),
            leaving: Vec::new(),
            announcements: 0,
            lost: Vec::new(),
            has_lost_everything: false,
            round_trip_us: None,
            acked: None,
            moment: None,
            log: Log::default(),
            counts: Counts::default(),
        }
    }

    /// Begins anew after the session was resumed on another connection. Inputs are numbered on,
    /// and the log stays.
    pub fn resume(&mut self, welcome: &Welcome) {
        let newest = self.prediction.newest();
        let fresh = Self::new(welcome, self.detail);
        let (log, counts) = (std::mem::take(&mut self.log), self.counts);
        let prediction = Prediction::new(*fresh.prediction.body(), newest);
        *self = Self { prediction, log, counts, ..fresh };
    }

    /// Takes in a reliable message. Those that say nothing about the world change nothing.
    pub fn hear(&mut self, message: &ServerMessage) {
        match message {
            ServerMessage::Announce(announce) => self.announce(announce),
            ServerMessage::Pace(pace) => self.clock.pace(pace.permille, pace.from),
            ServerMessage::Happened(happened) if self.detail == Detail::Full => {
                for event in &happened.events {
                    log::keep(&mut self.log.events, event.clone(), EVENTS_MAX);
                }
            }
            ServerMessage::Heard(heard) if self.detail == Detail::Full => {
                log::keep(&mut self.log.heard, heard.clone(), HEARD_MAX);
            }
            ServerMessage::Notice(notice) if self.detail == Detail::Full => {
                log::keep(&mut self.log.notices, notice.clone(), NOTICES_MAX);
            }
            ServerMessage::Holding(holding) => {
                self.log.holding.clone_from(&holding.things);
                self.log.holding_since = holding.tick;
            }
            ServerMessage::Offered(offered) => {
                self.log.offers.retain(|offer| offer.id != offered.offer.id);
                log::keep(&mut self.log.offers, offered.offer.clone(), OFFERS_MAX);
            }
            ServerMessage::OfferEnded(ended) => {
                self.log.offers.retain(|offer| offer.id != ended.offer);
            }
            ServerMessage::Happened(_)
            | ServerMessage::Heard(_)
            | ServerMessage::Notice(_)
            | ServerMessage::Greeting(_)
            | ServerMessage::Welcome(_)
            | ServerMessage::Farewell(_)
            | ServerMessage::Done(_)
            | ServerMessage::Refused(_)
            | ServerMessage::Begun(_)
            | ServerMessage::Stopping(_)
            | ServerMessage::Redirect(_)
            | ServerMessage::Ticket(_)
            | ServerMessage::Chunk(_) => {}
        }
    }

    /// Takes in a frame: nothing if it came before or is too old. `ground` is told what it shows
    /// before one's own body is set right on it.
    ///
    /// # Errors
    /// When the bytes are no frame, which is the sender's fault.
    pub fn frame<G>(
        &mut self,
        bytes: &[u8],
        now_us: u64,
        ground: &mut G,
    ) -> Result<Option<FrameSeen>, BadFrame>
    where
        G: Ground + ?Sized,
    {
        let frame = match self.decoder.decode(bytes, self.clock.newest()) {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                self.counts.stale_frames += 1;
                return Ok(None);
            }
            Err(error) => {
                self.counts.bad_frames += 1;
                return Err(error);
            }
        };
        let tick = frame.tick;
        self.counts.frames += 1;
        self.clock.frame(tick, now_us);
        self.pacing.start(now_us);
        for &(handle, state) in frame.states {
            let Some(entity) = self.entities.get_mut(&handle) else { continue };
            ground.see(handle, state.flags);
            let shown = self.clock.shown(now_us);
            match self.detail {
                Detail::Full => entity.push(tick, state, shown, self.hz),
                Detail::Newest => entity.replace(tick, state),
            }
            self.counts.states += 1;
        }
        let states = frame.states.len();
        let (own, acked_low) = (frame.own, frame.acked_input);
        self.has_lost_everything |= own.is_none();
        self.lost.extend(frame.missing);
        let newest = self.prediction.newest();
        let acked = expand(acked_low, newest).min(newest);
        let last = self.acked;
        let is_repeated = last == Some((Tick(tick.0.saturating_sub(1)), acked));
        // A frame that was overtaken would set the body back.
        let correction = own.filter(|_| last.is_none_or(|(last, _)| last < tick)).map(|own| {
            self.acked = Some((tick, acked));
            self.counts.repeated_inputs += u64::from(is_repeated);
            self.prediction.reconcile(acked, &own, now_us, &*ground, &self.rules)
        });
        self.note_loop(tick, correction);
        Ok(Some(FrameSeen { tick, states, correction, is_repeated }))
    }

    /// Notes the network's round trip, as the transport measures it: it tells how long inputs
    /// wait at the server.
    pub const fn round_trip(&mut self, us: u64) {
        self.round_trip_us = Some(us);
    }

    /// Returns when the next input is due, nothing before the first frame.
    #[must_use]
    pub const fn input_due_us(&self) -> Option<u64> {
        self.pacing.due_us()
    }

    /// If an input is due, moves the own body by `input` and appends the datagram to send to
    /// `out`; returns the input's number.
    pub fn input<G>(
        &mut self,
        input: Input,
        now_us: u64,
        ground: &G,
        out: &mut Vec<u8>,
    ) -> Option<u64>
    where
        G: Ground + ?Sized,
    {
        if !self.pacing.is_due(now_us, &self.clock) {
            return None;
        }
        let number = self.prediction.push(input, now_us, ground, &self.rules);
        self.counts.inputs += 1;
        let mut inputs = [Input::default(); INPUTS_MAX];
        let mut count = 0;
        for (place, input) in inputs.iter_mut().zip(self.prediction.inputs(INPUTS_MAX)) {
            *place = input;
            count += 1;
        }
        let everything = self.has_lost_everything || LOST_MAX < self.lost.len();
        if everything {
            self.decoder.reset();
            self.counts.full_requests += 1;
        }
        let head = InputHead {
            newest: Tick(number).low(),
            acks: self.decoder.acks(),
            announcements: Tick(self.announcements).low(),
            buffer_ticks: self.late_ticks(),
            has_lost_everything: everything,
        };
        input::encode(&head, inputs.get(..count).unwrap_or_default(), &self.lost, out);
        self.has_lost_everything = false;
        self.lost.clear();
        Some(number)
    }

    /// Moves the shown moment to `now_us` and lets go of who has left view by then.
    pub fn advance(&mut self, now_us: u64) {
        self.moment = self.clock.display(now_us);
        let Some(moment) = self.moment else { return };
        self.leaving.retain(|entity| entity.until.is_none_or(|until| moment < until.0 as f64));
    }

    /// Returns the shown moment in ticks, as of the last [`Self::advance`].
    #[must_use]
    pub const fn moment(&self) -> Option<f64> {
        self.moment
    }

    /// Returns who and what is in view at the shown moment, and how.
    pub fn shown(&self) -> impl Iterator<Item = (&Entity, Shown)> + '_ {
        let all = self.entities.values().chain(&self.leaving);
        let moment = self.moment.unwrap_or(0.0);
        all.filter_map(move |entity| entity.at(moment, self.hz).map(|shown| (entity, shown)))
    }

    /// Returns who and what was announced last, whatever moment is shown.
    pub fn entities(&self) -> impl Iterator<Item = &Entity> + '_ {
        self.entities.values()
    }

    /// Returns an entity by its id.
    #[must_use]
    pub fn entity(&self, id: EntityId) -> Option<&Entity> {
        self.entities.values().find(|entity| entity.id == id)
    }

    /// Returns the avatar of this name nearest to one's own, in any case of letters.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Entity> {
        let is_named = |entity: &&Entity| match &entity.being {
            Being::Avatar { name: theirs, .. } => theirs.to_lowercase() == name.to_lowercase(),
            Being::Thing { .. } => false,
        };
        self.nearest(is_named)
    }

    /// Returns the nearest thing of a kind.
    #[must_use]
    pub fn nearest_of(&self, wanted: KindId) -> Option<&Entity> {
        self.nearest(|entity| match entity.being {
            Being::Avatar { .. } => false,
            Being::Thing { kind, .. } => kind == wanted,
        })
    }

    /// Returns the nearest entity that passes, by the newest states.
    #[must_use]
    pub fn nearest(&self, passes: impl FnMut(&&Entity) -> bool) -> Option<&Entity> {
        let here = self.prediction.body().position();
        let passing = self.entities.values().filter(passes);
        passing.min_by_key(|entity| here.ground_distance_squared(entity.newest().1.position))
    }

    /// Returns one's own body after the newest input.
    #[must_use]
    pub const fn body(&self) -> &Body {
        self.prediction.body()
    }

    /// Returns where one's own body is shown, in centimetres.
    #[must_use]
    pub fn own_cm(&self, now_us: u64) -> [f64; 3] {
        self.prediction.shown_cm(now_us, self.clock.tick_us())
    }

    /// Returns where one looks.
    #[must_use]
    pub const fn yaw(&self) -> Yaw {
        self.prediction.body().yaw
    }

    /// Returns the avatar one drives.
    #[must_use]
    pub const fn avatar(&self) -> EntityId {
        self.avatar
    }

    /// Returns who one is.
    #[must_use]
    pub const fn person(&self) -> PersonId {
        self.person
    }

    /// Returns ticks per second at full pace.
    #[must_use]
    pub const fn hz(&self) -> u16 {
        self.hz
    }

    /// Returns how bodies move here.
    #[must_use]
    pub const fn rules(&self) -> &MotionRules {
        &self.rules
    }

    /// Returns the server's clock as seen from here.
    #[must_use]
    pub const fn clock(&self) -> &FrameClock {
        &self.clock
    }

    /// Returns what was said and done.
    #[must_use]
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// Returns what happened so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns how many inputs the server has not answered.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.prediction.unanswered()
    }

    fn announce(&mut self, announce: &Announce) {
        self.announcements += 1;
        for &handle in &announce.vanish {
            self.decoder.forget(handle, announce.since);
            let Some(mut entity) = self.entities.remove(&handle) else { continue };
            entity.until = Some(announce.since);
            if self.detail == Detail::Full && self.leaving.len() < ENTITIES_MAX {
                self.leaving.push(entity);
            }
        }
        for appear in &announce.appear {
            self.appear(appear, announce.since);
        }
    }

    fn appear(&mut self, appear: &Appear, since: Tick) {
        if let Some(known) =
            self.entities.get_mut(&appear.handle).filter(|known| known.id == appear.entity)
        {
            known.being = appear.being.clone();
            return;
        }
        self.decoder.forget(appear.handle, since);
        if ENTITIES_MAX <= self.entities.len() {
            return;
        }
        let state = EntityState {
            position: appear.position,
            yaw: appear.yaw.coarse(),
            flags: appear.flags,
            ..EntityState::default()
        };
        let mut entity = Entity::new(appear.entity, appear.being.clone(), since, state);
        // Who stands still again by now is told of no more.
        for (tick, state) in self.decoder.kept(appear.handle) {
            match self.detail {
                Detail::Full => entity.push(tick, state, None, self.hz),
                Detail::Newest => entity.replace(tick, state),
            }
        }
        self.entities.insert(appear.handle, entity);
    }

    /// Learns from a correction how long the answered input was under way.
    fn note_loop(&mut self, tick: Tick, correction: Option<Correction>) {
        let sent_us = correction.and_then(|correction| correction.sent_us);
        let (Some(sent_us), Some(round_trip_us)) = (sent_us, self.round_trip_us) else { return };
        let Some(arrival_us) = self.clock.arrival_us(tick) else { return };
        let loop_us = arrival_us.saturating_sub_unsigned(sent_us);
        self.pacing.acknowledged(loop_us, round_trip_us, &self.clock);
    }

    fn late_ticks(&self) -> u8 {
        let tick_us = i64::try_from(self.clock.tick_us()).unwrap_or(i64::MAX).max(1);
        u8::try_from(self.clock.delay_us().max(0) / tick_us).unwrap_or(u8::MAX)
    }
}

#[cfg(test)]
mod tests;
