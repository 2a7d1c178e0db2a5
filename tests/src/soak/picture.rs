//! One client's cheap view of the world: every frame decoded and acknowledged, nothing shown.
//!
//! It keeps what the wire demands of a client (baselines, handles, numbered inputs, the rhythm)
//! and no prediction or interpolation; [`super::observer`] has those. Sans-I/O like the SDK.

use std::collections::VecDeque;

use protocol::cache;
use protocol::delta::{BadFrame, FrameDecoder};
use protocol::ids::EntityId;
use protocol::input::{self, INPUTS_MAX, Input, InputHead, LOST_MAX};
use protocol::message::server::{Announce, Pace, Welcome};
use protocol::replica::{FrameClock, Pacing};
use protocol::units::{Position, Tick, expand};

/// Inputs whose sending time is remembered: 3.2 s at 20 Hz.
const SENT_MAX: usize = 64;

/// Handles followed: what a viewer can be shown, with room for successors.
const HANDLES_MAX: u16 = 1_024;

/// Ticks that a client is taken to show the world late.
const BUFFER_TICKS: u8 = 2;

/// What a frame said about the client's own body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// Where it is at the frame's tick.
    pub at: Position,
    /// When the input was sent that moved it there, if this is the first frame after it.
    pub sent_us: Option<u64>,
}

/// What a frame brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The tick it shows.
    pub tick: Tick,
    /// The own body, if its baseline is known.
    pub own: Option<Own>,
    /// Entries decoded.
    pub states: usize,
}

/// The view.
#[derive(Clone, Debug)]
pub struct Picture {
    decoder: FrameDecoder,
    clock: FrameClock,
    pacing: Pacing,
    handles: Vec<Option<EntityId>>,
    sent: VecDeque<(u64, u64, Input)>,
    newest: u64,
    acked: Option<(Tick, u64)>,
    announcements: u64,
    lost: Vec<u16>,
    has_lost_everything: bool,
    here: Position,
}

impl Picture {
    /// Returns the view of a client that has just come in; inputs are numbered after `newest`.
    #[must_use]
    pub fn new(welcome: &Welcome, newest: u64) -> Self {
        Self {
            decoder: FrameDecoder::new(welcome.hz),
            clock: FrameClock::new(welcome.hz, welcome.pace_permille, welcome.tick),
            pacing: Pacing::default(),
            handles: Vec::new(),
            sent: VecDeque::new(),
            newest,
            acked: None,
            announcements: 0,
            lost: Vec::new(),
            has_lost_everything: false,
            here: welcome.position,
        }
    }

    /// Follows who and what comes into view and leaves it; returns how many came twice under
    /// different handles, which no server may do.
    pub fn announce(&mut self, announce: &Announce) -> usize {
        self.announcements += 1;
        for &handle in &announce.vanish {
            self.decoder.forget(handle, announce.since);
            if let Some(place) = self.handles.get_mut(usize::from(handle)) {
                *place = None;
            }
        }
        let mut twice = 0;
        for appear in announce.appear.iter().filter(|appear| appear.handle < HANDLES_MAX) {
            let index = usize::from(appear.handle);
            if self.handles.len() <= index {
                self.handles.resize(index + 1, None);
            }
            if self.handles[index] == Some(appear.entity) {
                continue;
            }
            twice += usize::from(self.handles.contains(&Some(appear.entity)));
            self.decoder.forget(appear.handle, announce.since);
            self.handles[index] = Some(appear.entity);
        }
        twice
    }

    /// Returns whether the client has a handle of a body.
    #[must_use]
    pub fn sees(&self, entity: EntityId) -> bool {
        self.handles.contains(&Some(entity))
    }

    /// Follows a change of the world's pace.
    pub fn pace(&mut self, pace: &Pace) {
        self.clock.pace(pace.permille, pace.from);
    }

    /// Asks for the memory that the next frame needs.
    pub fn prefetch(&self) {
        self.decoder.prefetch();
        cache::prefetch(self.handles.as_slice());
    }

    /// Takes in a frame and puts who it shows where into `shown`; nothing if it came before.
    ///
    /// # Errors
    /// When the bytes are no frame, which is the server's fault.
    pub fn frame(
        &mut self,
        bytes: &[u8],
        (now_us, round_trip_us): (u64, u64),
        shown: &mut Vec<(EntityId, Position)>,
    ) -> Result<Option<Seen>, BadFrame> {
        shown.clear();
        let Some(frame) = self.decoder.decode(bytes, self.clock.newest())? else {
            return Ok(None);
        };
        let (tick, states) = (frame.tick, frame.states.len());
        for &(handle, state) in frame.states {
            if let Some(&Some(entity)) = self.handles.get(usize::from(handle)) {
                shown.push((entity, state.position));
            }
        }
        let (own, acked_low) = (frame.own, frame.acked_input);
        self.lost.extend(frame.missing);
        self.has_lost_everything |= frame.has_lost_everything;
        self.clock.frame(tick, now_us);
        self.pacing.start(now_us);
        let acked = expand(acked_low, self.newest).min(self.newest);
        let is_newest = self.acked.is_none_or(|(last, _)| last < tick);
        let own = own.map(|own| {
            let is_first = self.acked.is_none_or(|(last, before)| last < tick && before < acked);
            let sent_us = if is_first { self.sent_us(acked) } else { None };
            Own { at: own.origin(), sent_us }
        });
        if let (Some(own), true) = (own, is_newest) {
            self.here = own.at;
            self.acked = Some((tick, acked));
            self.note_loop(tick, own.sent_us, round_trip_us);
        }
        Ok(Some(Seen { tick, own, states }))
    }

    /// Returns when the next input is due, nothing before the first frame.
    #[must_use]
    pub const fn due_us(&self) -> Option<u64> {
        self.pacing.due_us()
    }

    /// If an input is due, notes what `steer` presses at the body's place and appends the datagram
    /// to `out`; returns whether it did.
    pub fn input(
        &mut self,
        now_us: u64,
        steer: impl FnOnce(Position) -> Input,
        out: &mut Vec<u8>,
    ) -> bool {
        if !self.pacing.is_due(now_us, &self.clock) {
            return false;
        }
        self.note_sent(steer(self.here), now_us);
        let mut inputs = [Input::default(); INPUTS_MAX];
        let newest = self.sent.iter().rev().map(|&(_, _, input)| input);
        let count = inputs.iter_mut().zip(newest).map(|(to, from)| *to = from).count();
        let everything = self.has_lost_everything || LOST_MAX < self.lost.len();
        if everything {
            self.forget_everything();
        }
        let head = InputHead {
            newest: Tick(self.newest).low(),
            acks: self.decoder.acks(),
            announcements: Tick(self.announcements).low(),
            buffer_ticks: BUFFER_TICKS,
            has_lost_everything: everything,
        };
        input::encode(&head, &inputs[..count], &self.lost, out);
        self.lost.clear();
        true
    }

    /// Notes an input that somebody else made and sent for this client.
    pub fn note_sent(&mut self, input: Input, now_us: u64) {
        if SENT_MAX <= self.sent.len() {
            self.sent.pop_front();
        }
        self.newest += 1;
        self.sent.push_back((self.newest, now_us, input));
    }

    /// Forgets all baselines, when the server is asked for everything.
    pub fn forget_everything(&mut self) {
        self.decoder.reset();
        self.has_lost_everything = false;
        self.lost.clear();
    }

    /// Returns the number of the newest input.
    #[must_use]
    pub const fn newest_input(&self) -> u64 {
        self.newest
    }

    /// Returns where the own body was last.
    #[must_use]
    pub const fn here(&self) -> Position {
        self.here
    }

    fn sent_us(&self, number: u64) -> Option<u64> {
        let found = self.sent.iter().rev().find(|(sent, _, _)| *sent == number);
        found.map(|&(_, at_us, _)| at_us)
    }

    fn note_loop(&mut self, tick: Tick, sent_us: Option<u64>, round_trip_us: u64) {
        let (Some(sent_us), Some(arrival_us)) = (sent_us, self.clock.arrival_us(tick)) else {
            return;
        };
        let loop_us = arrival_us.saturating_sub_unsigned(sent_us);
        self.pacing.acknowledged(loop_us, round_trip_us, &self.clock);
    }
}
