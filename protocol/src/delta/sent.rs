//! What one viewer was sent and what of it has arrived: the server's side of the baselines.
//!
//! Frames wait in a small log until they are acknowledged; then their states become baselines.
//! The log is bounded: while it is full, frames go out but are not remembered, which costs some
//! precision of the next prediction and nothing else. Sent states wait packed into 16 bytes,
//! because a server holds one log per viewer.

use std::collections::VecDeque;

use super::HANDLES_WITH_BASELINE;
use super::own::{AT_STEPS_PER_CM, OwnBody};
use crate::cache;
use crate::state::EntityState;
use crate::units::Position;

/// Frames that wait for an acknowledgement: 0.8 s at 20 Hz, three times a long round trip.
const FRAMES_MAX: usize = 16;

/// States that wait for an acknowledgement: see the measurements in [`crate::delta`].
const STATES_MAX: usize = 128;

/// Ticks after which a frame counts as lost once a newer one has arrived: few are overtaken by
/// more, and waiting for those would keep room from others.
const LATE_TICKS_MAX: u32 = 2;

/// Bits of a coordinate of a waiting state, relative to its frame's origin: +-5.2 km.
const COORDINATE_BITS: u32 = 20;

/// The newest state of one handle that has arrived.
#[derive(Clone, Copy, Debug, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct Slot {
    position: Position,
    /// Low 32 bits of the tick of the frame that carried it.
    pub(super) tick: u32,
    velocity: [i16; 3],
    /// Low bits of a tick after which only states equal to this one were sent.
    changed: u16,
    yaw: u8,
    animation: u8,
    flags: u8,
    stage: Stage,
}

/// What a [`Slot`] knows.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
enum Stage {
    /// Nothing has arrived.
    #[default]
    Empty,
    /// A state has arrived; others were sent that may have arrived after it.
    Unsettled,
    /// Whatever arrived last equals this state.
    Settled,
}

impl Slot {
    /// Returns the baseline, nothing before one has arrived.
    #[inline]
    pub(super) fn baseline(&self) -> Option<EntityState> {
        (self.stage != Stage::Empty).then_some(EntityState {
            position: self.position,
            velocity: self.velocity,
            yaw: self.yaw,
            animation: self.animation,
            flags: self.flags,
        })
    }

    /// Returns whether the viewer shows the baseline, whatever else is under way.
    pub(super) fn is_settled(&self) -> bool {
        self.stage == Stage::Settled
    }

    /// Notes that `state` is sent at `tick`.
    fn send(&mut self, tick: u32, state: &EntityState) {
        if self.baseline().is_some_and(|baseline| baseline != *state) {
            self.stage = Stage::Unsettled;
            self.changed = low(tick);
        }
    }

    /// Makes `state` of the frame of `tick` the baseline; frames went out until `last`.
    fn adopt(&mut self, tick: u32, state: EntityState, last: u32) {
        // Any other state sent up to now could arrive after this one.
        let is_same = self.baseline() == Some(state);
        let changed = if is_same { self.changed } else { low(last) };
        let is_after = low(tick).wrapping_sub(changed).cast_signed() >= 0;
        let is_settled = is_after || is_same && self.stage == Stage::Settled;
        let stage = if is_settled { Stage::Settled } else { Stage::Unsettled };
        let EntityState { position, velocity, yaw, animation, flags } = state;
        *self = Self { position, tick, velocity, changed, yaw, animation, flags, stage };
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are what is asked for")]
const fn low(tick: u32) -> u16 {
    tick as u16
}

/// One frame that waits for its acknowledgement.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct SentFrame {
    tick: u32,
    origin: Position,
    velocity: [i32; 3],
    /// What `origin` cuts off the body's coordinates.
    fractions: [u8; 3],
    mode: u8,
    cooldown: u8,
    states: u8,
    arrived: bool,
}

impl SentFrame {
    fn new(tick: u32, own: &OwnBody) -> Self {
        let fraction = |steps: i64| u8::try_from(steps.rem_euclid(AT_STEPS_PER_CM)).unwrap_or(0);
        Self {
            tick,
            origin: own.origin(),
            velocity: own.velocity,
            fractions: own.at.map(fraction),
            mode: own.mode,
            cooldown: own.cooldown,
            states: 0,
            arrived: false,
        }
    }

    fn own(&self) -> OwnBody {
        let [x, y, z] = self.fractions.map(i64::from);
        let at = |cm: i32, fraction| i64::from(cm) * AT_STEPS_PER_CM + fraction;
        OwnBody {
            at: [at(self.origin.x, x), at(self.origin.y, y), at(self.origin.z, z)],
            velocity: self.velocity,
            mode: self.mode,
            cooldown: self.cooldown,
        }
    }
}

/// A state that waits, in 128 bits. `place`: x, y, z (20 bits each, from the frame's origin) and the
/// low half of the handle; `rest`: velocity (12 bits each), yaw, animation, flags and its high half.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct SentState {
    place: u64,
    rest: u64,
}

impl SentState {
    /// Returns the packed state, nothing if it is too far from `origin`.
    #[inline]
    fn pack(handle: u8, state: &EntityState, origin: Position) -> Option<Self> {
        let offset = |at: i32, from: i32| {
            let offset = i64::from(at) - i64::from(from);
            let half = 1 << (COORDINATE_BITS - 1);
            (-half..half).contains(&offset).then(|| (offset + half).cast_unsigned())
        };
        let x = offset(state.position.x, origin.x)?;
        let y = offset(state.position.y, origin.y)?;
        let z = offset(state.position.z, origin.z)?;
        let [vx, vy, vz] = state.velocity.map(|steps| u64::from(steps.cast_unsigned()) & 0xFFF);
        let [yaw, animation, flags] = [state.yaw, state.animation, state.flags].map(u64::from);
        let handle = u64::from(handle);
        Some(Self {
            place: x | y << 20 | z << 40 | (handle & 0xF) << 60,
            rest: vx
                | vy << 12
                | vz << 24
                | yaw << 36
                | animation << 44
                | flags << 52
                | (handle >> 4) << 60,
        })
    }

    #[inline]
    const fn handle(self) -> u8 {
        (self.place >> 60) as u8 | ((self.rest >> 60) as u8) << 4
    }

    #[expect(clippy::cast_possible_truncation, reason = "cuts the fields out of the words")]
    #[inline]
    fn state(self, origin: Position) -> EntityState {
        let Self { place, rest } = self;
        let coordinate = |shift: u32, from: i32| {
            let half = 1 << (COORDINATE_BITS - 1);
            from.wrapping_add((place >> shift & 0xF_FFFF) as i32 - half)
        };
        // Moved to the top and back, the sign fills the upper bits.
        let velocity = |shift: u32| ((rest >> shift << 4) as u16).cast_signed() >> 4;
        EntityState {
            position: Position {
                x: coordinate(0, origin.x),
                y: coordinate(20, origin.y),
                z: coordinate(40, origin.z),
            },
            velocity: [velocity(0), velocity(12), velocity(24)],
            yaw: (rest >> 36) as u8,
            animation: (rest >> 44) as u8,
            flags: (rest >> 52) as u8,
        }
    }

    /// Marks the state as none of any handle: 255 has no slot.
    fn forget(&mut self) {
        self.place |= 0xF << 60;
        self.rest |= 0xF << 60;
    }
}

/// What one viewer was sent, and the baselines that follow from what has arrived.
#[derive(Clone, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct SentLog {
    frames: VecDeque<SentFrame>,
    states: VecDeque<SentState>,
    slots: Vec<Slot>,
    /// The newest frame that has arrived.
    common: Option<(u32, OwnBody)>,
    /// The newest frame sent.
    last: u32,
}

impl SentLog {
    pub(super) fn new() -> Self {
        Self {
            frames: VecDeque::with_capacity(FRAMES_MAX),
            states: VecDeque::with_capacity(STATES_MAX),
            slots: Vec::new(),
            common: None,
            last: 0,
        }
    }

    /// Returns the newest frame that has arrived, its tick and its own body.
    pub(super) const fn common(&self) -> Option<(u32, OwnBody)> {
        self.common
    }

    /// Returns what is known about `handle`.
    #[inline]
    pub(super) fn slot(&self, handle: u16) -> Option<&Slot> {
        self.slots.get(usize::from(handle))
    }

    /// Asks for all of the log's memory.
    pub(super) fn prefetch(&self) {
        let Self { frames, states, slots, common: _, last: _ } = self;
        let ((frames, more_frames), (states, more_states)) =
            (frames.as_slices(), states.as_slices());
        [frames, more_frames].into_iter().for_each(cache::prefetch);
        [states, more_states].into_iter().for_each(cache::prefetch);
        cache::prefetch(slots.as_slice());
    }

    /// Returns the bytes this log holds.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.frames.capacity() * size_of::<SentFrame>()
            + self.states.capacity() * size_of::<SentState>()
            + self.slots.capacity() * size_of::<Slot>()
    }

    /// Notes that a frame goes out, as far as the log has room.
    pub(super) fn open(&mut self, tick: u32, own: &OwnBody) {
        self.last = tick;
        self.settle(tick);
        if self.frames.len() < FRAMES_MAX {
            self.frames.push_back(SentFrame::new(tick, own));
        }
    }

    /// Notes that the frame of `tick`, opened last, carries this state.
    #[inline]
    pub(super) fn note(&mut self, tick: u32, handle: u16, state: &EntityState) {
        let Some(handle) =
            u8::try_from(handle).ok().filter(|&h| u16::from(h) < HANDLES_WITH_BASELINE)
        else {
            return;
        };
        let index = usize::from(handle);
        if self.slots.len() <= index {
            self.slots.reserve_exact(index + 1 - self.slots.len());
            self.slots.resize(index + 1, Slot::default());
        }
        if let Some(slot) = self.slots.get_mut(index) {
            slot.send(tick, state);
        }
        if self.states.len() >= STATES_MAX {
            return;
        }
        let Some(frame) = self.frames.back_mut().filter(|frame| frame.tick == tick) else { return };
        if let Some(packed) = SentState::pack(handle, state, frame.origin) {
            self.states.push_back(packed);
            frame.states = frame.states.saturating_add(1);
        }
    }

    /// Makes baselines of the frames of tick `newest` and of those bits of `before` name: bit `i`
    /// stands for the tick `i + 1` before.
    pub(super) fn acknowledge(&mut self, newest: u32, before: u32) {
        let has_arrived = |tick: u32| match newest.checked_sub(tick) {
            None => false,
            Some(0) => true,
            Some(ago) => before.checked_shr(ago - 1).is_some_and(|bits| bits & 1 == 1),
        };
        let mut first = 0;
        for index in 0..self.frames.len() {
            let Some(frame) = self.frames.get_mut(index) else { return };
            let end = first + usize::from(frame.states);
            if !frame.arrived && has_arrived(frame.tick) {
                frame.arrived = true;
                let frame = *frame;
                self.adopt(&frame, first..end);
            }
            first = end;
        }
        if let Some((newest, _)) = self.common {
            self.settle(newest);
        }
    }

    fn adopt(&mut self, frame: &SentFrame, states: std::ops::Range<usize>) {
        if self.common.is_none_or(|(newest, _)| newest < frame.tick) {
            self.common = Some((frame.tick, frame.own()));
        }
        for packed in self.states.range(states) {
            // A forgotten one has no slot: its number lies above them all.
            let Some(slot) = self.slots.get_mut(usize::from(packed.handle())) else { continue };
            if slot.stage == Stage::Empty || slot.tick < frame.tick {
                slot.adopt(frame.tick, packed.state(frame.origin), self.last);
            }
        }
    }

    /// Drops from the front what has arrived, is lost, or is too old for a baseline at `now`.
    fn settle(&mut self, now: u32) {
        let newest = self.common.map(|(tick, _)| tick);
        while let Some(frame) = self.frames.front() {
            let is_lost =
                newest.is_some_and(|newest| frame.tick.saturating_add(LATE_TICKS_MAX) < newest);
            if !frame.arrived && !is_lost && now.saturating_sub(frame.tick) <= super::AGE_MAX {
                return;
            }
            let states = usize::from(frame.states);
            self.states.drain(..states.min(self.states.len()));
            self.frames.pop_front();
        }
    }

    /// Forgets everything about `handle`, states under way included.
    pub(super) fn forget(&mut self, handle: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(handle)) {
            *slot = Slot::default();
        }
        for state in &mut self.states {
            if u16::from(state.handle()) == handle {
                state.forget();
            }
        }
    }

    /// Forgets everything.
    pub(super) fn reset(&mut self) {
        self.frames.clear();
        self.states.clear();
        self.slots.fill(Slot::default());
        self.common = None;
    }
}
