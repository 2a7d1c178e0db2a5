//! One entity's entry in a frame: what changed against its baseline, as bits.
//!
//! The layout stands in the table of [`crate::delta`]. It never depends on what the baseline
//! holds, so an entry whose baseline is lost is still read over. A full state is the same entry
//! against a resting body at the frame's origin.
//!
//! The widths of the classes were chosen by counting the differences of simulated walkers
//! (`cargo test --release -p protocol --test frames walkers -- --nocapture` prints the cost).

use crate::bits::{BitReader, BitWriter, RICE_ONES, rice, unzigzag, width, zigzag};
use crate::state::{EntityState, VELOCITY_STEP_CM_S};
use crate::units::Position;

/// Sizes that a number, or two numbers sharing one size, can take: class `i` is `i` ones, a zero
/// and the zigzag numbers in `widths[i]` bits each. Behind the last class stand as many ones as
/// there are classes, a width in 6 bits and the numbers in that width.
struct Classes<const N: usize> {
    /// Rising.
    widths: [u32; N],
    /// By bits needed, which class to write: looked up, because a branch would be guessed wrong.
    choices: [Choice; WIDTHS],
}

/// How numbers of one width are written.
#[derive(Clone, Copy)]
struct Choice {
    prefix: u32,
    prefix_bits: u32,
    bits: u32,
}

/// Widths of numbers: 0 to 63.
const WIDTHS: usize = 64;

/// Position east and south: nothing, rounding, a turn, a start or stop.
static GROUND: Classes<4> = Classes::new([0, 2, 4, 7]);
/// Position up.
static UP: Classes<4> = Classes::new([0, 2, 4, 7]);
/// Velocity east and south: full steps while turning, less while speeding up.
static SPEED: Classes<4> = Classes::new([5, 6, 7, 8]);
/// Velocity up: the slope changes a little, or a jump.
static CLIMB: Classes<3> = Classes::new([1, 3, 6]);
/// Heading.
static TURN: Classes<2> = Classes::new([4, 6]);
/// A byte of which mostly the low half is used.
static BYTE: Classes<1> = Classes::new([4]);

/// Bits of the width behind the last class.
const WIDTH_BITS: u32 = 6;

/// Ticks behind the common baseline that are told in ones: 94 of 100 entries.
const BEHIND_ONES: u32 = 5;
/// Bits of the ticks where ones do not reach.
const BEHIND_BITS: u32 = 6;
/// What stands there in an entry told against the origin.
const BEHIND_ORIGIN: u32 = 63;

impl<const N: usize> Classes<N> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::indexing_slicing,
        reason = "a handful of classes, tabled before the program runs"
    )]
    const fn new(widths: [u32; N]) -> Self {
        let none = Choice { prefix: 0, prefix_bits: 0, bits: 0 };
        let mut choices = [none; WIDTHS];
        let mut needed = 0;
        while needed < WIDTHS as u32 {
            let mut class = 0;
            while class < N && widths[class] < needed {
                class += 1;
            }
            let ones = (1 << class) - 1;
            choices[needed as usize] = if class < N {
                Choice { prefix: ones, prefix_bits: class as u32 + 1, bits: widths[class] }
            } else {
                let prefix = ones | needed << N;
                Choice { prefix, prefix_bits: N as u32 + WIDTH_BITS, bits: needed }
            };
            needed += 1;
        }
        Self { widths, choices }
    }

    /// Writes `codes`, each of at most 63 bits, in the smallest class that holds them all.
    #[inline(always)]
    fn write<const M: usize>(&self, packed: &mut Packed, codes: [u64; M]) {
        let needed = width(codes.iter().fold(0, |all, code| all | code));
        let Some(choice) = self.choices.get(needed as usize) else { return };
        packed.write(u64::from(choice.prefix), choice.prefix_bits);
        for code in codes {
            packed.write(code, choice.bits);
        }
    }

    /// Reads what [`Self::write`] wrote.
    #[expect(clippy::cast_possible_truncation, reason = "there are a handful of classes")]
    #[inline]
    fn read<const M: usize>(&self, reader: &mut BitReader<'_>) -> Option<[u64; M]> {
        let word = reader.peek();
        let ones = word.trailing_ones();
        let Some(&bits) = self.widths.get(ones as usize) else {
            reader.skip(N as u32)?;
            let bits = reader.read(WIDTH_BITS)? as u32;
            let mut codes = [0; M];
            for code in &mut codes {
                *code = reader.read(bits)?;
            }
            return Some(codes);
        };
        // Every class fits into one peek: 5 bits of prefix and 2 x 8 bits at most.
        reader.skip(ones + 1 + M as u32 * bits)?;
        let mut rest = word >> (ones + 1);
        Some([0; M].map(|_: u64| {
            let code = rest & ((1 << bits) - 1);
            rest >>= bits;
            code
        }))
    }
}

/// Bits of an entry at most.
pub(super) const ENTRY_BITS_MAX: usize = 231;

/// An entry in bits: at most [`ENTRY_BITS_MAX`] of them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Packed {
    /// Words that are full.
    words: [u64; 3],
    full: usize,
    /// The last bits, `filled` of them, fewer than 64.
    word: u64,
    filled: u32,
}

impl Packed {
    /// Returns how many bits the entry takes.
    #[inline]
    pub(super) const fn bits(&self) -> usize {
        self.full * u64::BITS as usize + self.filled as usize
    }

    /// Appends the entry.
    #[inline]
    pub(super) fn append(&self, writer: &mut BitWriter<'_>) {
        for &word in self.words.iter().take(self.full) {
            writer.write(word, u64::BITS);
        }
        writer.write(self.word, self.filled);
    }

    /// Appends the entry behind `gap` as rice(`k`): all at once, as nearly every entry allows.
    #[inline]
    pub(super) fn append_behind(&self, gap: u64, k: u32, writer: &mut BitWriter<'_>) {
        if self.full == 0 && gap >> k < RICE_ONES {
            let (code, bits) = rice(gap, k);
            if bits + self.filled < u64::BITS {
                return writer.write(code | self.word << bits, bits + self.filled);
            }
        }
        writer.write_rice(gap, k);
        self.append(writer);
    }

    /// Adds `number`, which has at most `bits` bits (63 at most).
    #[inline(always)]
    fn write(&mut self, number: u64, bits: u32) {
        self.word |= number << self.filled;
        self.filled += bits;
        if self.filled >= u64::BITS {
            self.spill(number, bits);
        }
    }

    /// Puts the full word aside; of `number`, added last, the upper bits are left over. Inlined as
    /// all of packing is, so that the last word stays in registers until it is done.
    #[inline(always)]
    fn spill(&mut self, number: u64, bits: u32) {
        if let Some(place) = self.words.get_mut(self.full) {
            *place = self.word;
        }
        self.full += 1;
        self.filled -= u64::BITS;
        self.word = number >> (bits - self.filled);
    }
}

/// Divides by twice a world's ticks per second, which every prediction does three times.
#[derive(Clone, Copy, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct Pace {
    /// 2^40 / (2 x hz), rounded up.
    reciprocal: i64,
}

impl Pace {
    const SHIFT: u32 = 40;

    /// Returns the pace of a world of `hz` ticks per second.
    pub(super) fn new(hz: u16) -> Self {
        Self { reciprocal: (1 << Self::SHIFT) / (2 * i64::from(hz.max(1))) + 1 }
    }

    /// Returns `number` / (2 x hz) rounded towards zero, for a magnitude below 2^20: the
    /// reciprocal is too large by less than 1 / 2^20 of what would raise the quotient.
    const fn divide(self, number: i64) -> i64 {
        (number * self.reciprocal + ((number >> 63) & ((1 << Self::SHIFT) - 1))) >> Self::SHIFT
    }
}

/// What an entry's state is told against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    /// A resting body at the frame's origin.
    Origin,
    /// The state in the frame sent this many ticks before the common baseline.
    Behind(u32),
}

/// The differences between a state and what its baseline predicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EntryDelta {
    position: [i32; 3],
    velocity: [i16; 3],
    yaw: i8,
    animation: u8,
    flags: u8,
}

impl EntryDelta {
    /// Returns what `state` differs by from what `baseline`, `age` ticks old, predicts.
    #[inline]
    pub(super) fn between(
        baseline: &EntityState,
        age: u32,
        pace: Pace,
        state: &EntityState,
    ) -> Self {
        let at = predict(baseline, age, pace, state.velocity);
        let [vx, vy, vz] = state.velocity;
        let [bx, by, bz] = baseline.velocity;
        Self {
            position: [
                state.position.x.wrapping_sub(at.x),
                state.position.y.wrapping_sub(at.y),
                state.position.z.wrapping_sub(at.z),
            ],
            velocity: [vx.wrapping_sub(bx), vy.wrapping_sub(by), vz.wrapping_sub(bz)],
            yaw: state.yaw.wrapping_sub(baseline.yaw).cast_signed(),
            animation: state.animation ^ baseline.animation,
            flags: state.flags ^ baseline.flags,
        }
    }

    /// Returns the state that differs by this from what `baseline`, `age` ticks old, predicts.
    #[inline]
    pub(super) fn apply(&self, baseline: &EntityState, age: u32, pace: Pace) -> EntityState {
        let limit = EntityState::VELOCITY_MAX;
        let change = |old: i16, by: i16| old.wrapping_add(by).clamp(-limit, limit);
        let [vx, vy, vz] = self.velocity;
        let [bx, by, bz] = baseline.velocity;
        let velocity = [change(bx, vx), change(by, vy), change(bz, vz)];
        let at = predict(baseline, age, pace, velocity);
        let [x, y, z] = self.position;
        EntityState {
            position: Position {
                x: at.x.wrapping_add(x),
                y: at.y.wrapping_add(y),
                z: at.z.wrapping_add(z),
            },
            velocity,
            yaw: baseline.yaw.wrapping_add_signed(self.yaw),
            animation: baseline.animation ^ self.animation,
            flags: baseline.flags ^ self.flags,
        }
    }

    /// Returns `reference` and the differences in bits.
    #[inline(always)]
    pub(super) fn pack(&self, reference: Reference) -> Packed {
        let mut packed = Packed::default();
        let behind = match reference {
            Reference::Origin => BEHIND_ORIGIN,
            Reference::Behind(ticks) => ticks,
        };
        if behind < BEHIND_ONES {
            packed.write((1 << behind) - 1, behind + 1);
        } else {
            let ones = (1 << BEHIND_ONES) - 1;
            packed.write(ones | u64::from(behind) << BEHIND_ONES, BEHIND_ONES + BEHIND_BITS);
        }
        let [x, y, z] = self.position.map(|cm| zigzag(i64::from(cm)));
        GROUND.write(&mut packed, [x, z]);
        UP.write(&mut packed, [y]);
        self.pack_rest(&mut packed);
        packed
    }

    /// Writes which of velocity, heading and looks differ, and those.
    #[inline(always)]
    fn pack_rest(&self, packed: &mut Packed) {
        let [vx, vy, vz] = self.velocity.map(|steps| zigzag(i64::from(steps)));
        let has_speed = vx | vz != 0;
        let has_looks = self.animation | self.flags != 0;
        if !has_speed && !has_looks && self.yaw == 0 {
            if vy == 0 {
                packed.write(0b0, 1);
            } else {
                packed.write(0b01, 2);
                CLIMB.write(packed, [vy]);
            }
            return;
        }
        let bits = [has_speed, vy != 0, self.yaw != 0, has_looks].map(u64::from);
        let [speed, climb, turn, looks] = bits;
        packed.write(0b11 | speed << 2 | climb << 3 | turn << 4 | looks << 5, 6);
        if has_speed {
            SPEED.write(packed, [vx, vz]);
        }
        if vy != 0 {
            CLIMB.write(packed, [vy]);
        }
        if self.yaw != 0 {
            TURN.write(packed, [zigzag(i64::from(self.yaw))]);
        }
        if has_looks {
            BYTE.write(packed, [u64::from(self.animation)]);
            BYTE.write(packed, [u64::from(self.flags)]);
        }
    }

    /// Reads what [`Self::pack`] packed.
    pub(super) fn read(reader: &mut BitReader<'_>) -> Option<(Reference, Self)> {
        let mut behind = reader.peek().trailing_ones().min(BEHIND_ONES);
        if behind < BEHIND_ONES {
            reader.skip(behind + 1)?;
        } else {
            reader.skip(BEHIND_ONES)?;
            behind = u32::try_from(reader.read(BEHIND_BITS)?).ok()?;
        }
        let reference = match behind {
            BEHIND_ORIGIN => Reference::Origin,
            ticks => Reference::Behind(ticks),
        };
        let cm = |code| i32::try_from(unzigzag(code)).ok();
        let [x, z] = GROUND.read(reader)?;
        let [y] = UP.read(reader)?;
        let mut delta = Self { position: [cm(x)?, cm(y)?, cm(z)?], ..Self::default() };
        delta.read_rest(reader)?;
        Some((reference, delta))
    }

    /// Reads what [`Self::pack_rest`] packed.
    fn read_rest(&mut self, reader: &mut BitReader<'_>) -> Option<()> {
        let steps = |code| i16::try_from(unzigzag(code)).ok();
        if !reader.read_bool()? {
            return Some(());
        }
        // Without the mask, only the velocity up differs.
        let mask = if reader.read_bool()? { reader.read(4)? } else { 0b0010 };
        if mask & 0b0001 != 0 {
            let [x, z] = SPEED.read(reader)?;
            let [vx, _, vz] = &mut self.velocity;
            (*vx, *vz) = (steps(x)?, steps(z)?);
        }
        if mask & 0b0010 != 0 {
            let [y] = CLIMB.read(reader)?;
            let [_, vy, _] = &mut self.velocity;
            *vy = steps(y)?;
        }
        if mask & 0b0100 != 0 {
            let [turn] = TURN.read(reader)?;
            self.yaw = i8::try_from(unzigzag(turn)).ok()?;
        }
        if mask & 0b1000 != 0 {
            let [animation] = BYTE.read(reader)?;
            let [flags] = BYTE.read(reader)?;
            self.animation = u8::try_from(animation).ok()?;
            self.flags = u8::try_from(flags).ok()?;
        }
        Some(())
    }
}

/// Returns where a body is that left `baseline` `age` ticks ago ([`super::AGE_MAX`] at most) and
/// now has `velocity`: it is taken to have moved at the mean of both.
#[inline]
fn predict(baseline: &EntityState, age: u32, pace: Pace, velocity: [i16; 3]) -> Position {
    let [x, y, z] = baseline.velocity;
    let [nx, ny, nz] = velocity;
    let moved = |old: i16, new: i16| {
        let sum = i64::from(old) + i64::from(new);
        let cm = pace.divide(sum * i64::from(VELOCITY_STEP_CM_S) * i64::from(age));
        i32::try_from(cm).unwrap_or(0)
    };
    Position {
        x: baseline.position.x.wrapping_add(moved(x, nx)),
        y: baseline.position.y.wrapping_add(moved(y, ny)),
        z: baseline.position.z.wrapping_add(moved(z, nz)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::delta::AGE_MAX;

    fn any_state() -> impl Strategy<Value = EntityState> {
        let velocity = prop::array::uniform3(-2_047_i16..=2_047);
        (any::<[i32; 3]>(), velocity, any::<[u8; 3]>()).prop_map(|(at, velocity, looks)| {
            let ([x, y, z], [yaw, animation, flags]) = (at, looks);
            EntityState { position: Position { x, y, z }, velocity, yaw, animation, flags }
        })
    }

    #[test]
    fn an_entry_takes_as_many_bits_as_the_table_says() {
        let walker = EntityState { velocity: [50, 0, 0], ..EntityState::default() };
        let steady = EntityState { position: Position::new(60, 0, 0), ..walker };
        let turned = EntityState { yaw: 3, ..steady };
        check_bits(&walker, &steady, 0, 1 + 1 + 1 + 1);
        check_bits(&walker, &steady, 4, 5 + 1 + 1 + 1);
        check_bits(&walker, &steady, 5, 11 + 1 + 1 + 1);
        check_bits(&walker, &turned, 0, 1 + 1 + 1 + 6 + 5);
        let raised = EntityState { position: Position::new(60, 1, -1), ..steady };
        check_bits(&walker, &raised, 0, 1 + (2 + 4) + (2 + 2) + 1);
    }

    fn check_bits(baseline: &EntityState, state: &EntityState, behind: u32, bits: usize) {
        let delta = EntryDelta::between(baseline, 6, Pace::new(20), state);
        assert_eq!(delta.pack(Reference::Behind(behind)).bits(), bits);
    }

    proptest! {
        #[test]
        fn a_steady_body_is_where_its_state_extrapolates_to(
            state in any_state(), age in 0..=AGE_MAX, hz in 1..=u16::MAX
        ) {
            let at = predict(&state, age, Pace::new(hz), state.velocity);
            prop_assert_eq!(at, state.extrapolate(age, hz));
        }

        #[test]
        fn entries_read_back_as_packed(
            baseline in any_state(), state in any_state(), age in 0..=AGE_MAX, behind in 0..=63_u32
        ) {
            let reference = match behind {
                63 => Reference::Origin,
                ticks => Reference::Behind(ticks),
            };
            let pace = Pace::new(20);
            let packed = EntryDelta::between(&baseline, age, pace, &state).pack(reference);
            let mut bytes = Vec::new();
            let mut writer = BitWriter::new(&mut bytes, 64);
            writer.write_bool(true);
            packed.append(&mut writer);
            writer.finish();
            let mut reader = BitReader::starting_at(&bytes, 1);
            let (read, delta) = EntryDelta::read(&mut reader).expect("just packed");
            prop_assert_eq!(reader.position(), 1 + packed.bits());
            prop_assert_eq!((read, delta.apply(&baseline, age, pace)), (reference, state));
        }
    }
}
