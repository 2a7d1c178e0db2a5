//! Reading frames: the client's side, and which frames to acknowledge.
//!
//! A frame is acknowledged only when everything in it was understood, so the server never
//! builds on a state that this side does not hold. States are kept per handle as long as a
//! frame may still refer to them.

use std::collections::VecDeque;

use super::entry::{EntryDelta, Pace, Reference};
use super::kept::Kept;
use super::own::{OwnBody, OwnDelta};
use super::{AGE_BITS, AGE_MAX, Acks, COUNT_BITS, FRAME_KIND, HANDLES_WITH_BASELINE, RICE_BITS};
use crate::bits::BitReader;
use crate::state::EntityState;
use crate::units::Tick;

/// Ticks that own bodies are kept beyond the newest baseline the server has used: frames that
/// overtook each other refer that much further back.
const LATE_TICKS_MAX: u64 = 16;

/// Ticks that most entries refer back to at a short round trip.
const REFERRED_TICKS: u64 = 4;

/// Handles above the baselines whose reuse is remembered; the longest forgotten goes first.
const HIGH_HANDLES_MAX: usize = 256;

/// A frame, as far as it could be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The tick that the frame shows.
    pub tick: Tick,
    /// Low 16 bits of the number of the newest input that the server has applied.
    pub acked_input: u16,
    /// The own body, nothing if its baseline is lost.
    pub own: Option<OwnBody>,
    /// The baseline of the own body is lost although the frame is the newest: nothing can be
    /// understood until the server was asked for everything.
    pub has_lost_everything: bool,
    /// World time runs slower than the wall clock.
    pub is_dilated: bool,
    /// States by rising handle.
    pub states: &'a [(u16, EntityState)],
    /// Handles whose baseline is lost: ask for them in full. Of a frame that was overtaken none
    /// are listed, newer ones say what is needed.
    pub missing: &'a [u16],
}

/// Bytes that are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// Another kind of datagram.
    #[error("datagram of kind {kind:?} is not a frame (kind 1)")]
    Kind {
        /// The first byte, nothing of an empty datagram.
        kind: Option<u8>,
    },
    /// The bytes end too early.
    #[error("frame of {bytes} bytes ends within its head")]
    Head {
        /// Length of the datagram.
        bytes: usize,
    },
    /// An entry ends too early or says what no entry can.
    #[error("frame of {bytes} bytes: entry {entry} cannot be read")]
    Entry {
        /// Length of the datagram.
        bytes: usize,
        /// How many entries were read before.
        entry: usize,
    },
}

/// Reads the frames of one session.
#[derive(Clone, Debug)]
pub struct FrameDecoder {
    hz: u16,
    pace: Pace,
    /// The newest frame understood in full, and bit `i` for the one of `i` ticks before.
    received: Option<(Tick, u64)>,
    /// Own bodies by rising tick.
    owns: VecDeque<(Tick, OwnBody)>,
    kept: Kept,
    entries: Vec<Entry>,
    high: Vec<(u16, Tick)>,
    states: Vec<(u16, EntityState)>,
    missing: Vec<u16>,
}

/// An entry, parsed.
#[derive(Clone, Copy, Debug)]
struct Entry {
    handle: u16,
    /// Age of its baseline, nothing if it is told in full.
    baseline: Option<u32>,
    delta: EntryDelta,
}

/// The head of a frame, parsed.
struct Head {
    tick: Tick,
    acked_input: u16,
    is_dilated: bool,
    age: u32,
    own: OwnDelta,
}

impl FrameDecoder {
    /// Returns the decoder of a session that has received nothing, in a world of `hz` ticks per
    /// second.
    #[must_use]
    pub fn new(hz: u16) -> Self {
        Self {
            hz,
            pace: Pace::new(hz),
            received: None,
            owns: VecDeque::new(),
            kept: Kept::default(),
            entries: Vec::new(),
            high: Vec::new(),
            states: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// Reads a frame of a tick near `near`: nothing if it was received before or is too old.
    ///
    /// A frame that is refused changes nothing.
    ///
    /// # Errors
    /// When the bytes are no frame, which is the sender's fault.
    pub fn decode(&mut self, bytes: &[u8], near: Tick) -> Result<Option<Frame<'_>>, BadFrame> {
        let (head, mut reader) = read_head(bytes, near)?;
        if !self.is_new(head.tick) {
            return Ok(None);
        }
        let own = self.own(&head);
        let is_newest = self.received.is_none_or(|(newest, _)| newest < head.tick);
        self.read_entries(bytes.len(), &head, own, &mut reader)?;
        self.keep(&head, own);
        if !is_newest || own.is_none() {
            self.missing.clear();
        }
        Ok(Some(Frame {
            tick: head.tick,
            acked_input: head.acked_input,
            own,
            has_lost_everything: is_newest && own.is_none(),
            is_dilated: head.is_dilated,
            states: &self.states,
            missing: &self.missing,
        }))
    }

    /// Asks for the memory that the next frame most likely needs, for a program that follows thousands
    /// of sessions in turn.
    pub fn prefetch(&self) {
        if let Some((newest, _)) = self.received {
            self.kept.prefetch(newest, REFERRED_TICKS);
        }
    }

    /// Returns which frames to acknowledge, nothing before the first.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "acknowledges the newest 33 of 64")]
    pub fn acks(&self) -> Option<Acks> {
        let (newest, bits) = self.received?;
        Some(Acks { newest: newest.low(), before: (bits >> 1) as u32 })
    }

    /// Forgets `handle`: frames before `since` speak of an earlier bearer and say nothing.
    pub fn forget(&mut self, handle: u16, since: Tick) {
        if handle >= HANDLES_WITH_BASELINE {
            let since = since.max(self.since(handle));
            self.high.retain(|&(known, _)| known != handle);
            if self.high.len() >= HIGH_HANDLES_MAX {
                self.high.remove(0);
            }
            self.high.push((handle, since));
            return;
        }
        self.kept.forget(handle, since);
    }

    /// Returns what is kept of `handle`, by rising tick: frames may overtake the announcement that
    /// says whose it is.
    pub fn kept(&self, handle: u16) -> impl Iterator<Item = (Tick, EntityState)> + use<> {
        self.kept.states(handle).into_iter()
    }

    /// Forgets everything received, after the server was asked for everything.
    pub fn reset(&mut self) {
        *self = Self::new(self.hz);
    }

    fn is_new(&self, tick: Tick) -> bool {
        let Some((newest, bits)) = self.received else { return true };
        if tick > newest {
            return true;
        }
        let ago = newest.since(tick);
        ago <= u64::from(AGE_MAX) && bits >> ago & 1 == 0
    }

    fn own(&self, head: &Head) -> Option<OwnBody> {
        let baseline = match head.age {
            0 => OwnBody::default(),
            age => find(&self.owns, back(head.tick, age)?)?,
        };
        Some(head.own.apply(&baseline, head.age, self.hz))
    }

    /// Reads the entries into `states` and `missing`.
    fn read_entries(
        &mut self,
        bytes: usize,
        head: &Head,
        own: Option<OwnBody>,
        reader: &mut BitReader<'_>,
    ) -> Result<(), BadFrame> {
        self.entries.clear();
        let (count, k) = read_count(reader).ok_or(BadFrame::Head { bytes })?;
        let mut next = 0_u64;
        for entry in 0..count {
            let handle = next_handle(reader, k, next).ok_or(BadFrame::Entry { bytes, entry })?;
            next = u64::from(handle) + 1;
            let (reference, delta) =
                EntryDelta::read(reader).ok_or(BadFrame::Entry { bytes, entry })?;
            let baseline = match reference {
                Reference::Origin => None,
                Reference::Behind(ticks) if head.age > 0 && head.age + ticks <= AGE_MAX => {
                    Some(head.age + ticks)
                }
                Reference::Behind(_) => return Err(BadFrame::Entry { bytes, entry }),
            };
            self.entries.push(Entry { handle, baseline, delta });
        }
        self.states.clear();
        self.missing.clear();
        // Read in whole before anything is looked up, so that no look-up waits for another.
        for index in 0..self.entries.len() {
            let Some(&Entry { handle, baseline, delta }) = self.entries.get(index) else { break };
            if head.tick < self.since(handle) {
                continue;
            }
            let baseline = (head.tick, baseline);
            match self.state(baseline, handle, own, &delta) {
                Some(state) => self.states.push((handle, state)),
                None => self.missing.push(handle),
            }
        }
        Ok(())
    }

    /// Returns the state that differs by `delta` from the baseline of this age.
    fn state(
        &self,
        (tick, age): (Tick, Option<u32>),
        handle: u16,
        own: Option<OwnBody>,
        delta: &EntryDelta,
    ) -> Option<EntityState> {
        let Some(age) = age else {
            let resting = EntityState { position: own?.origin(), ..EntityState::default() };
            return Some(delta.apply(&resting, 0, self.pace));
        };
        let baseline = self.kept.find(handle, back(tick, age)?)?;
        Some(delta.apply(&baseline, age, self.pace))
    }

    /// Keeps what was read, and notes the frame as received if it was understood in full.
    fn keep(&mut self, head: &Head, own: Option<OwnBody>) {
        let tick = head.tick;
        let is_whole = own.is_some() && self.missing.is_empty();
        if let Some(own) = own {
            let oldest = back(tick, head.age).filter(|_| head.age > 0);
            insert(&mut self.owns, tick, own, oldest);
        }
        self.kept.insert(tick, &self.states);
        if is_whole {
            self.received = Some(match self.received {
                None => (tick, 1),
                Some((newest, bits)) if tick > newest => {
                    let shift = u32::try_from(tick.since(newest)).unwrap_or(u32::MAX);
                    (tick, bits.checked_shl(shift).unwrap_or(0) | 1)
                }
                Some((newest, bits)) => (newest, bits | 1 << newest.since(tick).min(63)),
            });
        }
    }

    fn since(&self, handle: u16) -> Tick {
        if handle < HANDLES_WITH_BASELINE {
            return self.kept.since(handle);
        }
        let known = self.high.iter().find(|&&(known, _)| known == handle);
        known.map_or(Tick(0), |&(_, since)| since)
    }
}

fn read_head(bytes: &[u8], near: Tick) -> Result<(Head, BitReader<'_>), BadFrame> {
    let kind = bytes.first().copied();
    if kind != Some(FRAME_KIND) {
        return Err(BadFrame::Kind { kind });
    }
    let mut reader = BitReader::new(bytes);
    let head = parse_head(&mut reader, near).ok_or(BadFrame::Head { bytes: bytes.len() })?;
    Ok((head, reader))
}

fn parse_head(reader: &mut BitReader<'_>, near: Tick) -> Option<Head> {
    reader.skip(8)?;
    let low = u16::try_from(reader.read(16)?).ok()?;
    let acked_input = u16::try_from(reader.read(16)?).ok()?;
    let is_dilated = reader.read_bool()?;
    reader.skip(1)?;
    let age = u32::try_from(reader.read(AGE_BITS)?).ok()?;
    let own = OwnDelta::read(reader)?;
    Some(Head { tick: Tick::expand(low, near), acked_input, is_dilated, age, own })
}

/// Returns how many entries follow and the parameter of their handles' code.
fn read_count(reader: &mut BitReader<'_>) -> Option<(usize, u32)> {
    let count = usize::try_from(reader.read(COUNT_BITS)?).ok()?;
    let k = if count > 0 { u32::try_from(reader.read(RICE_BITS)?).ok()? } else { 0 };
    Some((count, k))
}

/// Returns the next handle, `next` or above.
fn next_handle(reader: &mut BitReader<'_>, k: u32, next: u64) -> Option<u16> {
    let gap = reader.read_rice(k, u64::from(u16::MAX).checked_sub(next)?)?;
    u16::try_from(next + gap).ok()
}

/// Returns the tick `age` ticks before `tick`.
fn back(tick: Tick, age: u32) -> Option<Tick> {
    tick.0.checked_sub(u64::from(age)).map(Tick)
}

/// Returns what was kept of `tick`.
fn find<T: Copy>(kept: &VecDeque<(Tick, T)>, tick: Tick) -> Option<T> {
    // Baselines are mostly a few ticks old.
    kept.iter().rev().find(|&&(at, _)| at == tick).map(|&(_, value)| value)
}

/// Keeps the value of `tick`, and drops what no frame refers to any more once one of `tick`
/// refers to `oldest`.
fn insert<T>(kept: &mut VecDeque<(Tick, T)>, tick: Tick, value: T, oldest: Option<Tick>) {
    let newest = kept.back().map(|&(newest, _)| newest);
    if newest.is_some_and(|newest| newest.since(tick) > u64::from(AGE_MAX)) {
        return;
    }
    if newest.is_none_or(|newest| newest < tick) {
        let by_age = tick.0.saturating_sub(u64::from(AGE_MAX));
        let by_use = oldest.map_or(0, |oldest| oldest.0.saturating_sub(LATE_TICKS_MAX));
        while kept.front().is_some_and(|&(at, _)| at.0 < by_age.max(by_use)) {
            kept.pop_front();
        }
        kept.push_back((tick, value));
        return;
    }
    let index = kept.partition_point(|&(at, _)| at < tick);
    match kept.get_mut(index) {
        Some(place) if place.0 == tick => place.1 = value,
        Some(_) | None => kept.insert(index, (tick, value)),
    }
}
