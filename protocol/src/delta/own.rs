//! The receiver's own body in a frame, in full precision, for reconciling its prediction.
//!
//! The layout stands in the table of [`crate::delta`]. Like an entity's entry it is told against
//! what the common baseline predicts, and can be read over when that is lost.

use crate::bits::{BitReader, BitWriter, unzigzag, width, zigzag};
use crate::units::Position;

/// Steps of a coordinate of [`OwnBody::at`] in one centimetre.
pub const AT_STEPS_PER_CM: i64 = 256;

/// Bits of the lengths: widths up to 63.
const LENGTH_BITS: u32 = 6;

/// The receiver's own body as the server moves it: all that prediction starts from.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct OwnBody {
    /// East, up and south in 1/256 cm, each within the range of [`Position`].
    pub at: [i64; 3],
    /// East, up and south in 1/256 cm per second.
    pub velocity: [i32; 3],
    /// How it moves.
    pub mode: u8,
    /// Ticks until it can jump again.
    pub cooldown: u8,
}

impl OwnBody {
    /// Returns the body in whole centimetres: the origin of the frame that carries it.
    #[must_use]
    pub fn origin(&self) -> Position {
        let [x, y, z] = self.at.map(|steps| {
            let cm = steps.div_euclid(AT_STEPS_PER_CM);
            i32::try_from(cm).unwrap_or(if cm < 0 { i32::MIN } else { i32::MAX })
        });
        Position { x, y, z }
    }

    /// Returns this body with `at` brought into the world's range.
    #[must_use]
    pub fn clamped(mut self) -> Self {
        let [min, max] = [i64::from(i32::MIN), i64::from(i32::MAX)].map(|cm| cm * AT_STEPS_PER_CM);
        self.at = self.at.map(|steps| steps.clamp(min, max + AT_STEPS_PER_CM - 1));
        self
    }

    /// Returns where this body is after `ticks` at `hz` if it keeps its velocity, each
    /// coordinate rounded towards zero change.
    fn extrapolate(&self, ticks: u32, hz: u16) -> [i64; 3] {
        let [x, y, z] =
            self.velocity.map(|v| i64::from(v) * i64::from(ticks) / i64::from(hz.max(1)));
        let [ax, ay, az] = self.at;
        [ax.saturating_add(x), ay.saturating_add(y), az.saturating_add(z)]
    }
}

/// The differences between a body and what its baseline predicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OwnDelta {
    at: [i64; 3],
    velocity: [i64; 3],
    mode: u8,
    cooldown: u8,
}

impl OwnDelta {
    /// Returns what `body` differs by from `baseline`, which is `age` ticks old.
    pub(super) fn between(baseline: &OwnBody, age: u32, hz: u16, body: &OwnBody) -> Self {
        let [px, py, pz] = baseline.extrapolate(age, hz);
        let [x, y, z] = body.at;
        let [bx, by, bz] = baseline.velocity.map(i64::from);
        let [vx, vy, vz] = body.velocity.map(i64::from);
        Self {
            at: [x.wrapping_sub(px), y.wrapping_sub(py), z.wrapping_sub(pz)],
            velocity: [vx - bx, vy - by, vz - bz],
            mode: body.mode ^ baseline.mode,
            cooldown: body.cooldown ^ baseline.cooldown,
        }
    }

    /// Returns the body that differs by this from `baseline`, which is `age` ticks old.
    pub(super) fn apply(&self, baseline: &OwnBody, age: u32, hz: u16) -> OwnBody {
        let [px, py, pz] = baseline.extrapolate(age, hz);
        let [x, y, z] = self.at;
        let speed = |old: i32, change: i64| {
            i32::try_from(i64::from(old).saturating_add(change)).unwrap_or(0)
        };
        let [vx, vy, vz] = self.velocity;
        let [bx, by, bz] = baseline.velocity;
        OwnBody {
            at: [px.wrapping_add(x), py.wrapping_add(y), pz.wrapping_add(z)],
            velocity: [speed(bx, vx), speed(by, vy), speed(bz, vz)],
            mode: baseline.mode ^ self.mode,
            cooldown: baseline.cooldown ^ self.cooldown,
        }
        .clamped()
    }

    /// Writes the differences.
    pub(super) fn write(&self, writer: &mut BitWriter<'_>) {
        writer.write_bool(*self != Self::default());
        if *self == Self::default() {
            return;
        }
        write_vector(self.at, writer);
        writer.write_bool(self.velocity != [0; 3]);
        if self.velocity != [0; 3] {
            write_vector(self.velocity, writer);
        }
        writer.write_bool(self.mode | self.cooldown != 0);
        if self.mode | self.cooldown != 0 {
            writer.write(u64::from(self.mode), 8);
            writer.write(u64::from(self.cooldown), 8);
        }
    }

    /// Reads what [`Self::write`] wrote.
    pub(super) fn read(reader: &mut BitReader<'_>) -> Option<Self> {
        let mut delta = Self::default();
        if !reader.read_bool()? {
            return Some(delta);
        }
        delta.at = read_vector(reader)?;
        if reader.read_bool()? {
            delta.velocity = read_vector(reader)?;
        }
        if reader.read_bool()? {
            delta.mode = u8::try_from(reader.read(8)?).ok()?;
            delta.cooldown = u8::try_from(reader.read(8)?).ok()?;
        }
        Some(delta)
    }
}

/// Writes east and south in one shared width, then up in its own.
fn write_vector(vector: [i64; 3], writer: &mut BitWriter<'_>) {
    let [x, y, z] = vector.map(zigzag);
    let bits = width(x | z);
    writer.write(u64::from(bits), LENGTH_BITS);
    writer.write(x, bits);
    writer.write(z, bits);
    writer.write_sized(y, LENGTH_BITS);
}

/// Reads what [`write_vector`] wrote.
fn read_vector(reader: &mut BitReader<'_>) -> Option<[i64; 3]> {
    let bits = u32::try_from(reader.read(LENGTH_BITS)?).ok()?;
    let (x, z) = (reader.read(bits)?, reader.read(bits)?);
    let y = reader.read_sized(LENGTH_BITS)?;
    Some([x, y, z].map(unzigzag))
}
