//! What the client's side keeps of frames: the states that later ones may refer to.
//!
//! States lie by frame and rising handle, as they came. A frame mostly refers to the same few
//! before it: a program that follows thousands of viewers spends its time waiting for memory, and
//! this touches little.

use super::{AGE_MAX, HANDLES_WITH_BASELINE};
use crate::cache;
use crate::state::EntityState;
use crate::units::Tick;

/// Frames kept: one for every age that a baseline can have.
const FRAMES: usize = AGE_MAX as usize + 1;

/// Handles in one word of bits, and words for all that have baselines.
const WORD_BITS: u16 = 64;
const WORDS: usize = HANDLES_WITH_BASELINE.div_ceil(WORD_BITS) as usize;

/// The states kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    /// The frame of each tick at the tick's place in the round; as many as were needed so far.
    frames: Vec<Shown>,
    /// By handle, the first tick of its bearer: frames before it speak of an earlier one.
    since: Vec<Tick>,
}

/// What a frame showed.
#[derive(Clone, Debug, Default)]
struct Shown {
    tick: Tick,
    /// One bit for each handle that it told of, and how many states lie before each word's.
    handles: [u64; WORDS],
    before: [u8; WORDS],
    /// By rising handle.
    states: Vec<EntityState>,
}

impl Shown {
    /// Returns the state of a handle: its place is the number of bits below its own.
    #[inline]
    fn state(&self, handle: u16) -> Option<EntityState> {
        let word = usize::from(handle / WORD_BITS);
        let (handles, before) = (self.handles.get(word)?, self.before.get(word)?);
        let bit = 1_u64 << (handle % WORD_BITS);
        if handles & bit == 0 {
            return None;
        }
        let place = usize::from(*before) + (handles & (bit - 1)).count_ones() as usize;
        self.states.get(place).copied()
    }

    /// Takes the states of a frame, by rising handle, instead of what it held.
    fn fill(&mut self, tick: Tick, states: &[(u16, EntityState)]) {
        self.tick = tick;
        self.handles = [0; WORDS];
        self.states.clear();
        let below = states.iter().take_while(|(handle, _)| *handle < HANDLES_WITH_BASELINE);
        for &(handle, state) in below {
            if let Some(handles) = self.handles.get_mut(usize::from(handle / WORD_BITS)) {
                *handles |= 1 << (handle % WORD_BITS);
                self.states.push(state);
            }
        }
        let mut before = 0_u8;
        for (count, handles) in self.before.iter_mut().zip(self.handles) {
            *count = before;
            before = before.saturating_add(u8::try_from(handles.count_ones()).unwrap_or(u8::MAX));
        }
    }
}

impl Kept {
    /// Returns the first tick of the handle's bearer.
    pub(super) fn since(&self, handle: u16) -> Tick {
        self.since.get(usize::from(handle)).copied().unwrap_or_default()
    }

    /// Forgets what a handle's earlier bearer left: its own begins at `since`.
    pub(super) fn forget(&mut self, handle: u16, since: Tick) {
        if HANDLES_WITH_BASELINE <= handle {
            return;
        }
        let index = usize::from(handle);
        if self.since.len() <= index {
            self.since.resize(index + 1, Tick::default());
        }
        if let Some(known) = self.since.get_mut(index) {
            *known = since.max(*known);
        }
    }

    /// Asks for the memory of the frames of the `count` ticks up to `newest`, and of the place where
    /// that of the next tick goes.
    pub(super) fn prefetch(&self, newest: Tick, count: u64) {
        cache::prefetch(self.since.as_slice());
        for ago in 0..=count {
            let tick = Tick(newest.0.saturating_add(1).saturating_sub(ago));
            let shown = self.frames.get(place(tick));
            shown.into_iter().for_each(|shown| cache::prefetch(shown.states.as_slice()));
        }
    }

    /// Returns what is kept of a handle, by rising tick.
    pub(super) fn states(&self, handle: u16) -> Vec<(Tick, EntityState)> {
        let frames = self.frames.iter();
        let found = frames.filter_map(|shown| Some((shown.tick, shown.state(handle)?)));
        let since = self.since(handle);
        let mut found: Vec<_> = found.filter(|&(tick, _)| since <= tick).collect();
        found.sort_unstable_by_key(|&(tick, _)| tick);
        let newest = found.last().map_or(0, |&(tick, _)| tick.0);
        found.retain(|&(tick, _)| newest - tick.0 <= u64::from(AGE_MAX));
        found
    }

    /// Returns what was kept of a handle at `tick`.
    #[inline]
    pub(super) fn find(&self, handle: u16, tick: Tick) -> Option<EntityState> {
        let shown = self.frames.get(place(tick)).filter(|shown| shown.tick == tick)?;
        shown.state(handle).filter(|_| self.since(handle) <= tick)
    }

    /// Keeps the states of the frame of `tick`, by rising handle, unless it was overtaken by so
    /// many that no frame can refer to it.
    pub(super) fn insert(&mut self, tick: Tick, states: &[(u16, EntityState)]) {
        let place = place(tick);
        if self.frames.len() <= place {
            self.frames.resize(place + 1, Shown::default());
        }
        let Some(shown) = self.frames.get_mut(place) else { return };
        if tick < shown.tick {
            return;
        }
        shown.fill(tick, states);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "less than the number of frames")]
const fn place(tick: Tick) -> usize {
    (tick.0 % FRAMES as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn state(number: u8) -> EntityState {
        EntityState { yaw: number, ..EntityState::default() }
    }

    fn ticks(kept: &Kept, handle: u16) -> Vec<u64> {
        kept.states(handle).iter().map(|&(tick, _)| tick.0).collect()
    }

    #[test]
    fn what_frames_may_refer_to_stays_and_the_rest_goes() {
        let mut kept = Kept::default();
        for tick in [12, 10, 15, 20, 70] {
            kept.insert(Tick(tick), &[(3, state(1)), (HANDLES_WITH_BASELINE, state(2))]);
        }
        assert_eq!(ticks(&kept, 3), [10, 12, 15, 20, 70]);
        kept.insert(Tick(74), &[(4, state(1))]);
        kept.insert(Tick(10), &[(4, state(1))]);
        assert_eq!(ticks(&kept, 3), [12, 15, 20, 70], "74 took the place of 10");
        assert_eq!(ticks(&kept, 4), [74]);
        kept.forget(3, Tick(15));
        assert_eq!(ticks(&kept, 3), [15, 20, 70]);
        assert_eq!(kept.find(3, Tick(12)), None);
        assert_eq!(kept.find(3, Tick(15)), Some(state(1)));
        assert_eq!(ticks(&kept, HANDLES_WITH_BASELINE), [0; 0], "has no baseline");
        assert_eq!(kept.since(3), Tick(15));
    }

    proptest! {
        /// As a map from tick and handle would, in which a frame takes the place of the one of a
        /// round before.
        #[test]
        fn every_state_is_found_that_was_kept(
            told in prop::collection::vec(
                (0..3 * FRAMES as u64, prop::collection::btree_map(0_u16..300, any::<u8>(), 0..40)),
                0..90,
            ),
            forgotten in prop::collection::btree_map(0_u16..300, 0..3 * FRAMES as u64, 0..20),
            asked in prop::collection::btree_map(0_u16..300, 0..3 * FRAMES as u64, 0..90),
        ) {
            let (mut kept, mut model) = (Kept::default(), BTreeMap::new());
            for (tick, states) in told {
                let states: Vec<_> = states.into_iter().map(|(of, it)| (of, state(it))).collect();
                kept.insert(Tick(tick), &states);
                let known = model.entry(place(Tick(tick))).or_insert((0, Vec::new()));
                if known.0 <= tick {
                    *known = (tick, states);
                }
            }
            for (&handle, &since) in &forgotten {
                kept.forget(handle, Tick(since));
            }
            for (handle, tick) in asked {
                let shown = model.get(&place(Tick(tick))).filter(|(of, _)| *of == tick);
                let shown = shown.into_iter().flat_map(|(_, states)| states).copied();
                let is_theirs = handle < HANDLES_WITH_BASELINE
                    && forgotten.get(&handle).is_none_or(|&since| since <= tick);
                let known = shown.filter(|_| is_theirs).find(|&(of, _)| of == handle);
                let known = known.map(|(_, state)| state);
                prop_assert_eq!(kept.find(handle, Tick(tick)), known);
                prop_assert!(kept.states(handle).is_sorted_by_key(|&(tick, _)| tick));
            }
        }
    }
}
