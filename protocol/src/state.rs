//! How an entity looks to others at one tick: what the hot datagram carries.
//!
//! Everything here is quantized: two states are equal exactly when every client shows them alike.

use crate::units::{Position, Yaw};

/// Centimetres per second in one step of [`EntityState::velocity`].
pub const VELOCITY_STEP_CM_S: i32 = 4;

/// The visible state of one entity.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct EntityState {
    /// Where it stands, exact to 1 cm.
    pub position: Position,
    /// Velocity east, up and south in steps of [`VELOCITY_STEP_CM_S`], each within +-2,047.
    pub velocity: [i16; 3],
    /// Heading, see [`Yaw::coarse`].
    pub yaw: u8,
    /// What the body does, see [`Animation`].
    pub animation: u8,
    /// Bits of [`flags`].
    pub flags: u8,
}

impl EntityState {
    /// Bound of each velocity component, in steps.
    pub const VELOCITY_MAX: i16 = 2_047;

    /// Returns where this entity is after `ticks` at `hz` if it keeps its velocity.
    ///
    /// Whole numbers only, rounded towards zero, so both ends of a connection agree to the bit.
    #[must_use]
    pub fn extrapolate(&self, ticks: u32, hz: u16) -> Position {
        let [x, y, z] = self.velocity.map(|steps| {
            let cm = i64::from(steps) * i64::from(VELOCITY_STEP_CM_S) * i64::from(ticks)
                / i64::from(hz.max(1));
            i32::try_from(cm).unwrap_or(0)
        });
        Position {
            x: self.position.x.wrapping_add(x),
            y: self.position.y.wrapping_add(y),
            z: self.position.z.wrapping_add(z),
        }
    }

    /// Returns the heading as a full-range yaw.
    #[must_use]
    pub const fn heading(&self) -> Yaw {
        Yaw::from_coarse(self.yaw)
    }
}

/// What a body does, in the `animation` byte. Numbers above the known ones show as standing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Animation {
    /// Standing still.
    #[default]
    Stand = 0,
    /// Walking.
    Walk = 1,
    /// Running.
    Run = 2,
    /// In the air after a jump or over an edge.
    Fall = 3,
    /// Flying, where the world allows it.
    Fly = 4,
    /// Sliding on ground too steep to stand on.
    Slide = 5,
    /// Swimming.
    Swim = 6,
    /// Busy with a verb that takes time.
    Work = 7,
    /// Sitting.
    Sit = 8,
}

/// Bits of [`EntityState::flags`].
pub mod flags {
    /// Stands on the ground.
    pub const GROUNDED: u8 = 1;
    /// The person behind it is away: the client is silent or resuming.
    pub const AWAY: u8 = 2;
    /// A door, chest or lamp that is open or lit.
    pub const OPEN: u8 = 4;
    /// Used up for now: a tree without wood, a well without water.
    pub const SPENT: u8 = 8;
}
