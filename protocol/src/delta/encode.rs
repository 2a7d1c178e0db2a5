//! Writing frames: the server's side, one [`FrameEncoder`] per viewer.
//!
//! The entries come by falling priority and leave sorted by handle, so each is packed into a
//! scratch buffer first. A push is refused when the frame, sorted, might exceed its budget.

use super::entry::{ENTRY_BITS_MAX, EntryDelta, Pace, Packed, Reference};
use super::own::{OwnBody, OwnDelta};
use super::sent::SentLog;
use super::{
    AGE_BITS, AGE_MAX, Acks, COUNT_BITS, ENTRIES_MAX, FRAME_BYTES_MAX, FRAME_KIND,
    HANDLES_WITH_BASELINE, HEAD_BYTES, RICE_BITS,
};
use crate::bits::{BitReader, BitWriter};
use crate::state::EntityState;
use crate::units::{Position, Tick};

/// Largest parameter of the handles' rice code.
const RICE_MAX: u32 = (1 << RICE_BITS) - 1;

/// What a frame says beside its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// The tick that the frame shows.
    pub tick: Tick,
    /// Low 16 bits of the number of the newest input that the server has applied.
    pub acked_input: u16,
    /// The receiver's own body, or its camera if it has none. Entities are near it.
    pub own: OwnBody,
    /// World time runs slower than the wall clock; by how much is said reliably.
    pub is_dilated: bool,
    /// Bytes the frame may take, [`FRAME_BYTES_MAX`] at most. The head always goes out.
    pub budget_bytes: usize,
}

/// Buffers for writing frames, used by one frame after another of any viewer.
#[derive(Debug, Default)]
pub struct FrameScratch {
    head: Vec<u8>,
    entries: Vec<Entry>,
    order: Vec<u32>,
}

/// One entry in the scratch buffer.
#[derive(Clone, Copy, Debug)]
struct Entry {
    state: EntityState,
    handle: u16,
    packed: Packed,
}

/// Writes the frames of one viewer, and keeps what of them has arrived.
#[derive(Clone, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct FrameEncoder {
    hz: u16,
    pace: Pace,
    /// The first tick and the newest one; the log counts from the first.
    span: Option<(Tick, Tick)>,
    log: SentLog,
}

impl FrameEncoder {
    /// Returns the encoder of a viewer who was sent nothing, in a world of `hz` ticks per second.
    #[must_use]
    pub fn new(hz: u16) -> Self {
        Self { hz, pace: Pace::new(hz), span: None, log: SentLog::new() }
    }

    /// Starts the frame of `head.tick`, which comes after every tick before it.
    ///
    /// A tick that does not come after the last one starts over, as [`Self::reset`] does.
    pub fn begin<'a>(
        &'a mut self,
        head: &FrameHead,
        scratch: &'a mut FrameScratch,
    ) -> FrameWriter<'a> {
        let first = match self.span {
            Some((first, last)) if head.tick > last => first,
            Some(_) | None => {
                self.reset();
                head.tick
            }
        };
        self.span = Some((first, head.tick));
        let tick = u32::try_from(head.tick.since(first)).unwrap_or(u32::MAX);
        let own = head.own.clamped();
        self.log.open(tick, &own);
        FrameWriter::new(self, tick, head, &own, scratch)
    }

    /// Asks for the memory of all that is known: one miss of the cache after another costs more than
    /// the frame itself where thousands of viewers take turns.
    pub fn prefetch(&self) {
        self.log.prefetch();
    }

    /// Returns whether the viewer must still be told `state` of `handle`.
    ///
    /// Only a body at rest whose very state is the last one sent and has arrived needs nothing.
    #[must_use]
    pub fn needs_send(&self, handle: u16, state: &EntityState) -> bool {
        let is_known = self.log.slot(handle).is_some_and(|slot| {
            slot.is_settled() && slot.baseline().is_some_and(|baseline| baseline == *state)
        });
        !is_known || state.velocity != [0; 3]
    }

    /// Returns the newest state of `handle` that has arrived, with its tick.
    #[must_use]
    pub fn baseline(&self, handle: u16) -> Option<(Tick, EntityState)> {
        let slot = self.log.slot(handle)?;
        let (first, _) = self.span?;
        Some((first.after(u64::from(slot.tick)), slot.baseline()?))
    }

    /// Takes note of the frames that have arrived. Acknowledging what was not sent does nothing.
    pub fn acknowledge(&mut self, acks: Acks) {
        let Some((first, last)) = self.span else { return };
        let newest = Tick::expand(acks.newest, last);
        if newest < first || newest > last {
            return;
        }
        if let Ok(newest) = u32::try_from(newest.since(first)) {
            self.log.acknowledge(newest, acks.before);
        }
    }

    /// Forgets `handle`: it vanished, or the viewer lost its baseline. It is sent in full next.
    pub fn forget(&mut self, handle: u16) {
        self.log.forget(handle);
    }

    /// Forgets everything the viewer was sent: the next frame is told in full.
    pub fn reset(&mut self) {
        self.log.reset();
        self.span = None;
    }

    /// Returns the bytes that this encoder holds.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.log.memory_bytes() + size_of::<Self>() - size_of::<SentLog>()
    }
}

/// A frame being filled. Dropping it unfinished is as if the frame were lost.
#[derive(Debug)]
pub struct FrameWriter<'a> {
    encoder: &'a mut FrameEncoder,
    tick: u32,
    origin: Position,
    /// Tick of the common baseline.
    common: Option<u32>,
    head: &'a mut Vec<u8>,
    head_bits: usize,
    entries: &'a mut Vec<Entry>,
    order: &'a mut Vec<u32>,
    /// Bits of the entries without their handles.
    entries_bits: usize,
    highest: u16,
    budget_bits: usize,
}

impl<'a> FrameWriter<'a> {
    fn new(
        encoder: &'a mut FrameEncoder,
        tick: u32,
        head: &FrameHead,
        own: &OwnBody,
        scratch: &'a mut FrameScratch,
    ) -> Self {
        let FrameScratch { head: bytes, entries, order } = scratch;
        bytes.clear();
        entries.clear();
        let common = encoder.log.common().filter(|&(newest, _)| tick - newest <= AGE_MAX);
        bytes.push(FRAME_KIND);
        bytes.extend_from_slice(&head.tick.low().to_le_bytes());
        bytes.extend_from_slice(&head.acked_input.to_le_bytes());
        let mut writer = BitWriter::new(bytes, FRAME_BYTES_MAX);
        writer.write_bool(head.is_dilated);
        writer.write_bool(false);
        let (age, baseline) = common.map_or_else(Default::default, |(at, own)| (tick - at, own));
        writer.write(u64::from(age), AGE_BITS);
        OwnDelta::between(&baseline, age, encoder.hz, own).write(&mut writer);
        let head_bits = writer.bits();
        writer.finish();
        Self {
            tick,
            origin: own.origin(),
            common: common.map(|(at, _)| at),
            encoder,
            head: bytes,
            head_bits,
            entries,
            order,
            entries_bits: 0,
            highest: 0,
            budget_bits: head.budget_bytes.min(FRAME_BYTES_MAX) * 8,
        }
    }

    /// Adds the state of `handle`, unless the frame might exceed its budget: then returns false.
    ///
    /// Velocities are brought into the range of [`EntityState::velocity`]. Of a handle pushed
    /// twice the first state counts.
    pub fn push(&mut self, handle: u16, state: &EntityState) -> bool {
        if self.entries.len() >= ENTRIES_MAX {
            return false;
        }
        let limit = EntityState::VELOCITY_MAX;
        let velocity = state.velocity.map(|steps| steps.clamp(-limit, limit));
        let state = EntityState { velocity, ..*state };
        let (delta, reference) = self.delta(handle, &state);
        let packed = delta.pack(reference);
        let highest = self.highest.max(handle);
        let entries_bits = self.entries_bits + packed.bits();
        if !self.has_room(self.entries.len() + 1, highest, packed.bits()) {
            return false;
        }
        self.entries.push(Entry { state, handle, packed });
        self.highest = highest;
        self.entries_bits = entries_bits;
        true
    }

    /// Returns whether `count` entries fit, whatever they tell.
    #[must_use]
    pub fn holds(&self, count: usize) -> bool {
        let fixed_bits = self.head_bits + (COUNT_BITS + RICE_BITS) as usize;
        // A handle takes no more bits than there are handles.
        let handles_bits = count + usize::from(HANDLES_WITH_BASELINE);
        fixed_bits + handles_bits + count * ENTRY_BITS_MAX <= self.budget_bits
    }

    /// Returns the most bits that the frame takes if it is finished now.
    #[must_use]
    pub fn bits(&self) -> usize {
        self.bits_with(self.entries.len(), self.highest)
    }

    fn bits_with(&self, count: usize, highest: u16) -> usize {
        let (_, handles_bits) = handles_code(count, highest);
        let fixed_bits = (COUNT_BITS + if count > 0 { RICE_BITS } else { 0 }) as usize;
        self.head_bits + fixed_bits + handles_bits + self.entries_bits
    }

    /// Returns whether `count` entries, the last of `bits` bits, fit into the budget.
    fn has_room(&self, count: usize, highest: u16, bits: usize) -> bool {
        // The handles without any rest are no better than the best code, and known at once.
        let handles_bits = count.max(usize::from(highest) + 1);
        let fixed_bits = self.head_bits + (COUNT_BITS + RICE_BITS) as usize;
        let at_most = fixed_bits + handles_bits + self.entries_bits + bits;
        at_most <= self.budget_bits || self.bits_with(count, highest) + bits <= self.budget_bits
    }

    /// Returns what `state` is told against, and how it differs.
    #[inline(always)]
    fn delta(&self, handle: u16, state: &EntityState) -> (EntryDelta, Reference) {
        let pace = self.encoder.pace;
        if let Some(common) = self.common
            && let Some(slot) = self.encoder.log.slot(handle)
            && let Some(baseline) = slot.baseline()
            && self.tick - slot.tick <= AGE_MAX
        {
            let delta = EntryDelta::between(&baseline, self.tick - slot.tick, pace, state);
            return (delta, Reference::Behind(common - slot.tick));
        }
        let resting = EntityState { position: self.origin, ..EntityState::default() };
        (EntryDelta::between(&resting, 0, pace, state), Reference::Origin)
    }

    /// Appends the frame to `out` and returns how many bytes it took.
    pub fn finish(self, out: &mut Vec<u8>) -> usize {
        let Self { encoder, tick, head, head_bits, entries, order, highest, .. } = self;
        order.clear();
        let keys = (0_u32..).zip(entries.iter()).map(|(i, e)| u32::from(e.handle) << 16 | i);
        order.extend(keys);
        order.sort_unstable();
        order.dedup_by_key(|key| *key >> 16);
        let start = out.len();
        out.extend_from_slice(head.get(..HEAD_BYTES).unwrap_or_default());
        let mut writer = BitWriter::new(out, start + FRAME_BYTES_MAX);
        copy(head, HEAD_BYTES * 8, head_bits - HEAD_BYTES * 8, &mut writer);
        writer.write(order.len() as u64, COUNT_BITS);
        let (k, _) = handles_code(order.len(), highest);
        if !order.is_empty() {
            writer.write(u64::from(k), RICE_BITS);
        }
        let mut next = 0;
        for &key in order.iter() {
            let Some(entry) = entries.get((key & 0xFFFF) as usize) else { continue };
            let handle = u32::from(entry.handle);
            entry.packed.append_behind(u64::from(handle - next), k, &mut writer);
            encoder.log.note(tick, entry.handle, &entry.state);
            next = handle + 1;
        }
        writer.finish();
        out.len() - start
    }
}

/// Returns the best rice parameter for `count` different handles up to `highest`, and the most
/// bits that they take with it.
fn handles_code(count: usize, highest: u16) -> (u32, usize) {
    let gaps = (usize::from(highest) + 1).saturating_sub(count);
    let mut k = 0;
    // One bit more for each handle pays while the ones that it saves are as many.
    while k < RICE_MAX && (gaps >> k) - (gaps >> (k + 1)) > count {
        k += 1;
    }
    (k, if count == 0 { 0 } else { count * (k as usize + 1) + (gaps >> k) })
}

/// Copies `bits` bits of `bytes` from bit `first` on.
fn copy(bytes: &[u8], first: usize, bits: usize, writer: &mut BitWriter<'_>) {
    let mut reader = BitReader::starting_at(bytes, first);
    let mut left = bits;
    while left > 0 {
        let step = BitReader::PEEK_BITS.min(u32::try_from(left).unwrap_or(u32::MAX));
        writer.write(reader.peek(), step);
        if reader.skip(step).is_none() {
            return;
        }
        left -= step as usize;
    }
}
