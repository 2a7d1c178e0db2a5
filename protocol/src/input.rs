//! What a client steers with: one input per tick.
//!
//! Numbering, repeating and packing inputs into datagrams is not decided here.

use crate::units::Yaw;

/// Jumps; swims up.
pub const JUMP: u8 = 1;
/// Runs instead of walking.
pub const RUN: u8 = 2;
/// Flies up, where the world allows it.
pub const FLY_UP: u8 = 4;
/// Flies or dives down.
pub const FLY_DOWN: u8 = 8;

/// What the driver of a body wants in one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
