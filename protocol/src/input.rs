//! What a client steers with: one input per tick, and the datagram that carries the newest ones.
//!
//! A datagram repeats the newest inputs, so that the loss of some datagrams in a row costs
//! nothing, and carries what the frames need in return. What an input does to a body and
//! whether it comes too late is not decided here.
//!
//! | field           | layout                                                               |
//! |-----------------|----------------------------------------------------------------------|
//! | kind            | u8, 0x80                                                             |
//! | newest          | u16 little-endian: low bits of the newest input's number             |
//! | announcements   | u16 little-endian: low bits of how many announcements were processed |
//! | buffer          | u8: ticks that the client shows the world late                       |
//! | then bits       | lowest bit of each byte first, see [`crate::bits`]                   |
//! | has acks        | 1 bit                                                                |
//! | lost everything | 1 bit: all baselines are lost                                        |
//! | inputs          | 4 bits: how many, at most 8                                          |
//! | lost            | 4 bits: how many handles, at most 8                                  |
//! | acks            | if there are: 16 bits tick of the newest frame, 32 bits before it    |
//! | newest input    | forward axis, right axis, 16 bits yaw, 8 bits buttons                |
//! | older inputs    | each against the next newer one: 1 bit 0 if the same; otherwise 1,   |
//! |                 | 1 bit + both axes if one differs, 1 bit + sized(5) zigzag difference |
//! |                 | of yaw if it differs, 1 bit + 8 bits buttons if they differ          |
//! | lost handles    | 16 bits each                                                         |
//!
//! An axis is 2 bits: 0 for 0, 1 for 127, 2 for -127, 3 for any other, in 8 more bits (two's
//! complement, -128 reads as -127). Whatever follows is ignored.

use crate::bits::{BitReader, BitWriter, unzigzag, zigzag};
use crate::delta::Acks;
use crate::limits::DATAGRAM_BYTES_MAX;
use crate::units::Yaw;

/// First byte of an input datagram.
pub const INPUT_KIND: u8 = 0x80;

/// Items of either list.
const LIST_MAX: usize = 8;

/// Inputs in one datagram: seven lost datagrams in a row, 0.35 s at 20 Hz, cost no input.
pub const INPUTS_MAX: usize = LIST_MAX;

/// Handles in one datagram whose baselines are lost; more than that ask for everything.
pub const LOST_MAX: usize = LIST_MAX;

/// Jumps; swims up.
pub const JUMP: u8 = 1;
/// Runs instead of walking.
pub const RUN: u8 = 2;
/// Flies up, where the world allows it.
pub const FLY_UP: u8 = 4;
/// Flies or dives down.
pub const FLY_DOWN: u8 = 8;

/// Bits of the two counts.
const COUNT_BITS: u32 = 4;

/// Bits of the width of a difference of yaw: 16 at most.
const YAW_WIDTH_BITS: u32 = 5;

/// What the driver of a body wants in one tick.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct Input {
    /// Forward (127) or back (-127).
    pub forward: i8,
    /// Right (127) or left (-127).
    pub right: i8,
    /// Where the body looks.
    pub yaw: Yaw,
    /// Bits: [`JUMP`], [`RUN`], [`FLY_UP`], [`FLY_DOWN`].
    pub buttons: u8,
}

/// What an input datagram says beside inputs and lost handles.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct InputHead {
    /// Low 16 bits of the newest input's number.
    pub newest: u16,
    /// The frames received, nothing before the first.
    pub acks: Option<Acks>,
    /// Low 16 bits of how many reliable announcements were processed.
    pub announcements: u16,
    /// Ticks that the client shows the world late.
    pub buffer_ticks: u8,
    /// All baselines are lost: everything is to be sent in full.
    pub has_lost_everything: bool,
}

/// An input datagram, read.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct InputDatagram {
    /// All but the lists.
    pub head: InputHead,
    inputs: List<Input>,
    lost: List<u16>,
}

/// Bytes that are no input datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadInput {
    /// Another kind of datagram.
    #[error("datagram of kind {kind:?} carries no inputs (kind 128)")]
    Kind {
        /// The first byte, nothing of an empty datagram.
        kind: Option<u8>,
    },
    /// A list is longer than allowed.
    #[error("input datagram lists {inputs} inputs and {lost} lost handles, at most 8 of each")]
    TooMany {
        /// How many inputs it announces.
        inputs: usize,
        /// How many handles it announces.
        lost: usize,
    },
    /// The bytes end too early or hold an impossible number.
    #[error("input datagram of {bytes} bytes cannot be read to its end")]
    Cut {
        /// Length of the datagram.
        bytes: usize,
    },
}

/// A short list that needs no allocation.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
struct List<T> {
    items: [T; LIST_MAX],
    count: usize,
}

impl<T: Copy> List<T> {
    fn push(&mut self, item: T) {
        if let Some(place) = self.items.get_mut(self.count) {
            *place = item;
            self.count += 1;
        }
    }

    fn as_slice(&self) -> &[T] {
        self.items.get(..self.count).unwrap_or_default()
    }
}

impl InputDatagram {
    /// Returns the inputs, the newest first.
    #[must_use]
    pub fn inputs(&self) -> &[Input] {
        self.inputs.as_slice()
    }

    /// Returns the inputs with the low 16 bits of their numbers, the oldest first.
    pub fn numbered(&self) -> impl Iterator<Item = (u16, Input)> {
        let numbers = (0_u16..).map(|back| self.head.newest.wrapping_sub(back));
        let mut numbered = [(0, Input::default()); INPUTS_MAX];
        numbered.iter_mut().zip(numbers.zip(self.inputs())).for_each(
            |(place, (number, &input))| {
                *place = (number, input);
            },
        );
        numbered.into_iter().take(self.inputs.count).rev()
    }

    /// Returns the handles whose baselines are lost.
    #[must_use]
    pub fn lost(&self) -> &[u16] {
        self.lost.as_slice()
    }

    /// Returns the datagram that `bytes` hold.
    ///
    /// # Errors
    /// When they hold none, which is the sender's fault.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadInput> {
        let kind = bytes.first().copied();
        if kind != Some(INPUT_KIND) {
            return Err(BadInput::Kind { kind });
        }
        let cut = BadInput::Cut { bytes: bytes.len() };
        let mut reader = BitReader::starting_at(bytes, 8);
        let (head, inputs, lost) = read_head(&mut reader).ok_or(cut)?;
        if inputs > INPUTS_MAX || lost > LOST_MAX {
            return Err(BadInput::TooMany { inputs, lost });
        }
        let mut datagram = Self { head, ..Self::default() };
        datagram.read_lists(inputs, lost, &mut reader).ok_or(cut)?;
        Ok(datagram)
    }

    fn read_lists(&mut self, inputs: usize, lost: usize, reader: &mut BitReader<'_>) -> Option<()> {
        let mut newer = None;
        for _ in 0..inputs {
            let input = match newer {
                None => read_input(reader)?,
                Some(newer) => read_older(newer, reader)?,
            };
            self.inputs.push(input);
            newer = Some(input);
        }
        for _ in 0..lost {
            self.lost.push(u16::try_from(reader.read(16)?).ok()?);
        }
        Some(())
    }
}

/// Appends a datagram to `out` and returns how many bytes it took.
///
/// `inputs` stand the newest first; those beyond [`INPUTS_MAX`] are left out. More lost handles
/// than [`LOST_MAX`] are told as everything.
pub fn encode(head: &InputHead, inputs: &[Input], lost: &[u16], out: &mut Vec<u8>) -> usize {
    let start = out.len();
    let inputs = inputs.get(..INPUTS_MAX).unwrap_or(inputs);
    let has_lost_everything = head.has_lost_everything || lost.len() > LOST_MAX;
    let lost = if has_lost_everything { &[] } else { lost };
    out.push(INPUT_KIND);
    out.extend_from_slice(&head.newest.to_le_bytes());
    out.extend_from_slice(&head.announcements.to_le_bytes());
    out.push(head.buffer_ticks);
    let mut writer = BitWriter::new(out, start + DATAGRAM_BYTES_MAX);
    writer.write_bool(head.acks.is_some());
    writer.write_bool(has_lost_everything);
    writer.write(inputs.len() as u64, COUNT_BITS);
    writer.write(lost.len() as u64, COUNT_BITS);
    if let Some(acks) = head.acks {
        writer.write(u64::from(acks.newest), 16);
        writer.write(u64::from(acks.before), 32);
    }
    let newer = std::iter::once(None).chain(inputs.iter().map(Some));
    for (input, newer) in inputs.iter().zip(newer) {
        match newer {
            None => write_input(input, &mut writer),
            Some(newer) => write_older(input, newer, &mut writer),
        }
    }
    lost.iter().for_each(|&handle| writer.write(u64::from(handle), 16));
    writer.finish().len() - start
}

fn read_head(reader: &mut BitReader<'_>) -> Option<(InputHead, usize, usize)> {
    let newest = u16::try_from(reader.read(16)?).ok()?;
    let announcements = u16::try_from(reader.read(16)?).ok()?;
    let buffer_ticks = u8::try_from(reader.read(8)?).ok()?;
    let has_acks = reader.read_bool()?;
    let has_lost_everything = reader.read_bool()?;
    let inputs = usize::try_from(reader.read(COUNT_BITS)?).ok()?;
    let lost = usize::try_from(reader.read(COUNT_BITS)?).ok()?;
    let mut acks = None;
    if has_acks {
        let newest = u16::try_from(reader.read(16)?).ok()?;
        acks = Some(Acks { newest, before: u32::try_from(reader.read(32)?).ok()? });
    }
    let head = InputHead { newest, acks, announcements, buffer_ticks, has_lost_everything };
    Some((head, inputs, lost))
}

fn write_input(input: &Input, writer: &mut BitWriter<'_>) {
    write_axis(input.forward, writer);
    write_axis(input.right, writer);
    writer.write(u64::from(input.yaw.0), 16);
    writer.write(u64::from(input.buttons), 8);
}

fn read_input(reader: &mut BitReader<'_>) -> Option<Input> {
    let forward = read_axis(reader)?;
    let right = read_axis(reader)?;
    let yaw = Yaw(u16::try_from(reader.read(16)?).ok()?);
    Some(Input { forward, right, yaw, buttons: u8::try_from(reader.read(8)?).ok()? })
}

fn write_older(input: &Input, newer: &Input, writer: &mut BitWriter<'_>) {
    writer.write_bool(input != newer);
    if input == newer {
        return;
    }
    let has_axes = (input.forward, input.right) != (newer.forward, newer.right);
    writer.write_bool(has_axes);
    if has_axes {
        write_axis(input.forward, writer);
        write_axis(input.right, writer);
    }
    writer.write_bool(input.yaw != newer.yaw);
    if input.yaw != newer.yaw {
        let turn = input.yaw.0.wrapping_sub(newer.yaw.0).cast_signed();
        writer.write_sized(zigzag(i64::from(turn)), YAW_WIDTH_BITS);
    }
    writer.write_bool(input.buttons != newer.buttons);
    if input.buttons != newer.buttons {
        writer.write(u64::from(input.buttons), 8);
    }
}

fn read_older(newer: Input, reader: &mut BitReader<'_>) -> Option<Input> {
    let mut input = newer;
    if !reader.read_bool()? {
        return Some(input);
    }
    if reader.read_bool()? {
        input.forward = read_axis(reader)?;
        input.right = read_axis(reader)?;
    }
    if reader.read_bool()? {
        let turn = i16::try_from(unzigzag(reader.read_sized(YAW_WIDTH_BITS)?)).ok()?;
        input.yaw = Yaw(newer.yaw.0.wrapping_add_signed(turn));
    }
    if reader.read_bool()? {
        input.buttons = u8::try_from(reader.read(8)?).ok()?;
    }
    Some(input)
}

fn write_axis(axis: i8, writer: &mut BitWriter<'_>) {
    match axis {
        0 => writer.write(0, 2),
        127 => writer.write(1, 2),
        i8::MIN | -127 => writer.write(2, 2),
        other => writer.write(3 | u64::from(other.cast_unsigned()) << 2, 10),
    }
}

fn read_axis(reader: &mut BitReader<'_>) -> Option<i8> {
    Some(match reader.read(2)? {
        0 => 0,
        1 => 127,
        2 => -127,
        _ => u8::try_from(reader.read(8)?).ok()?.cast_signed().max(-127),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn walk(yaw: u16) -> Input {
        Input { forward: 127, right: 0, yaw: Yaw(yaw), buttons: RUN }
    }

    fn encoded(head: &InputHead, inputs: &[Input], lost: &[u16]) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert_eq!(encode(head, inputs, lost, &mut bytes), bytes.len());
        bytes
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn golden_vectors_stay_valid() {
        let acks = Some(Acks { newest: 0x1234, before: 0xFFFF_FFFE });
        let head = InputHead {
            newest: 7,
            acks,
            announcements: 300,
            buffer_ticks: 2,
            ..InputHead::default()
        };
        let inputs = [walk(0x4000), walk(0x4000), walk(0x3FF0), Input::default()];
        check_golden(
            &head,
            &inputs,
            &[5, 300],
            "8007002c010291d048f8ffffff07009080966ff8beff010a00580200",
        );
        check_golden(&InputHead::default(), &[], &[], "8000000000000000");
    }

    fn check_golden(head: &InputHead, inputs: &[Input], lost: &[u16], expected: &str) {
        let bytes = encoded(head, inputs, lost);
        assert_eq!(hex(&bytes), expected);
        let read = InputDatagram::decode(&bytes).unwrap();
        assert_eq!((&read.head, read.inputs(), read.lost()), (head, inputs, lost));
    }

    #[test]
    fn a_steady_walker_costs_one_bit_per_repeated_input() {
        let one = encoded(&InputHead::default(), &[walk(9); 1], &[]).len();
        let eight = encoded(&InputHead::default(), &[walk(9); 8], &[]).len();
        assert!(eight <= one + 1, "{one} and {eight} bytes");
    }

    #[test]
    fn inputs_are_numbered_from_the_oldest() {
        let head = InputHead { newest: 1, ..InputHead::default() };
        let read =
            InputDatagram::decode(&encoded(&head, &[walk(3), walk(2), walk(1)], &[])).unwrap();
        let numbered: Vec<_> = read.numbered().collect();
        assert_eq!(numbered, [(u16::MAX, walk(1)), (0, walk(2)), (1, walk(3))]);
    }

    #[test]
    fn too_much_is_cut_or_refused() {
        let read = InputDatagram::decode(&encoded(&InputHead::default(), &[walk(1); 20], &[3; 9]));
        let read = read.unwrap();
        assert_eq!((read.inputs().len(), read.lost().len()), (INPUTS_MAX, 0));
        assert!(read.head.has_lost_everything);
        let refused = InputDatagram::decode(&[INPUT_KIND, 0, 0, 0, 0, 0, 0b0010_0100, 0]);
        assert_eq!(refused, Err(BadInput::TooMany { inputs: 9, lost: 0 }));
        assert_eq!(InputDatagram::decode(&[1, 2]), Err(BadInput::Kind { kind: Some(1) }));
        assert_eq!(InputDatagram::decode(&[]), Err(BadInput::Kind { kind: None }));
        let cut = Err(BadInput::Cut { bytes: 7 });
        assert_eq!(InputDatagram::decode(&[INPUT_KIND, 0, 0, 0, 0, 0, 1]), cut);
    }

    prop_compose! {
        fn any_input()(
            forward in -127_i8..=127, right in -127_i8..=127, yaw: u16, buttons: u8, steady: bool
        ) -> Input {
            if steady { walk(yaw & 3) } else { Input { forward, right, yaw: Yaw(yaw), buttons } }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            (newest, announcements, buffer_ticks, all) in any::<(u16, u16, u8, bool)>(),
            acks in any::<Option<(u16, u32)>>(),
            inputs in prop::collection::vec(any_input(), 0..=8),
            lost in prop::collection::vec(any::<u16>(), 0..=8),
        ) {
            let acks = acks.map(|(newest, before)| Acks { newest, before });
            let lost = if all { Vec::new() } else { lost };
            let head =
                InputHead { newest, acks, announcements, buffer_ticks, has_lost_everything: all };
            let read = InputDatagram::decode(&encoded(&head, &inputs, &lost)).unwrap();
            prop_assert_eq!(read.head, head);
            prop_assert_eq!(read.inputs(), &inputs[..]);
            prop_assert_eq!(read.lost(), &lost[..]);
        }

        #[test]
        fn no_bytes_cause_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(kind) = bytes.first_mut() {
                *kind = INPUT_KIND;
            }
            if let Ok(read) = InputDatagram::decode(&bytes) {
                let lists = encoded(&read.head, read.inputs(), read.lost());
                let again = InputDatagram::decode(&lists).unwrap();
                prop_assert_eq!(again.inputs(), read.inputs());
            }
        }
    }
}
