//! The frame: what one client is shown at one tick, as one datagram of packed differences.
//!
//! [`FrameEncoder`] (one per viewer, on the server) writes frames, [`FrameDecoder`] (on the
//! client) reads them, [`Acks`] come back in the input datagram. What an entity is, which ones
//! are sent and what a handle stands for is not known here.
//!
//! # Layout
//!
//! Bits fill bytes from the lowest on, numbers lowest bit first; zigzag, sized and rice stand in
//! [`crate::bits`].
//!
//! | field        | layout                                                                  |
//! |--------------|-------------------------------------------------------------------------|
//! | kind         | u8, 0x01                                                                |
//! | tick         | u16 little-endian: low bits of the tick that the frame shows            |
//! | acked input  | u16 little-endian: low bits of the newest input that was applied        |
//! | then bits    |                                                                         |
//! | dilated      | 1 bit: world time runs slower; by how much is said reliably             |
//! | reserved     | 1 bit, written 0, ignored                                               |
//! | age          | 6 bits: the common baseline is the frame of so many ticks before;       |
//! |              | 0: there is none                                                        |
//! | own body     | see below                                                               |
//! | count        | 8 bits: entries                                                         |
//! | k            | 4 bits, unless count is 0                                               |
//! | entries      | by rising handle: rice(k) of handle - previous handle - 1 (the first    |
//! |              | has -1 before it), then the entry                                       |
//!
//! What follows the entries is ignored. An own body, told against the one in the common baseline
//! (without one: against zeros), which is expected to have moved on by velocity x age / hz per
//! coordinate, rounded towards zero:
//!
//! | field        | layout                                                                  |
//! |--------------|-------------------------------------------------------------------------|
//! | differs      | 1 bit; the rest stands only behind a 1                                  |
//! | at           | vector: true - expected, 1/256 cm                                       |
//! | velocity     | 1 bit, behind a 1 a vector: true - old, 1/256 cm/s                      |
//! | looks        | 1 bit, behind a 1: mode 8 bits and cooldown 8 bits, each xor the old    |
//! | vector       | 6 bits n, x in n bits, z in n bits, y as sized(6), all zigzag           |
//!
//! Its position in whole centimetres, rounded down, is the frame's origin. An entry:
//!
//! | field        | layout                                                                  |
//! |--------------|-------------------------------------------------------------------------|
//! | baseline     | 0-4 ones and a zero: the state in the frame so many ticks before the    |
//! |              | common baseline. Five ones and 6 bits: 5-62 likewise; 63: no baseline,  |
//! |              | told against a body at the origin whose other fields are 0, age 0       |
//! | x and z      | classes 0, 2, 4, 7: true - expected, cm                                 |
//! | y            | classes 0, 2, 4, 7: likewise                                            |
//! | changes      | 0: none. 01 (the 0 is the higher bit): only velocity y. 11 and 4 bits   |
//! |              | otherwise: velocity x or z, velocity y, yaw, animation or flags         |
//! | velocity x, z| if changed, classes 5, 6, 7, 8: true - old                              |
//! | velocity y   | if changed, classes 1, 3, 6: likewise                                   |
//! | yaw          | if changed, classes 4, 6: true - old, as a signed byte                  |
//! | animation    | if either changed, classes 4: true xor old, no zigzag                   |
//! | flags        | likewise                                                                |
//!
//! *Expected* is the old position + (old velocity + true velocity) x 4 x age / (2 x hz) per
//! coordinate, rounded towards zero, age being that of this entry's baseline, 63 ticks at most.
//! *Classes* a, b, c stand for i ones and a zero, then the zigzag number, or both numbers, in
//! the i-th of these widths; or as many ones as there are classes, 6 bits n and n bits each. The
//! smallest class that holds the number, or both, is written.
//!
//! # Baselines
//!
//! The client acknowledges a frame once it understood all of it. The server uses as baseline of
//! a handle its newest state in an acknowledged frame. A handle that changes its bearer is
//! forgotten on both sides: the server sends it in full, and the client is told (reliably) the
//! first tick of the new bearer and drops what earlier frames say. A client that lost a baseline
//! reads over the entry and reports the handle, or everything, in its input datagram.
//!
//! # Measured
//!
//! 64 walkers on hills (1.4-4 m/s, turning, stopping, due every 1-5 ticks, acknowledged 2-6
//! ticks late, 5 % loss): 2.60 bytes per entry with its handle, 2.82 if the velocity up is always
//! 0 (`cargo test --release -p protocol --test frames walkers -- --nocapture`). On one core of a
//! busy 2-core virtual machine a frame of 24 entries takes 1.3 us to write, acknowledging and
//! logging included, and 1.6 us to read (`cargo bench -p protocol --bench codec`). An encoder of
//! 64 handles holds 4.6 KB; with room for twice the states under way it would hold 6.7 KB.
use crate::limits::DATAGRAM_BYTES_MAX;

mod decode;
mod encode;
mod entry;
mod kept;
mod own;
mod sent;

pub use decode::{BadFrame, Frame, FrameDecoder};
pub use encode::{FrameEncoder, FrameHead, FrameScratch, FrameWriter};
pub use own::{AT_STEPS_PER_CM, OwnBody};

/// First byte of a frame.
pub const FRAME_KIND: u8 = 0x01;

/// Bytes of a frame.
pub const FRAME_BYTES_MAX: usize = DATAGRAM_BYTES_MAX;

/// Entries of a frame: what its 8 bit count can say.
pub const ENTRIES_MAX: usize = 255;

/// Handles below this have baselines. Handles are given out smallest first, so a viewer of 64
/// entities stays far below; higher ones are legal and always sent in full.
pub const HANDLES_WITH_BASELINE: u16 = 255;

/// Ticks a baseline can be old: what 6 bits can say.
pub const AGE_MAX: u32 = 63;

/// Bytes of the head in front of the bits: kind, tick, acknowledged input.
const HEAD_BYTES: usize = 5;

/// Bits of the common baseline's age.
const AGE_BITS: u32 = 6;

/// Bits of the number of entries.
const COUNT_BITS: u32 = 8;

/// Bits of the parameter of the handles' rice code.
const RICE_BITS: u32 = 4;

/// The frames a client has received in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Acks {
    /// Low 16 bits of the newest one's tick.
    pub newest: u16,
    /// Bit `i` is set when the frame of `i + 1` ticks before was received too.
    pub before: u32,
}
