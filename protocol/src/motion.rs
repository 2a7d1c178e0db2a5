//! How bodies move: one step of one body, the same to the bit on every machine.
//!
//! [`step`] is called by shard, viewer, bots and simulator. It counts in whole numbers of
//! 1/256 cm, reads no clock and knows of no other body: people pass through each other. Who may
//! drive a body, and whether an input is late, is decided elsewhere.

mod modes;
mod pace;
mod sine;
mod site;
mod travel;

use serde::{Deserialize, Serialize};

pub use self::pace::{
    HALF_WIDTH_CM_MAX, HZ_MAX, HZ_MIN, MotionRules, SLOPE_PERMILLE_MAX, SPEED_CM_S_MAX, SUB,
};
pub use self::site::RADIUS_CM;

use self::modes::Stride;
use self::pace::{Pace, length, shorten};
use self::site::Site;
use self::travel::Journey;
use crate::ground::Ground;
use crate::input::{FLY_DOWN, FLY_UP, Input, JUMP, RUN};
use crate::state::{Animation, EntityState, VELOCITY_STEP_CM_S, flags};
use crate::units::{Position, Yaw};

/// Slower than this a body stands, in 1/256 cm/s.
const STILL: i64 = 12 * SUB;

/// What carries a body, and so how it moves. Numbers are stable; new ones come at the end.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[repr(u8)]
pub enum Mode {
    /// Stands or walks on the ground.
    #[default]
    Ground = 0,
    /// Jumps or falls.
    Air = 1,
    /// Swims.
    Swim = 2,
    /// Flies.
    Fly = 3,
    /// Slides down ground too steep to stand on.
    Slide = 4,
    /// Sits; moving stands up.
    Sit = 5,
    /// Busy with a verb that takes time; moving interrupts it.
    Work = 6,
}

impl Mode {
    /// Every mode by its number.
    pub const ALL: [Self; 7] =
        [Self::Ground, Self::Air, Self::Swim, Self::Fly, Self::Slide, Self::Sit, Self::Work];

    /// Returns the mode of this number, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// A body in motion, exact: what an owner's client predicts and is reconciled with.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
pub struct Body {
    /// Feet in 1/256 cm: east, up from sea level, south.
    pub at: [i64; 3],
    /// Velocity in 1/256 cm per second: east, up, south.
    pub velocity: [i32; 3],
    /// Where it looks.
    pub yaw: Yaw,
    /// What carries it.
    pub mode: Mode,
}

impl Body {
    /// Returns a body at rest.
    #[must_use]
    pub fn standing(at: Position, yaw: Yaw) -> Self {
        let at = [at.x, at.y, at.z].map(|cm| i64::from(cm) * SUB);
        Self { at, yaw, ..Self::default() }
    }

    /// Returns where the feet are, to the centimetre.
    #[must_use]
    pub fn position(&self) -> Position {
        let [x, y, z] = self.at.map(|place| {
            let cm = place.div_euclid(SUB);
            i32::try_from(cm).unwrap_or(if cm < 0 { i32::MIN } else { i32::MAX })
        });
        Position { x, y, z }
    }

    /// Returns whether the ground carries it.
    #[must_use]
    pub const fn is_grounded(&self) -> bool {
        match self.mode {
            Mode::Ground | Mode::Slide | Mode::Sit | Mode::Work => true,
            Mode::Air | Mode::Swim | Mode::Fly => false,
        }
    }

    /// Sits down or begins to work; only a body that stands on the ground can. Returns whether
    /// it did.
    pub fn settle(&mut self, mode: Mode) -> bool {
        let can = matches!(self.mode, Mode::Ground | Mode::Sit | Mode::Work);
        if can {
            self.mode = mode;
            self.velocity = [0; 3];
        }
        can
    }

    /// Stands up or stops working, if it sat or worked.
    pub const fn stand_up(&mut self) {
        if matches!(self.mode, Mode::Sit | Mode::Work) {
            self.mode = Mode::Ground;
        }
    }

    /// Returns what others see.
    #[must_use]
    pub fn state(&self) -> EntityState {
        let bound = i64::from(EntityState::VELOCITY_MAX);
        let steps = self.velocity.map(|speed| {
            let steps = i64::from(speed) / (i64::from(VELOCITY_STEP_CM_S) * SUB);
            i16::try_from(steps.clamp(-bound, bound)).unwrap_or(0)
        });
        EntityState {
            position: self.position(),
            velocity: steps,
            yaw: self.yaw.coarse(),
            animation: self.animation() as u8,
            flags: if self.is_grounded() { flags::GROUNDED } else { 0 },
        }
    }

    /// Returns how the body is shown.
    #[must_use]
    pub fn animation(&self) -> Animation {
        /// Between a walk (180 cm/s) and a run (520 cm/s).
        const RUNNING: i64 = 260 * SUB;
        let speed = length(i64::from(self.velocity[0]), i64::from(self.velocity[2]));
        match self.mode {
            Mode::Ground if speed < STILL => Animation::Stand,
            Mode::Ground if speed < RUNNING => Animation::Walk,
            Mode::Ground => Animation::Run,
            Mode::Air => Animation::Fall,
            Mode::Swim => Animation::Swim,
            Mode::Fly => Animation::Fly,
            Mode::Slide => Animation::Slide,
            Mode::Sit => Animation::Sit,
            Mode::Work => Animation::Work,
        }
    }
}

/// What the driver wants, made of an input.
#[derive(Clone, Copy)]
struct Wish {
    /// Direction over the ground, at most [`sine::UNIT`] long.
    direction: (i64, i64),
    run: bool,
    jump: bool,
    up: bool,
    down: bool,
}

impl Wish {
    fn of(input: Input) -> Self {
        const FULL: i64 = i8::MAX as i64;
        let axis = |value: i8| i64::from(value).max(-FULL);
        // Shortened to the circle: a diagonal is no faster than straight on.
        let (right, forward) = shorten((axis(input.right), axis(input.forward)), FULL);
        let (east, south) = sine::direction(input.yaw);
        let direction = if right == 0 && forward == 0 {
            (0, 0)
        } else {
            // Right of north (0, -1) is east (1, 0).
            ((forward * east - right * south) / FULL, (forward * south + right * east) / FULL)
        };
        let pressed = |button: u8| input.buttons & button != 0;
        Self {
            direction: shorten(direction, sine::UNIT),
            run: pressed(RUN),
            jump: pressed(JUMP),
            up: pressed(FLY_UP),
            down: pressed(FLY_DOWN),
        }
    }

    const fn is_still(&self) -> bool {
        self.direction.0 == 0 && self.direction.1 == 0
    }

    const fn at_speed(&self, speed: i64) -> (i64, i64) {
        (self.direction.0 * speed / sine::UNIT, self.direction.1 * speed / sine::UNIT)
    }
}

/// Returns `body` one tick later.
///
/// Where the ground is unknown the body waits at rest. No input and no rules make it faster
/// than [`SPEED_CM_S_MAX`] along the ground or along the vertical, lead it through a pillar, or
/// carry it up ground steeper than the rules allow.
#[must_use]
pub fn step<G>(body: &Body, input: Input, ground: &G, rules: &MotionRules) -> Body
where
    G: Ground + ?Sized,
{
    let pace = Pace::of(rules);
    let mut body = bounded(body, &pace);
    body.yaw = input.yaw;
    let wish = Wish::of(input);
    let site = Site { ground, pillars: around(&body, ground, &pace), step: pace.step };
    let [x, feet, z] = body.at;
    let Some(floor) = site.floor(x, z, feet) else {
        body.velocity = [0; 3];
        return body;
    };
    let rests = wish.is_still() && !wish.jump && !wish.up && body.velocity == [0; 3];
    if rests && floor == feet && matches!(body.mode, Mode::Ground | Mode::Sit | Mode::Work) {
        return body;
    }
    if pace.may_fly && wish.up {
        body.mode = Mode::Fly;
    }
    let journey = Journey {
        x,
        z,
        feet,
        floor,
        slope: (0, 0),
        velocity: (i64::from(body.velocity[0]), i64::from(body.velocity[2])),
        grounded: false,
        snap: pace.step,
    };
    let mut stride = Stride { mode: body.mode, journey, rise_speed: i64::from(body.velocity[1]) };
    match body.mode {
        Mode::Ground | Mode::Slide | Mode::Sit | Mode::Work => stride.walk(wish, &site, &pace),
        Mode::Air => stride.fall(wish, &site, &pace),
        Mode::Swim => stride.swim(wish, &site, &pace),
        Mode::Fly => stride.fly(wish, &site, &pace),
    }
    let Stride { mode, journey, rise_speed } = stride;
    body.mode = mode;
    body.at = [journey.x, journey.feet.min(pace.ceiling.max(journey.floor)), journey.z];
    let (east, south) = shorten(journey.velocity, Pace::SPEED_MAX);
    body.velocity = [east, rise_speed.clamp(-Pace::SPEED_MAX, Pace::SPEED_MAX), south]
        .map(|speed| i32::try_from(speed).unwrap_or(0));
    body
}

/// Returns the nearest place to `at` where a body stands in nothing solid; `at` itself if there is
/// none within 12 m.
///
/// Looked for ring by ring, each from the north on, so that the same ground gives the same place.
#[must_use]
pub fn free_place<G>(at: Position, ground: &G, rules: &MotionRules) -> Position
where
    G: Ground + ?Sized,
{
    /// A third of a body: nothing is missed that one fits into.
    const RING_CM: i32 = 20;
    const RINGS: i32 = 60;
    /// At 12 m one direction is 1.2 m from the next; nearer, where it matters, less.
    const DIRECTIONS: u16 = 64;
    let pace = Pace::of(rules);
    let on_ring = |ring: i32, turn: u16| {
        let (east, south) = Yaw(turn * (u16::MAX / DIRECTIONS + 1)).direction();
        let along = |unit: i32| unit * ring * RING_CM / 32_767;
        Position { x: at.x.saturating_add(along(east)), z: at.z.saturating_add(along(south)), ..at }
    };
    let is_free = |place: &Position| {
        let pillars = ground.pillars(place.x, place.z, RADIUS_CM);
        let [x, feet, z] = Body::standing(*place, Yaw::NORTH).at;
        !Site { ground, pillars, step: pace.step }.is_blocked(x, z, feet)
    };
    let rings = (1..=RINGS).flat_map(|ring| (0..DIRECTIONS).map(move |turn| (ring, turn)));
    let around = rings.map(|(ring, turn)| on_ring(ring, turn));
    std::iter::once(at).chain(around).find(is_free).unwrap_or(at)
}

/// Returns `body` with every number in range, whatever it was made of.
fn bounded(body: &Body, pace: &Pace) -> Body {
    let [x, y, z] = body.at;
    let [east, up, south] = body.velocity.map(i64::from);
    let (east, south) = shorten((east, south), Pace::SPEED_MAX);
    let velocity = [east, up.clamp(-Pace::SPEED_MAX, Pace::SPEED_MAX), south];
    Body {
        at: [
            x.clamp(-pace.edge, pace.edge),
            y.clamp(-(1 << 40), 1 << 40),
            z.clamp(-pace.edge, pace.edge),
        ],
        velocity: velocity.map(|speed| i32::try_from(speed).unwrap_or(0)),
        ..*body
    }
}

/// Returns the pillars that one step could touch.
fn around<'a, G: Ground + ?Sized>(
    body: &Body,
    ground: &'a G,
    pace: &Pace,
) -> &'a [crate::ground::Pillar] {
    let at = body.position();
    // What one step covers at the present speed and its greatest change, and the body's width.
    let [east, _, south] = body.velocity.map(|speed| i64::from(speed).abs());
    let change = pace.acceleration.max(pace.fly).max(pace.run);
    let travel = (east.max(south) + change) / pace.hz / SUB;
    let reach = i32::try_from(travel).unwrap_or(0) + 2 * RADIUS_CM;
    ground.pillars(at.x, at.z, reach)
}

#[cfg(test)]
mod tests;
